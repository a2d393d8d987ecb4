"""A release that its keys take back: what is signed, what the server takes in, and what devices make of it."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.trust.conftest import COMPONENT, ROLE, House
from tuf.api.metadata import Metadata, Targets

from tidegate.core.errors import BadInput, NotFound, Refused, TidegateError, Untrusted
from tidegate.core.wire import encode
from tidegate.trust import layout
from tidegate.trust.keys import load_signers
from tidegate.trust.metadata import latest_bytes, moment, parse, sign
from tidegate.trust.release import accept_release, countersign, sign_release
from tidegate.trust.withdrawal import accept_withdrawal, gone_of, read_withdrawal, sign_withdrawal


def withdrawn(house: House, *seqs: int, keys: int = 2, reason: str = "it reboots") -> bytes:
    signers = load_signers(house.offline, "release")[:keys]
    return sign_withdrawal(latest_bytes(house.repo, ROLE), COMPONENT, seqs, reason, signers, house.now)


def in_force(house: House, signed: bytes) -> None:
    accept_withdrawal(house.repo, signed, house.now)
    house.publisher.refresh(house.now + 3000)


def test_no_device_takes_what_was_withdrawn_and_each_says_why(rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    assert rolling.believed(device) == 1
    in_force(rolling, withdrawn(rolling, 1))
    device.refresh()
    with pytest.raises(Untrusted, match=r"the release keys have withdrawn: it reboots"):
        rolling.believed(device)
    fresh, _ = rolling.device("another")
    fresh.refresh()
    with pytest.raises(Untrusted, match="have withdrawn"):
        rolling.believed(fresh)


def test_two_holders_sign_on_machines_of_their_own_and_the_server_takes_it_twice(rolling: House) -> None:
    first, second, _ = load_signers(rolling.offline, "release")
    half = sign_withdrawal(latest_bytes(rolling.repo, ROLE), COMPONENT, [1], "bad", [first], rolling.now)
    with pytest.raises(Untrusted, match="1 valid signatures"):
        accept_withdrawal(rolling.repo, half, rolling.now)
    whole = countersign(half, [second])
    assert [each.seq for each in accept_withdrawal(rolling.repo, whole, rolling.now)] == [1]
    assert [each.reason for each in accept_withdrawal(rolling.repo, whole, rolling.now)] == ["bad"]
    assert [each.digest for each in read_withdrawal(whole, COMPONENT).withdrawn]


def test_its_number_is_not_given_again_and_the_next_release_keeps_the_record(rolling: House) -> None:
    rolling.release(2)
    in_force(rolling, withdrawn(rolling, 1, 2))
    for seq in (1, 2):
        with pytest.raises(Refused, match="not higher than 2"):
            rolling.release(seq)
    accepted = rolling.release(3)
    assert accepted.manifest.seq == 3
    gone = gone_of(parse(Targets, latest_bytes(rolling.repo, ROLE), "list").signed)
    assert sorted(each.seq for each in gone.withdrawn.values()) == [1, 2] and gone.highest == {COMPONENT: 2}
    in_force(rolling, withdrawn(rolling, 3, reason="worse"))
    assert [each.seq for each in read_withdrawal(latest_bytes(rolling.repo, ROLE)).withdrawn] == [3]


def test_an_urgent_release_is_withdrawn_by_all_holders(house: House) -> None:
    signers, standing = load_signers(house.offline, "release"), latest_bytes(house.repo, layout.EMERGENCY)
    manifest = house.manifest(1)
    signed = sign_release(standing, manifest, house.terms(1), signers, house.now, emergency=True)
    accept_release(house.repo, COMPONENT, signed, encode(manifest), house.now, emergency=True)
    newest = latest_bytes(house.repo, layout.EMERGENCY)
    with pytest.raises(Untrusted, match="2 valid signatures"):
        accept_withdrawal(house.repo, sign_withdrawal(newest, COMPONENT, [1], "", signers[:2], house.now), house.now)
    accept_withdrawal(house.repo, sign_withdrawal(newest, COMPONENT, [1], "", signers, house.now), house.now)


def _change(found: Targets, **changes: Any) -> None:
    ours = found.unrecognized_fields["tidegate"]
    found.unrecognized_fields["tidegate"] = {**ours, **changes}


def _first(found: Targets) -> dict[str, Any]:
    return dict(next(iter(found.unrecognized_fields["tidegate"]["withdrawn"].values())))


WRONG: dict[str, Callable[[Targets], object]] = {
    "another release goes as well": lambda found: found.targets.pop(layout.release_path(COMPONENT, 2)),
    "another digest": lambda found: _change(
        found, withdrawn={layout.release_path(COMPONENT, 1): {**_first(found), "digest": "ab" * 32}}
    ),
    "a release comes back": lambda found: found.targets.update(
        {layout.release_path(COMPONENT, 1): found.targets[layout.release_path(COMPONENT, 2)]}
    ),
    "the highest number falls": lambda found: _change(found, highest={COMPONENT: 0}),
    "the highest number jumps": lambda found: _change(found, highest={COMPONENT: 99}),
    "no number": lambda found: _change(found, highest={}),
    "nothing withdrawn": lambda found: _change(found, withdrawn={}),
    "version": lambda found: setattr(found, "version", found.version + 1),
    "for ever": lambda found: setattr(found, "expires", moment(4_000_000_000)),
    "rubbish": lambda found: found.unrecognized_fields.update({"tidegate": {"withdrawn": 3}}),
    "what never was": lambda found: _change(
        found, withdrawn={layout.release_path(COMPONENT, 7): {**_first(found), "seq": 7}}
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_withdrawal_that_does_more_is_refused_even_with_all_signatures(rolling: House, kind: str) -> None:
    rolling.release(2)
    metadata: Metadata[Targets] = parse(Targets, withdrawn(rolling, 1), "list")
    WRONG[kind](metadata.signed)
    metadata.signatures.clear()
    before = latest_bytes(rolling.repo, ROLE)
    with pytest.raises(TidegateError):
        accept_withdrawal(rolling.repo, sign(metadata, load_signers(rolling.offline, "release")), rolling.now)
    assert latest_bytes(rolling.repo, ROLE) == before


def test_a_release_may_not_smuggle_a_withdrawal_in_nor_forget_one(rolling: House) -> None:
    manifest = rolling.manifest(2)
    smuggled: Metadata[Targets] = parse(Targets, rolling.sign(manifest), "list")
    smuggled.signed.unrecognized_fields["tidegate"] = {"withdrawn": {}, "highest": {COMPONENT: 7}}
    smuggled.signatures.clear()
    data = sign(smuggled, load_signers(rolling.offline, "release"))
    with pytest.raises(Untrusted, match="changes what was withdrawn"):
        accept_release(rolling.repo, COMPONENT, data, encode(manifest), rolling.now)


def test_what_cannot_be_withdrawn_is_not_signed(rolling: House) -> None:
    with pytest.raises(NotFound, match="holds no release 9"):
        withdrawn(rolling, 9)
    with pytest.raises(BadInput, match="500 characters"):
        withdrawn(rolling, 1, reason="x" * 501)
    for data in (b"{}", latest_bytes(rolling.repo, ROLE), latest_bytes(rolling.repo, "root")):
        with pytest.raises(BadInput):
            read_withdrawal(data)
