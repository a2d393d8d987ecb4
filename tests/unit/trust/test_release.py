"""A release enters the repository on the signatures of enough key holders, in order, unchanged, and exactly once."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256, sha512
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Targets

from tidegate.core.errors import BadInput, Refused, TidegateError, Untrusted
from tidegate.core.wire import encode, plain
from tidegate.trust.keys import create_key, load_signers
from tidegate.trust.metadata import (
    latest_bytes,
    latest_versions,
    moment,
    target,
)
from tidegate.trust.metadata import sign as sign_metadata
from tidegate.trust.release import accept_release, countersign, sign_release

if TYPE_CHECKING:
    from .conftest import House


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_a_release_is_accepted_stored_and_accepted_again(house: House) -> None:
    manifest = house.manifest(1)
    signed = house.sign(manifest)
    accepted = accept_release(house.repo, house.component, signed, encode(manifest), house.now)
    assert (accepted.manifest, accepted.terms) == (manifest, house.terms(1))
    stored = house.repo / "targets" / "releases" / "edr-rules" / f"{accepted.digest}.1.json"
    assert stored.read_bytes() == encode(manifest)
    before = files(house.repo)
    assert accept_release(house.repo, house.component, signed, encode(manifest), house.now) == accepted
    assert files(house.repo) == before


def test_later_releases_follow_and_old_ones_may_be_dropped(house: House) -> None:
    house.release(1)
    house.release(5)
    manifest = house.manifest(6)
    signed = house.sign(manifest, drop=["releases/edr-rules/1.json"])
    accept_release(house.repo, house.component, signed, encode(manifest), house.now)
    listed = Metadata[Targets].from_bytes(latest_bytes(house.repo, house.role)).signed.targets
    assert set(listed) == {"releases/edr-rules/5.json", "releases/edr-rules/6.json"}
    for seq in (1, 5, 6):
        with pytest.raises(Refused, match=f"seq {seq} is not higher than 6"):
            house.sign(house.manifest(seq))
    with pytest.raises(BadInput, match="cannot be dropped"):
        house.sign(house.manifest(7), drop=["releases/edr-rules/1.json"])


def test_signatures_can_be_gathered_on_separate_machines(house: House) -> None:
    manifest = house.manifest(1)
    one = house.sign(manifest, keys=1)
    with pytest.raises(Untrusted, match=r"has 1 valid signatures .* 2 are needed"):
        accept_release(house.repo, house.component, one, encode(manifest), house.now)
    with pytest.raises(Untrusted):
        same_again = countersign(one, load_signers(house.offline, "release")[:1])
        accept_release(house.repo, house.component, same_again, encode(manifest), house.now)
    two = countersign(one, load_signers(house.offline, "release")[2:])
    assert accept_release(house.repo, house.component, two, encode(manifest), house.now)


def _signed_by(house: House, signers: list[CryptoSigner], edit: Callable[[Targets], object]) -> bytes:
    found = Metadata[Targets].from_bytes(house.sign(house.manifest(2)))
    edit(found.signed)
    found.signatures.clear()
    return sign_metadata(found, signers)


def _forge(edit: Callable[[Targets], object]) -> Callable[[House], bytes]:
    return lambda house: _signed_by(house, load_signers(house.offline, "release"), edit)


def _strangers(house: House) -> bytes:
    for i in (1, 2):
        create_key(house.directory / "strangers", f"release-{i}")
    return _signed_by(house, load_signers(house.directory / "strangers", "release"), lambda _: None)


def _tampered(house: House) -> bytes:
    return house.sign(house.manifest(2)).replace(b"2027", b"2028")


NEW, OLD = "releases/edr-rules/2.json", "releases/edr-rules/1.json"
BAD_LISTS: dict[str, tuple[Callable[[House], bytes], type[TidegateError]]] = {
    "keys of strangers": (_strangers, Untrusted),
    "changed after signing": (_tampered, Untrusted),
    "targets keys": (lambda h: _signed_by(h, load_signers(h.offline, "targets"), lambda _: None), Untrusted),
    "a version left out": (_forge(lambda t: setattr(t, "version", t.version + 1)), Untrusted),
    "the same version": (_forge(lambda t: setattr(t, "version", t.version - 1)), Untrusted),
    "expired": (_forge(lambda t: setattr(t, "expires", moment(1_800_000_000, 0))), Untrusted),
    "lasts too long": (_forge(lambda t: setattr(t, "expires", moment(1_800_000_000, 86_400 * 60))), Untrusted),
    "an earlier release changed": (_forge(lambda t: setattr(t.targets[OLD], "length", 1)), Untrusted),
    "two new releases": (_forge(lambda t: t.targets.update({"releases/edr-rules/9.json": t.targets[NEW]})), Untrusted),
    "no new release": (_forge(lambda t: t.targets.pop(NEW)), BadInput),
    "another manifest": (_forge(lambda t: t.targets[NEW].hashes.update(sha256="0" * 64)), Untrusted),
    "two digests": (_forge(lambda t: t.targets[NEW].hashes.update(sha512="0" * 128)), TidegateError),
    "no terms": (_forge(lambda t: t.targets[NEW].unrecognized_fields.clear()), BadInput),
    "terms of another seq": (_forge(lambda t: t.targets[NEW].custom["tidegate"].update(seq=3)), BadInput),
    "unknown terms": (_forge(lambda t: t.targets[NEW].custom["tidegate"].update(speed_up=1)), BadInput),
    "hands its trust on": (_forge(lambda t: setattr(t, "delegations", _delegations())), Untrusted),
    "no metadata": (lambda _: b"{}", BadInput),
    "another kind": (lambda house: house.root, BadInput),
}


def _delegations():
    from tuf.api.metadata import Delegations

    return Delegations({}, {})


@pytest.mark.parametrize(("make", "error"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_list_that_does_not_hold_changes_nothing(
    house: House, make: Callable[[House], bytes], error: type[TidegateError]
) -> None:
    house.release(1)
    signed, manifest = make(house), encode(house.manifest(2))
    before = files(house.repo)
    with pytest.raises(error):
        accept_release(house.repo, house.component, signed, manifest, house.now)
    assert files(house.repo) == before


@pytest.mark.parametrize(
    "change", [lambda m: m + b" ", lambda m: m.replace(b"1.1", b"1.2"), lambda m: m[:-1], lambda m: b""]
)
def test_a_manifest_that_is_not_the_signed_one_changes_nothing(house: House, change: Callable[[bytes], bytes]) -> None:
    manifest = house.manifest(1)
    signed = house.sign(manifest)
    before = files(house.repo)
    with pytest.raises((BadInput, Untrusted)):
        accept_release(house.repo, house.component, signed, change(encode(manifest)), house.now)
    assert files(house.repo) == before


def test_a_number_between_two_releases_cannot_be_filled_in(house: House) -> None:
    house.release(5)
    manifest = house.manifest(3)
    found = Metadata[Targets].from_bytes(latest_bytes(house.repo, house.role))
    found.signed.targets[OLD.replace("1", "3")] = target(OLD.replace("1", "3"), encode(manifest), plain(house.terms(3)))
    found.signed.version += 1
    found.signatures.clear()
    signed = sign_metadata(found, load_signers(house.offline, "release"))
    with pytest.raises(Untrusted, match="seq 3 is not higher than 5"):
        accept_release(house.repo, house.component, signed, encode(manifest), house.now)


@pytest.mark.parametrize(("canonical", "words"), [(False, "canonical form"), (True, "SHA-256 alone")])
def test_even_release_keys_cannot_sign_a_loose_manifest(house: House, canonical: bool, words: str) -> None:
    data = encode(house.manifest(2)) + (b"" if canonical else b"\n")
    extra = {"sha512": sha512(data).hexdigest()} if canonical else {}

    def edit(found: Targets) -> None:
        found.targets[NEW].hashes = {"sha256": sha256(data).hexdigest(), **extra}
        found.targets[NEW].length = len(data)

    signed = _signed_by(house, load_signers(house.offline, "release"), edit)
    with pytest.raises(BadInput, match=words):
        accept_release(house.repo, house.component, signed, data, house.now)


def test_a_release_of_one_component_is_no_release_of_another(house: House) -> None:
    manifest = house.manifest(1)
    signed = house.sign(manifest)
    with pytest.raises(BadInput, match="is of component dns-filter, not edr-rules"):
        other = encode(replace(manifest, component="dns-filter"))
        accept_release(house.repo, house.component, signed, other, house.now)


def test_an_older_list_cannot_come_back(house: House) -> None:
    manifest = house.manifest(1)
    first = house.sign(manifest)
    accept_release(house.repo, house.component, first, encode(manifest), house.now)
    house.release(2)
    with pytest.raises(Untrusted, match="is version 2, 4 is next"):
        accept_release(house.repo, house.component, first, encode(manifest), house.now)


def test_terms_and_manifest_must_agree_before_signing(house: House) -> None:
    with pytest.raises(BadInput, match="must be the same"):
        sign_release(latest_bytes(house.repo, house.role), house.manifest(1), replace(house.terms(1), seq=2), [], 0)


def test_a_crash_between_the_two_writes_is_finished_by_the_next_try(house: House) -> None:
    manifest = house.manifest(1)
    signed = house.sign(manifest)

    def power_cut(path: Path, data: bytes) -> None:
        if "metadata" in path.parts:
            raise OSError("power cut")
        path.write_bytes(data)

    with pytest.raises(OSError, match="power cut"):
        accept_release(house.repo, house.component, signed, encode(manifest), house.now, write=power_cut)
    assert len(list((house.repo / "targets" / "releases" / "edr-rules").iterdir())) == 1
    assert latest_versions(house.repo)[house.role] == 1
    accept_release(house.repo, house.component, signed, encode(manifest), house.now)
    assert latest_versions(house.repo)[house.role] == 2
