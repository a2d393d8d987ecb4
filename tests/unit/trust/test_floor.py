"""Never back: versions, clocks and roots of one device through power cuts, lost files, theft and key rotation."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from tidegate.core.errors import Untrusted
from tidegate.core.wire import encode
from tidegate.trust.errors import ClockWrong
from tidegate.trust.floor import Floor, load_floor, store_floor
from tidegate.trust.keys import create_key, load_signers
from tidegate.trust.metadata import latest_bytes, sign, versioned
from tidegate.trust.publisher import Publisher
from tidegate.trust.updater import DurableUpdater, Fetcher

if TYPE_CHECKING:
    from .conftest import House


def test_a_clock_that_was_set_back_stops_everything_until_it_is_right(rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    device.plan(rolling.component)
    right = rolling.now
    rolling.now = right - 601
    restarted, _ = rolling.device()
    for do in (device.refresh, device.components, lambda: device.plan(rolling.component), restarted.refresh):
        with pytest.raises(ClockWrong, match="601 s behind"):
            do()
    rolling.now = right - 599
    for client in (device, restarted):
        client.refresh()
        assert client.plan(rolling.component)[0].ring == 1


def test_a_device_whose_clock_begins_in_1970_takes_no_plan(rolling: House) -> None:
    device, _ = rolling.device()
    rolling.now = 100
    device.refresh()
    with pytest.raises(Untrusted, match="in the future"):
        device.plan(rolling.component)
    assert device.high_water_s == 0


@pytest.mark.parametrize(
    "lost", [["timestamp"], ["timestamp", "snapshot"], ["timestamp", "snapshot", "plans", "targets"]]
)
@pytest.mark.parametrize("how", ["emptied", "removed"])
def test_an_old_repository_is_refused_after_the_librarys_files_were_lost(
    rolling: House, lost: list[str], how: str
) -> None:
    device, wire = rolling.device()
    old = (rolling.repo / "metadata" / "timestamp.json").read_bytes()
    for ring in range(2, 5):
        rolling.publish(replace(rolling.plan(rolling.candidate(rolling.release(ring))), ring=ring))
    device.refresh()
    for role in lost:
        path = rolling.directory / "device" / "metadata" / f"{role}.json"
        path.write_bytes(b"") if how == "emptied" else path.unlink()
    again, wire = rolling.device()
    wire.answers["metadata/timestamp.json"] = old
    with pytest.raises(Untrusted):
        again.refresh()
    with pytest.raises(Untrusted, match="refresh first"):
        again.plan(rolling.component)
    wire.answers.clear()
    again.refresh()
    assert again.plan(rolling.component)[0].ring == 4


def test_the_library_alone_would_have_believed_it(rolling: House) -> None:
    """The reason for the floor: if this fails, the library has learnt to sync and floor.py may go."""
    device, wire = rolling.device()
    old = (rolling.repo / "metadata" / "timestamp.json").read_bytes()
    rolling.publish(rolling.plan(rolling.candidate(rolling.release(2))))
    device.refresh()
    metadata = rolling.directory / "device" / "metadata"
    for role in ("timestamp", "snapshot"):
        (metadata / f"{role}.json").write_bytes(b"")
    wire.answers["metadata/timestamp.json"] = old
    bare = DurableUpdater(metadata, rolling.root, Fetcher(wire), rolling.now)
    bare.refresh()
    assert bare.versions["timestamp"] < rolling.publisher.version


def test_one_damaged_record_is_replaced_by_its_copy_and_two_stop(tmp_path: Path, rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    record, copy = (rolling.directory / "device" / name for name in ("trust_floor.json", "trust_floor.copy.json"))
    whole = record.read_bytes()
    record.write_bytes(whole.replace(b'"root":1', b'"root":0'))
    assert load_floor(record.parent).root == 1
    copy.write_bytes(b"")
    with pytest.raises(Untrusted, match="damaged in both copies"):
        rolling.device()
    record.unlink()
    copy.write_bytes(whole)
    assert rolling.device()[0].refresh()


def test_the_newer_record_counts_after_a_cut_between_the_two(tmp_path: Path) -> None:
    first = store_floor(tmp_path, Floor(root=1, versions={"timestamp": 1}))
    stale = (tmp_path / "trust_floor.copy.json").read_bytes()
    second = store_floor(tmp_path, replace(first, versions={"timestamp": 2}))
    (tmp_path / "trust_floor.copy.json").write_bytes(stale)
    assert load_floor(tmp_path) == second


def rotate_online_keys(house: House, stolen: tuple[str, ...] = ("snapshot", "timestamp")) -> None:
    """What a root ceremony does after online keys were stolen: fresh ones in new root and targets."""
    fresh = house.directory / "online-2"
    keys = {role: create_key(fresh, role) for role in ("plans", *stolen)}
    for role in {"snapshot", "timestamp"} - set(stolen):
        shutil.copy(house.online / f"{role}.pem", fresh)
    root = Metadata[Root].from_bytes(latest_bytes(house.repo, "root"))
    for role in stolen:
        root.signed.revoke_key(root.signed.roles[role].keyids[0], role)
        root.signed.add_key(keys[role], role)
    targets = Metadata[Targets].from_bytes(latest_bytes(house.repo, "targets"))
    assert targets.signed.delegations and targets.signed.delegations.roles
    targets.signed.revoke_key(targets.signed.delegations.roles["plans"].keyids[0], "plans")
    targets.signed.add_key(keys["plans"], "plans")
    for metadata in (root, targets):
        metadata.signed.version += 1
        metadata.signatures.clear()
    versioned(house.repo, "root", root.signed.version).write_bytes(sign(root, load_signers(house.offline, "root")[:2]))
    data = sign(targets, load_signers(house.offline, "targets")[:2])
    versioned(house.repo, "targets", targets.signed.version).write_bytes(data)
    for name in ("plans", "snapshot"):
        for path in (house.repo / "metadata").glob(f"*.{name}.json"):
            path.unlink()
    (house.repo / "metadata" / "timestamp.json").unlink()
    house.publisher = Publisher(house.repo, fresh)


@pytest.mark.parametrize("rotated", [("snapshot", "timestamp"), ("timestamp",), ("snapshot",)])
def test_stolen_online_keys_that_signed_huge_versions_are_recovered_from_by_a_new_root(
    rolling: House, rotated: tuple[str, ...]
) -> None:
    device, _ = rolling.device()
    plan = rolling.plan(rolling.planned())
    thief = Publisher(rolling.repo, rolling.online)
    thief._edition = (1 << 31) - 1  # pyright: ignore[reportPrivateUsage]
    thief.publish({rolling.component: encode(plan)}, rolling.now)
    device.refresh()
    assert device.plan(rolling.component)[1] == 1 << 31
    rotate_online_keys(rolling, rotated)
    rolling.publish(replace(plan, ring=7))
    for client in (device, rolling.device()[0]):
        client.refresh()
        assert (client.plan(rolling.component)[0].ring, client.plan(rolling.component)[1]) == (7, 1)
    floor = load_floor(rolling.directory / "device")
    assert (floor.root, floor.versions["timestamp"]) == (2, 1)


def test_a_new_root_lifts_a_clock_mark_that_stolen_keys_have_set(rolling: House) -> None:
    """The thief had the device's clock as well: a year ahead for one refresh."""
    right, device = rolling.now, rolling.device()[0]
    candidate = rolling.planned()
    rolling.now += 20 * 86_400
    rolling.publish(rolling.plan(candidate))
    device.refresh()
    device.plan(rolling.component)
    rolling.now = right
    with pytest.raises(ClockWrong):
        device.refresh()
    rotate_online_keys(rolling)
    rolling.publish(rolling.plan(candidate, ring=7))
    device.refresh()
    assert device.plan(rolling.component)[0].ring == 7


def test_an_older_root_is_never_gone_back_to(rolling: House) -> None:
    device, wire = rolling.device()
    candidate = rolling.planned()
    rotate_online_keys(rolling)
    rolling.publish(rolling.plan(candidate))
    device.refresh()
    for path in (rolling.directory / "device" / "metadata" / "root_history").iterdir():
        path.unlink()
    wire.answers["metadata/2.root.json"] = FileNotFoundError()
    with pytest.raises(Untrusted):
        device.refresh()
