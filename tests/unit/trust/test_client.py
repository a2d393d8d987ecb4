"""What a device believes over time: fresh plans only, never older ones, through power cuts, clocks and key rotation."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tuf.api.metadata import Metadata, Root, Targets

from tidegate.core.errors import NotFound, Untrusted
from tidegate.core.model import Candidate, PlanState
from tidegate.core.wire import canonical, encode, plain
from tidegate.trust.client import TrustClient
from tidegate.trust.errors import ClockWrong, DiskFull, Unreachable
from tidegate.trust.floor import Floor, load_floor, store_floor
from tidegate.trust.keys import create_key, load_signers
from tidegate.trust.metadata import latest_bytes, sign, versioned
from tidegate.trust.publisher import Publisher
from tidegate.trust.updater import DurableUpdater, Fetcher

if TYPE_CHECKING:
    from .conftest import House


def test_a_first_contact_then_nothing_new_then_a_new_plan(rolling: House) -> None:
    device, wire = rolling.device()
    assert device.refresh()
    plan, version = device.plan(rolling.component)
    manifest, terms = device.release(rolling.component, plan.candidate)
    assert (manifest.seq, terms, plan.state) == (1, rolling.terms(1), PlanState.OPEN)
    assert (version, device.components(), device.high_water_s) == (
        rolling.publisher.version,
        ("edr-rules",),
        rolling.now,
    )

    wire.asked.clear()
    assert not device.refresh()
    assert device.plan(rolling.component) == (plan, version)
    assert wire.asked == ["metadata/2.root.json", "metadata/timestamp.json"]

    wire.asked.clear()
    rolling.publish(replace(plan, ring=2))
    assert device.refresh()
    assert device.plan(rolling.component)[0].ring == 2
    assert len(wire.asked) == 5
    assert sum(len((rolling.repo / path).read_bytes()) for path in wire.asked[1:]) < 2700


def test_a_restart_reads_nothing_again_but_the_two(rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    plan, _ = device.plan(rolling.component)
    device.release(rolling.component, plan.candidate)
    again, wire = rolling.device()
    with pytest.raises(Untrusted, match="refresh first"):
        again.plan(rolling.component)
    again.refresh()
    assert again.release(rolling.component, again.plan(rolling.component)[0].candidate)[0].seq == 1
    assert len(wire.asked) == 2


def test_a_device_without_a_line_keeps_its_plan_until_it_expires(rolling: House) -> None:
    device, wire = rolling.device()
    device.refresh()
    wire.answers["metadata/timestamp.json"] = ConnectionRefusedError("no server")
    for _ in range(2):
        with pytest.raises(Unreachable, match="ask again later"):
            device.refresh()
        assert device.plan(rolling.component)[0].ring == 1
    rolling.now += 600
    with pytest.raises(Untrusted, match="has expired"):
        device.plan(rolling.component)
    rolling.now += 3600
    with pytest.raises(Untrusted, match="metadata has expired"):
        device.components()


def test_an_expired_list_of_releases_stops_its_component_alone(rolling: House) -> None:
    device, candidate = rolling.device()[0], first_candidate(rolling)
    rolling.now += 31 * 86_400
    rolling.publish(rolling.plan(candidate))
    device.refresh()
    plan, _ = device.plan(rolling.component)
    with pytest.raises(Untrusted, match="expired"):
        device.release(rolling.component, plan.candidate)


def first_candidate(house: House) -> Candidate:
    """Release 1 as the plan in force names it."""
    probe, _ = house.device("probe")
    probe.refresh()
    return probe.plan(house.component)[0].candidate


PLANS_THAT_DO_NOT_HOLD = {
    "expired": ({"issued": -700, "expires": -100}, "has expired"),
    "lives too long": ({"expires": 1801}, "within 1800 s"),
    "issued in the future": ({"issued": 700, "expires": 1300}, "700 s in the future"),
    "another component": ({"component": "dns-filter"}, "speaks of dns-filter"),
    "another version": ({"v": 2}, "update the agent"),
}


@pytest.mark.parametrize(("change", "words"), PLANS_THAT_DO_NOT_HOLD.values(), ids=PLANS_THAT_DO_NOT_HOLD)
def test_a_signed_plan_that_does_not_hold(rolling: House, change: dict[str, Any], words: str) -> None:
    device, _ = rolling.device()
    device.refresh()
    value = plain(device.plan(rolling.component)[0])
    mark = device.high_water_s
    dates = {name: rolling.now + change[name] for name in ("issued", "expires") if name in change}
    rolling.publisher.publish({rolling.component: canonical({**value, **change, **dates})}, rolling.now)
    device.refresh()
    with pytest.raises(Untrusted, match=words):
        device.plan(rolling.component)
    assert device.high_water_s == mark


def test_a_plan_that_is_no_plan(rolling: House) -> None:
    device, _ = rolling.device()
    for data in (b"", b"{}", b"[" * 100_000, b"\xff"):
        rolling.publisher.publish({rolling.component: data}, rolling.now)
        device.refresh()
        with pytest.raises(Untrusted, match="does not hold"):
            device.plan(rolling.component)


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


def rotate_online_keys(house: House) -> None:
    """What a root ceremony does after the online keys were stolen: fresh ones in new root and targets."""
    fresh = house.directory / "online-2"
    keys = {role: create_key(fresh, role) for role in ("plans", "snapshot", "timestamp")}
    root = Metadata[Root].from_bytes(latest_bytes(house.repo, "root"))
    for role in ("snapshot", "timestamp"):
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


def test_stolen_online_keys_that_signed_huge_versions_are_recovered_from_by_a_new_root(rolling: House) -> None:
    device, _ = rolling.device()
    plan = rolling.plan(first_candidate(rolling))
    thief = Publisher(rolling.repo, rolling.online)
    thief._edition = (1 << 31) - 1  # pyright: ignore[reportPrivateUsage]
    thief.publish({rolling.component: encode(plan)}, rolling.now)
    device.refresh()
    assert device.plan(rolling.component)[1] == 1 << 31
    rotate_online_keys(rolling)
    rolling.publish(replace(plan, ring=7))
    for client in (device, rolling.device()[0]):
        client.refresh()
        assert (client.plan(rolling.component)[0].ring, client.plan(rolling.component)[1]) == (7, 1)
    floor = load_floor(rolling.directory / "device")
    assert (floor.root, floor.versions["timestamp"]) == (2, 1)


def test_a_new_root_lifts_a_clock_mark_that_stolen_keys_have_set(rolling: House) -> None:
    """The thief had the device's clock as well: a year ahead for one refresh."""
    right, device = rolling.now, rolling.device()[0]
    candidate = first_candidate(rolling)
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
    candidate = first_candidate(rolling)
    rotate_online_keys(rolling)
    rolling.publish(rolling.plan(candidate))
    device.refresh()
    for path in (rolling.directory / "device" / "metadata" / "root_history").iterdir():
        path.unlink()
    wire.answers["metadata/2.root.json"] = FileNotFoundError()
    with pytest.raises(Untrusted):
        device.refresh()


def test_a_full_disk_on_the_device_is_named_and_survived(rolling: House, small_disk: Path) -> None:
    def device() -> TrustClient:
        return TrustClient(
            small_disk, rolling.root, lambda path, _: (rolling.repo / path).read_bytes(), lambda: rolling.now
        )

    client = device()
    client.refresh()
    plan, _ = client.plan(rolling.component)
    free = small_disk / "filler"
    with pytest.raises(OSError), free.open("wb") as file:
        while True:
            file.write(b"x" * 4096)
            file.flush()
    rolling.publish(replace(plan, ring=2))
    with pytest.raises(DiskFull):
        client.refresh()
    assert client.plan(rolling.component)[0].ring == 1
    free.unlink()
    for again in (client, device()):
        again.refresh()
        assert again.plan(rolling.component)[0].ring == 2


def test_a_component_that_does_not_exist_is_not_found(rolling: House) -> None:
    device, _ = rolling.device()
    device.refresh()
    with pytest.raises(NotFound, match="has no plan"):
        device.plan("absent")


def test_an_idle_refresh_is_cheap(rolling: House) -> None:
    """In relation to the ten signatures that the library checks for it."""
    device, _ = rolling.device()
    device.refresh()
    root = Metadata[Root].from_bytes(rolling.root)
    key, data = next(iter(root.signed.keys.values())), root.signed_bytes
    signature = load_signers(rolling.offline, "root")[0].sign(data)
    key = root.signed.keys[signature.keyid]

    def seconds(do: Any) -> float:
        began = time.process_time()
        for _ in range(30):
            do()
        return (time.process_time() - began) / 30

    one = min(seconds(lambda: key.verify_signature(signature, data)) for _ in range(3))
    idle = min(seconds(device.refresh) for _ in range(3))
    assert idle < 100 * one
