"""A release enters the repository on the signatures of enough key holders, in order, unchanged, and exactly once."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Targets

from tidegate.core.errors import BadInput, NotFound, Refused, TidegateError, Untrusted
from tidegate.core.wire import encode
from tidegate.trust import layout
from tidegate.trust.keys import create_key, load_signers
from tidegate.trust.metadata import current_root, latest_bytes, latest_versions, moment, root_by_digest, root_digest
from tidegate.trust.metadata import sign as sign_metadata
from tidegate.trust.release import accept_release, countersign, sign_release
from tidegate.trust.repository import accept_targets, add_component, init_repository, sign_component

if TYPE_CHECKING:
    from .conftest import House


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_the_offline_keys_are_offline(house: House) -> None:
    assert {p.name for p in house.online.iterdir()} == {"plans.pem", "snapshot.pem", "timestamp.pem"}
    numbered = {f"{group}-{i}.pem" for group in ("root", "targets", "release") for i in (1, 2, 3)}
    assert {p.name for p in house.offline.iterdir()} == {*numbered, "promotions.pem"}
    private = [p.read_bytes() for place in (house.online, house.offline) for p in place.iterdir()]
    assert not any(b"PRIVATE" in data or data in private for data in files(house.repo).values())


def test_the_root_says_what_the_design_says(house: House) -> None:
    root = Metadata.from_bytes(house.root).signed
    assert {name: (role.threshold, len(role.keyids)) for name, role in root.roles.items()} == {
        "root": (2, 3), "targets": (2, 3), "snapshot": (1, 1), "timestamp": (1, 1),
    }  # fmt: skip
    targets = Metadata[Targets].from_bytes(latest_bytes(house.repo, "targets")).signed
    assert targets.targets == {} and targets.delegations and targets.delegations.roles
    assert {
        name: (role.threshold, role.terminating, role.paths) for name, role in targets.delegations.roles.items()
    } == {
        "emergency": (3, True, ["emergency/*/*"]),
        "releases-edr-rules": (2, True, ["releases/edr-rules/*"]),
        "promotions": (1, True, ["promotions/*"]),
        "plans": (1, True, ["plans/*"]),
    }
    assert root_by_digest(house.repo, root_digest(house.root)) == house.root == current_root(house.repo)
    with pytest.raises(NotFound, match="another server"):
        root_by_digest(house.repo, "0" * 64)


def test_nothing_is_initialised_twice_or_badly(house: House, tmp_path: Path) -> None:
    before = files(tmp_path)
    with pytest.raises(Refused, match="begin with empty directories"):
        init_repository(tmp_path / "new", house.offline, tmp_path / "new-online", ["a"], house.now)
    with pytest.raises(Refused, match="begin with empty directories"):
        init_repository(house.repo, tmp_path / "x", tmp_path / "y", ["a"], house.now)
    with pytest.raises(BadInput, match="component must be"):
        init_repository(tmp_path / "r", tmp_path / "x", tmp_path / "y", ["../a"], house.now)
    with pytest.raises(BadInput, match="3 of 2 keys"):
        init_repository(tmp_path / "r", tmp_path / "x", tmp_path / "y", ["a"], house.now, release_keys=(3, 2))
    assert files(tmp_path) == before


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
    assert latest_versions(house.repo)[house.role] == 1
    accept_release(house.repo, house.component, signed, encode(manifest), house.now)
    assert latest_versions(house.repo)[house.role] == 2


def test_a_component_is_added_offline_and_used(rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    add_component(rolling.repo, rolling.offline, "dns-filter", rolling.now)
    plan, _ = device.plan(rolling.component)
    rolling.publisher.publish({rolling.component: encode(plan), "dns-filter": b"{}"}, rolling.now)
    assert device.refresh()
    assert device.components() == ("dns-filter", "edr-rules")
    with pytest.raises(Refused, match="exists already"):
        add_component(rolling.repo, rolling.offline, "dns-filter", rolling.now)


def test_new_targets_are_taken_only_whole(house: House) -> None:
    standing = latest_bytes(house.repo, "targets")
    target_signers, release_signers = load_signers(house.offline, "targets"), load_signers(house.offline, "release")
    targets, first = sign_component(standing, "agent", 2, target_signers[:2], release_signers[:2], house.now)
    weak, _ = sign_component(standing, "agent", 2, target_signers[:1], release_signers, house.now)
    _, weak_first = sign_component(standing, "agent", 2, target_signers, release_signers[:1], house.now)
    role = layout.release_role("agent")
    before = files(house.repo)
    attempts = [(weak, {role: first}), (targets, {role: weak_first}), (targets, {})]
    for data, firsts in attempts:
        with pytest.raises(Untrusted):
            accept_targets(house.repo, data, firsts, house.now)
    with pytest.raises(Untrusted, match="has expired"):
        accept_targets(house.repo, targets, {role: first}, house.now + 200 * 86_400)
    assert files(house.repo) == before
    for _ in range(2):
        accept_targets(house.repo, targets, {role: first}, house.now)
    assert latest_versions(house.repo)["targets"] == 2
    with pytest.raises(NotFound, match="no role releases-absent"):
        accept_release(house.repo, "absent", first, b"{}", house.now)
