"""The repository's beginning and its trunk: which keys lie where, and how a component is added offline."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tuf.api.metadata import Metadata, Targets

from tidegate.core.errors import BadInput, NotFound, Refused, Untrusted
from tidegate.core.wire import encode
from tidegate.trust import layout
from tidegate.trust.keys import load_signers
from tidegate.trust.metadata import (
    current_root,
    latest_bytes,
    latest_versions,
    root_by_digest,
    root_digest,
)
from tidegate.trust.metadata import sign as sign_metadata
from tidegate.trust.release import accept_release
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
        "promotions": (1, True, ["promotions/*/*"]),
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


def test_new_targets_may_not_orphan_a_list_of_releases(house: House) -> None:
    """Other release keys need a list that they have signed."""
    found = Metadata[Targets].from_bytes(latest_bytes(house.repo, "targets"))
    assert found.signed.delegations and found.signed.delegations.roles
    found.signed.delegations.roles[house.role].keyids = found.signed.delegations.roles["promotions"].keyids
    found.signed.delegations.roles[house.role].threshold = 1
    found.signed.version += 1
    found.signatures.clear()
    with pytest.raises(Untrusted, match="role releases-edr-rules has 0 valid"):
        accept_targets(house.repo, sign_metadata(found, load_signers(house.offline, "targets")), {}, house.now)


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
