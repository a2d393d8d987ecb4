"""Ceremonies: what holders sign on machines of their own is taken in whole or not at all, and old devices follow."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import Metadata, Targets

from tidegate.core.errors import BadInput, NotFound, Refused, TidegateError, Untrusted
from tidegate.core.wire import encode
from tidegate.trust import ceremony_accept
from tidegate.trust.ceremony import ONLINE, Bundle, begin_change, merge_bundles, metadata_of, read_bundle, sign_bundle
from tidegate.trust.ceremony_accept import accept_bundle
from tidegate.trust.ceremony_words import describe, lacking
from tidegate.trust.expiry import role_dates, trust_view
from tidegate.trust.keys import (
    create_key,
    import_key,
    key_path,
    load_signer,
    load_signers,
    online_ids,
    public_file,
    read_public,
)
from tidegate.trust.metadata import latest_versions, root_by_digest, root_digest
from tidegate.trust.publisher import Publisher
from tidegate.trust.repository import init_repository

from .conftest import COMPONENT, NOW

if TYPE_CHECKING:
    from .conftest import House, Thief

DAY_S = 86_400


def holder(house: House, name: str, *, folder: str = "offline") -> CryptoSigner:
    return load_signer(key_path(house.directory / folder, name))


def keyid(house: House, name: str) -> str:
    return holder(house, name).public_key.keyid


def new_key(house: House, name: str) -> Key:
    return create_key(house.directory / "elsewhere", name)


def carried(bundle: Bundle) -> Bundle:
    """What comes out of the file on the next machine."""
    return read_bundle(bundle.text())


def signed_by(bundle: Bundle, *signers: CryptoSigner) -> Bundle:
    for signer in signers:
        bundle, _ = sign_bundle(carried(bundle), [signer])
    return carried(bundle)


def files(repo: Path) -> dict[str, bytes]:
    return {str(p.relative_to(repo)): p.read_bytes() for p in sorted(repo.rglob("*")) if p.is_file()}


def swap_root_key(house: House, old: str, new: str, signers: list[str]) -> None:
    bundle = begin_change(
        house.repo, house.now, "swap", add={"root": [new_key(house, new)]}, remove={"root": [keyid(house, old)]}
    )
    found = [holder(house, s) if (house.offline / f"{s}.pem").exists() else holder(house, s, folder="elsewhere")
             for s in signers]  # fmt: skip
    accept_bundle(house.repo, signed_by(bundle, *found), house.now)


def test_root_is_rotated_twice_and_a_device_that_slept_through_both_follows(rolling: House) -> None:
    device, _ = rolling.device("sleeper")
    device.refresh()
    swap_root_key(rolling, "root-1", "root-4", ["root-2", "root-3"])
    rolling.now += 60
    swap_root_key(rolling, "root-2", "root-5", ["root-3", "root-4"])
    assert latest_versions(rolling.repo)["root"] == 3
    rolling.publisher.refresh(rolling.now + 3600)
    for name in ("sleeper", "one enrolled with the first root"):
        client, _ = rolling.device(name)
        client.refresh()
        assert rolling.believed(client) == 1
    assert root_by_digest(rolling.repo, root_digest(rolling.root)) == rolling.root


def test_a_root_needs_the_old_holders_and_the_new_ones(rolling: House) -> None:
    fresh = [new_key(rolling, f"root-{n}") for n in (4, 5, 6)]
    old = [keyid(rolling, f"root-{n}") for n in (1, 2, 3)]
    bundle = begin_change(rolling.repo, rolling.now, "all new", add={"root": fresh}, remove={"root": old})
    before = files(rolling.repo)
    mine = [holder(rolling, f"root-{n}") for n in (1, 2)]
    theirs = [holder(rolling, f"root-{n}", folder="elsewhere") for n in (4, 5)]
    for some, words in (
        (mine, "under its own root keys"),
        (theirs, "under the root keys so far"),
        (mine[:1], "1 valid"),
    ):
        with pytest.raises(Untrusted, match=words):
            accept_bundle(rolling.repo, signed_by(bundle, *some), rolling.now)
        assert files(rolling.repo) == before
    whole = signed_by(bundle, *mine, *theirs)
    assert accept_bundle(rolling.repo, whole, rolling.now) == ["root"]
    assert accept_bundle(rolling.repo, whole, rolling.now) == []


def test_copies_that_holders_signed_each_alone_are_put_together(rolling: House) -> None:
    bundle = begin_change(rolling.repo, rolling.now, "longer", renew=["root", "targets"])
    copies = [signed_by(bundle, holder(rolling, f"{role}-{n}")) for role in ("root", "targets") for n in (1, 3)]
    with pytest.raises(Untrusted):
        accept_bundle(rolling.repo, copies[0], rolling.now)
    assert accept_bundle(rolling.repo, merge_bundles(copies), rolling.now) == ["root", "targets"]
    other = begin_change(rolling.repo, rolling.now, "again", renew=["root", "targets"])
    with pytest.raises(BadInput, match="different things"):
        merge_bundles([copies[0], other])


def test_a_release_holder_is_replaced_and_the_lists_are_signed_anew(rolling: House) -> None:
    roles = ("emergency", rolling.role)
    gone, fresh = keyid(rolling, "release-3"), new_key(rolling, "release-4")
    bundle = begin_change(
        rolling.repo, rolling.now, "ada leaves", add={r: [fresh] for r in roles}, remove={r: [gone] for r in roles}
    )
    assert set(bundle.following) == {"targets", *roles}
    holders = [holder(rolling, n) for n in ("targets-1", "targets-2", "release-1", "release-2")]
    most = signed_by(bundle, *holders)
    with pytest.raises(Untrusted, match=r"role emergency has 2 valid signatures .* 3 are needed"):
        accept_bundle(rolling.repo, most, rolling.now)
    whole = signed_by(most, holder(rolling, "release-4", folder="elsewhere"))
    assert accept_bundle(rolling.repo, whole, rolling.now) == sorted(["targets", *roles])
    rolling.publisher.refresh(rolling.now + 3600)
    device, _ = rolling.device()
    device.refresh()
    assert rolling.believed(device) == 1
    with pytest.raises(Refused, match="has no say in this bundle"):
        sign_bundle(begin_change(rolling.repo, rolling.now, "x", renew=[rolling.role]), [holder(rolling, "release-3")])


def test_a_stolen_online_key_is_rotated_away_and_its_thief_is_nobody(rolling: House, thief: Thief) -> None:
    device, _ = rolling.device()
    device.refresh()
    candidate = rolling.planned()
    dates = {date.role: date.keyids for date in role_dates(rolling.repo, rolling.now)}
    fresh = {role: [create_key(rolling.online, f"{role}.next")] for role in ONLINE}
    bundle = begin_change(
        rolling.repo, rolling.now, "break-in", add=fresh, remove={role: dates[role] for role in ONLINE}
    )
    assert set(bundle.following) == {"root", "targets"}
    whole = signed_by(bundle, *(holder(rolling, n) for n in ("root-1", "root-2", "targets-1", "targets-3")))
    held = online_ids(rolling.online)
    before = files(rolling.repo)
    with pytest.raises(Refused, match="does not hold the new plans key"):
        accept_bundle(rolling.repo, whole, rolling.now, online=held - {fresh["plans"][0].keyid})
    assert files(rolling.repo) == before
    accept_bundle(rolling.repo, whole, rolling.now, online=held)
    rolling.publish(rolling.plan(candidate))  # the publisher that runs takes the new keys up by itself
    assert not list(rolling.online.glob("*.next.pem"))
    for name in ("device", "fresh"):
        client, _ = rolling.device(name)
        client.refresh()
        assert rolling.believed(client) == 1
    thief.publish({"plans/edr-rules.json": encode(rolling.plan(candidate, ring=99))})
    with pytest.raises(Untrusted, match="was signed by 0/1 keys"):
        rolling.device("device")[0].refresh()
    with pytest.raises(Untrusted, match="is not the one that the repository names"):
        Publisher(rolling.repo, copy_of(rolling.online, thief))


def copy_of(online: Path, thief: Thief) -> Path:
    """The thief's copy of the server's keys."""
    place = online.parent / "thief"
    for role in ONLINE:
        create_key(place, role)
    return place


def test_a_power_cut_between_the_files_of_a_rotation_leaves_what_can_be_handed_in_again(
    rolling: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = begin_change(rolling.repo, rolling.now, "longer", renew=["root", "targets", rolling.role])
    names = ("root-1", "root-2", "targets-1", "targets-2", "release-1", "release-2")
    whole = signed_by(bundle, *(holder(rolling, n) for n in names))
    write = ceremony_accept.write_durably
    for _ in range(2):
        left = [1]

        def power_cut(path: Path, data: bytes, mode: int = 0o644, left: list[int] = left) -> None:
            if not left[0]:
                raise OSError("the power is gone")
            left[0] -= 1
            write(path, data, mode)

        monkeypatch.setattr(ceremony_accept, "write_durably", power_cut)
        with pytest.raises(OSError, match="power"):
            accept_bundle(rolling.repo, whole, rolling.now)
        monkeypatch.setattr(ceremony_accept, "write_durably", write)
        Publisher(rolling.repo, rolling.online).publish({}, rolling.now)
    assert "root" in accept_bundle(rolling.repo, whole, rolling.now)


def _adds_a_file(text: str) -> str:
    found = Metadata[Targets].from_bytes(text.encode())
    found.signed.targets["releases/edr-rules/9.json"] = next(iter(found.signed.targets.values()))
    return found.to_bytes().decode()


def _lasts_for_ever(text: str) -> str:
    found = Metadata[Targets].from_bytes(text.encode())
    found.signed.expires = found.signed.expires.replace(year=2200)
    return found.to_bytes().decode()


def _skips_a_version(text: str) -> str:
    found = Metadata[Targets].from_bytes(text.encode())
    found.signed.version += 1
    return found.to_bytes().decode()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_adds_a_file, "changes its files"),
        (_lasts_for_ever, "must expire within 30 days"),
        (_skips_a_version, "is version 4, 3 is next"),
    ],
)
def test_what_no_ceremony_may_do_is_refused_even_with_all_signatures(
    rolling: House, change: Callable[[str], str], words: str
) -> None:
    bundle = begin_change(rolling.repo, rolling.now, "renew", renew=[rolling.role])
    odd = replace(bundle, following={rolling.role: change(bundle.following[rolling.role])})
    before = files(rolling.repo)
    with pytest.raises(Untrusted, match=words):
        accept_bundle(rolling.repo, signed_by(odd, *load_signers(rolling.offline, "release")), rolling.now)
    assert files(rolling.repo) == before


def test_a_holder_sees_what_is_changed_and_not_what_the_title_says(rolling: House) -> None:
    fresh, gone = new_key(rolling, "mallory"), keyid(rolling, "root-1")
    bundle = begin_change(rolling.repo, rolling.now, "spring cleaning", add={"root": [fresh]}, remove={"root": [gone]})
    said = "\n".join(describe(bundle))
    assert f"root gets key {fresh.keyid[:16]}" in said and f"root loses key {gone[:16]}" in said


def test_a_bundle_says_whose_signatures_it_still_needs(rolling: House) -> None:
    fresh, gone = new_key(rolling, "ada"), keyid(rolling, "root-1")
    bundle = begin_change(rolling.repo, rolling.now, "x", add={"root": [fresh]}, remove={"root": [gone]})
    before = sorted(keyid(rolling, f"root-{number}")[:16] for number in (1, 2, 3))
    after = sorted([fresh.keyid[:16], *(keyid(rolling, f"root-{number}")[:16] for number in (2, 3))])
    assert lacking(bundle) == [
        f"root has 0 of 2 signatures of the root keys so far; 2 more of {' '.join(before)}",
        f"root has 0 of 2 signatures of the root keys to come; 2 more of {' '.join(after)}",
    ]
    bundle, _ = sign_bundle(bundle, [holder(rolling, "root-1"), holder(rolling, "root-2")])
    assert len(lacking(bundle)) == 1
    assert "root has 1 of 2 signatures of the root keys to come; 1 more of" in lacking(bundle)[0]
    assert "  has 2 of 2 signatures of the root keys so far" in describe(bundle)
    whole, _ = sign_bundle(bundle, [holder(rolling, "root-3")])
    assert lacking(whole) == []
    damaged = metadata_of("root", whole.following["root"])
    damaged.signatures[keyid(rolling, "root-2")].signature = damaged.signatures[keyid(rolling, "root-3")].signature
    odd = replace(whole, following={"root": damaged.to_bytes().decode()})
    assert len(lacking(odd)) == 1, "a signature that is none does not count"


def test_a_bundle_of_a_role_that_is_nobodys_is_refused(rolling: House) -> None:
    bundle = begin_change(rolling.repo, rolling.now, "x", renew=["targets"])
    texts = ({**each, "dreamt": each["targets"]} for each in (bundle.standing, bundle.following))
    with pytest.raises(BadInput, match="nobody's charge"):
        describe(replace(bundle, standing=next(texts), following=next(texts)))


def test_a_bundle_whose_standing_root_is_made_up_is_not_signed(rolling: House, tmp_path: Path) -> None:
    bundle = begin_change(rolling.repo, rolling.now, "x", add={"root": [new_key(rolling, "mallory")]})
    forged = replace(bundle, standing={**bundle.standing, "root": bundle.following["root"]})
    with pytest.raises(Untrusted, match="the standing root"):
        sign_bundle(forged, [holder(rolling, "root-1")])
    other = rolling.directory / "other"
    init_repository(other / "repo", other / "offline", other / "online", [COMPONENT], NOW)
    strange = begin_change(other / "repo", NOW, "x", renew=["root"])
    with pytest.raises(Untrusted, match="under the keys of the root that you keep"):
        sign_bundle(strange, [holder(rolling, "root-1")], rolling.root)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({}, Refused, "nothing would change"),
        ({"renew": ["dreamt"]}, NotFound, "no role 'dreamt'"),
        ({"renew": ["root", "timestamp"]}, Refused, "timestamp is signed anew by the server itself"),
        ({"remove": {"root": ["00" * 32]}}, NotFound, "root has no key"),
        ({"thresholds": {"root": 4}}, Refused, "would have 3 keys of which 4 must sign"),
        ({"thresholds": {"targets": -1}}, Refused, "of which -1 must sign"),
    ],
)
def test_a_change_that_cannot_be_is_not_drawn_up(
    rolling: House, change: dict[str, object], kind: type[TidegateError], words: str
) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        begin_change(rolling.repo, rolling.now, "x", **change)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"title":"x","standing":{},"following":{"root":"x"}}'])
def test_what_is_no_bundle(data: bytes) -> None:
    with pytest.raises(BadInput):
        read_bundle(data)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"signed":{},"signatures":[]}'])
def test_a_bundle_of_rubbish_is_refused_by_whoever_opens_it(rolling: House, text: str) -> None:
    bundle = begin_change(rolling.repo, rolling.now, "x", renew=["root", "targets"])
    before = files(rolling.repo)
    for role in ("root", "targets"):
        odd = replace(bundle, following={**bundle.following, role: text})
        for open_it in (
            lambda odd=odd: describe(odd),
            lambda odd=odd: sign_bundle(odd, [holder(rolling, "root-1")]),
            lambda odd=odd: merge_bundles([odd, bundle]),
            lambda odd=odd, role=role: accept_bundle(rolling.repo, replace(odd, following={role: text}), rolling.now),
        ):
            with pytest.raises(BadInput):
                open_it()
    assert files(rolling.repo) == before


def test_public_halves_and_keys_from_elsewhere(tmp_path: Path) -> None:
    made = create_key(tmp_path / "a", "ada", b"first")
    assert read_public(public_file("ada", made)) == ("ada", made)
    with pytest.raises(BadInput, match="does not hold together"):
        read_public(public_file("ada", made).replace(made.keyid.encode(), b"0" * 64))
    taken = import_key(tmp_path / "a" / "ada.pem", tmp_path / "b", "ada-2", b"first", b"second")
    assert taken.keyid == made.keyid
    assert load_signer(tmp_path / "b" / "ada-2.pem", b"second").public_key.keyid == made.keyid
    with pytest.raises(BadInput, match="passphrase is wrong"):
        load_signer(tmp_path / "b" / "ada-2.pem", b"first")


@pytest.mark.parametrize(
    ("after_days", "role", "words"),
    [
        (0, "", ""),
        (26, "releases-edr-rules", "expires in 4 days"),
        (31, "releases-edr-rules", "has expired"),
        (306, "root", "expires in 59 days"),
        (366, "root", "has expired: devices take nothing on its word; tidegate keys export root --output renew.bundle"),
    ],
)
def test_a_warning_comes_before_it_hurts(rolling: House, after_days: int, role: str, words: str) -> None:
    view = trust_view(rolling.repo, NOW + after_days * DAY_S)
    own = [w for w in view["warnings"] if w.startswith(f"role {role} ")] if role else view["warnings"]
    assert (words in own[0]) if role else not own
    left = view["figures"]['tidegate_role_expires_in_seconds{role="root"}']
    assert left == (365 - after_days) * DAY_S
    assert {row["role"] for row in view["roles"]} >= {"root", "targets", "plans", "timestamp", "emergency"}
