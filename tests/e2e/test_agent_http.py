"""The agent against a real server over HTTP: good, placebo, sick, halted, and everything that is served wrongly."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tidegate.agent.config import Home
from tidegate.agent.enrol import enrol
from tidegate.core.device import State
from tidegate.core.errors import Refused, Untrusted
from tidegate.core.model import PlanState
from tidegate.core.wire import encode
from tidegate.trust import layout

from .agent_device import Device, HandClock, quick_directory
from .agent_server import COMPONENT, World

HEALTHY = ("test", "-e", "{current}/rules")
CALM = ("test", "!", "-e", "{current}/poison")


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_directory() as directory:
        yield directory


@pytest.fixture
def world(place: Path, clock: HandClock) -> Iterator[World]:
    made = World(place / "world", lambda: int(clock.wall()))
    yield made
    made.close()


@pytest.fixture
def device(world: World, place: Path, clock: HandClock) -> Iterator[Device]:
    made = Device(world, place / "home", clock)
    yield made
    made.agent.tools.server.close()


def install(device: Device, seq: int = 1) -> str:
    """Bring a first good release to the device, to its end."""
    candidate = device.world.release(seq, {"rules": f"good {seq}"}, probes=(HEALTHY, CALM))
    device.world.publish(candidate)
    device.run(lambda: f"r{seq}" in device.confirmed(), begin=not device.agent.machines)
    assert device.installed() == device.good() == candidate.sha256
    return candidate.sha256


@pytest.mark.parametrize("driver", ["files", "command"])
def test_good_update_is_confirmed_and_becomes_the_last_known_good(world: World, device: Device, driver: str) -> None:
    install(device)
    told = device.directory / "work" / "told"
    candidate = world.release(
        2, {"rules": "good 2", "sub/more": "x"}, driver=driver, probes=(HEALTHY,),
        activate=("cp", "{current}/rules", str(told)), soak_s=9,
    )  # fmt: skip
    world.publish(candidate)
    began = device.clock.boot_s()
    device.run(lambda: device.reported("confirmed", 2)() and device.state() is State.IDLE)
    assert device.installed() == device.good() == candidate.sha256
    assert told.read_text() == "good 2"
    assert device.clock.boot_s() - began >= 9
    report = world.reports[-1]
    assert report["kind"] == "confirmed" and report["probes"] and all(p["healthy"] for p in report["probes"])
    assert world.announced[-1]["installed"] and world.announced[-1]["plan_version"] == world.publisher.version
    assert device.status()["installed"] == candidate.sha256
    device.turns(2)
    assert "up to date" in device.status()["sentence"]
    assert [p.name for p in (device.directory / "slots").iterdir()] == [candidate.sha256[:16]]
    assert world.seqs == sorted(set(world.seqs))


def test_placebo_changes_nothing_and_reports_the_same_soak(world: World, device: Device) -> None:
    installed = install(device)
    world.arm = "placebo"
    world.publish(world.release(2, {"rules": "good 2"}, probes=(HEALTHY,), soak_s=9))
    began = device.clock.boot_s()
    device.run(device.reported("confirmed", 2))
    assert device.clock.boot_s() - began >= 9
    assert device.installed() == device.good() == installed
    assert device.files() == {"rules": "good 1"}
    # its turn for the treatment may come: it asks again, as a new attempt, and has the payload already
    world.leases.clear()
    world.arm = "treated"
    device.run(device.reported("confirmed", 3))
    assert device.files() == {"rules": "good 2"}
    assert world.announced[-1]["attempt"] == 2
    assert sum(path.startswith("payloads/") for path in world.asked) == 2


def test_sick_placebo_says_so(world: World, device: Device) -> None:
    install(device)
    world.arm = "placebo"
    world.publish(world.release(2, {"rules": "good 2"}, soak_s=9))
    device.run(lambda: device.state() is State.WATCHING)
    (device.directory / "current" / "rules").unlink()  # the background: what runs breaks by itself
    device.run(device.reported("reverted"))
    assert "probe-0" in world.reports[-1]["note"]
    assert not (device.directory / "condemned").exists()


def test_sick_update_is_taken_back_condemned_and_never_tried_again(world: World, device: Device) -> None:
    installed = install(device)
    bad = world.release(2, {"rules": "r", "poison": "p"}, probes=(HEALTHY, CALM))
    world.publish(bad)
    device.run(lambda: device.reported("reverted")() and device.state() is State.IDLE)
    assert device.installed() == device.good() == installed
    assert device.files() == {"rules": "good 1"}
    assert "probe-1 failed" in world.reports[-1]["note"]
    announcements = len(world.announced)
    world.publish(bad, rollout="another")
    device.turns(5)
    device.restart().begin()
    device.turns(5)
    assert len(world.announced) == announcements
    assert device.installed() == installed
    assert "never tried again" in device.status()["sentence"]
    install(device, 3)


def test_sick_first_install_leaves_the_component_absent(world: World, device: Device) -> None:
    world.publish(world.release(1, {"poison": "p"}, probes=(CALM,)))
    device.run(lambda: device.reported("reverted")() and device.state() is State.IDLE, begin=True)
    assert device.installed() is None and device.good() is None
    assert not (device.directory / "current").is_symlink()


def test_activation_that_fails_is_taken_back(world: World, device: Device) -> None:
    installed = install(device)
    world.publish(world.release(2, {"rules": "x"}, driver="command", activate=("false",)))
    device.run(lambda: device.reported("reverted")() and device.state() is State.IDLE)
    assert device.installed() == installed
    assert "exit code 1" in world.reports[-1]["note"]


def test_halt_during_the_soak_takes_the_release_back_at_once(world: World, device: Device) -> None:
    installed = install(device)
    candidate = world.release(2, {"rules": "good 2"}, soak_s=3000)
    world.publish(candidate)
    device.run(lambda: device.state() is State.PROBING)
    assert device.installed() == candidate.sha256
    world.publish(candidate, state=PlanState.HALTED)
    halted = device.clock.boot_s()
    device.run(device.reported("reverted"))
    assert device.clock.boot_s() - halted <= 5
    assert device.installed() == installed
    assert "halted" in world.reports[-1]["note"]


def test_halt_between_lease_and_apply_changes_nothing(world: World, device: Device) -> None:
    installed = install(device)
    candidate = world.release(2, {"rules": "good 2"})
    world.publish(candidate)

    def halt_then_lease(message: dict[str, Any]) -> None:
        world.publish(candidate, state=PlanState.HALTED)

    world.on_announce = halt_then_lease
    device.run(lambda: device.reported("reverted")() and device.state() is State.IDLE)
    assert device.installed() == device.good() == installed
    assert "before anything changed" in world.reports[-1]["note"]
    assert "PROBING" not in device.log.getvalue().split("r2", 1)[1]


@pytest.mark.parametrize("state", [PlanState.PAUSED, PlanState.HOLD, PlanState.CLOSED, PlanState.HALTED])
def test_a_plan_that_is_not_open_starts_nothing(world: World, device: Device, state: PlanState) -> None:
    installed = install(device)
    world.publish(world.release(2, {"rules": "good 2"}), state=state)
    device.turns(6)
    assert device.installed() == installed and len(world.announced) == 1
    assert "rollout r2" in device.status()["sentence"]


@pytest.mark.parametrize("state", [PlanState.PAUSED, PlanState.HOLD, PlanState.CLOSED])
def test_a_device_in_its_soak_goes_on_when_the_plan_stops(world: World, device: Device, state: PlanState) -> None:
    candidate = world.release(1, {"rules": "good 1"}, soak_s=100)
    world.publish(candidate)
    device.run(lambda: device.state() is State.PROBING, begin=True)
    world.publish(candidate, state=state)
    device.run(device.reported("confirmed"))
    assert device.good() == candidate.sha256


def test_a_device_out_of_range_waits(world: World, device: Device) -> None:
    world.publish(world.release(1, {"rules": "x"}), announce_rank="0" * 16)
    device.agent.begin()
    device.turns(5)
    assert world.announced == [] and "turn has not come" in device.status()["sentence"]
    assert not any(path.startswith("payloads/") for path in world.asked)


def test_not_yet_is_asked_again_when_the_server_said(world: World, device: Device) -> None:
    candidate = world.release(1, {"rules": "good 1"})
    world.publish(candidate)
    world.on_announce = lambda message: (200, {"retry_after_s": 40, "reason": "cap"})
    device.run(lambda: len(world.announced) == 1, begin=True)
    asked = device.clock.boot_s()
    assert "cap" in device.status()["sentence"]
    device.run(lambda: len(world.announced) == 2)
    assert 39 <= device.clock.boot_s() - asked <= 60
    assert device.installed() is None
    world.on_announce = lambda message: None
    device.run(device.reported("confirmed"))


def test_a_rollout_that_has_nothing_for_the_device_is_asked_once(world: World, device: Device) -> None:
    world.publish(world.release(1, {"rules": "x"}))
    world.on_announce = lambda message: (409, {"title": "Halted", "detail": "not in the roster"})
    device.agent.begin()
    device.turns(8)
    device.restart().begin()
    world.publisher.publish({COMPONENT: encode(world.plans[COMPONENT])}, world.now())
    device.turns(4)
    assert len(world.announced) == 1
    assert "not in the roster" in device.status()["sentence"]


def test_a_lost_lease_answer_is_asked_for_again(world: World, device: Device) -> None:
    world.publish(world.release(1, {"rules": "good 1"}))
    world.lose_answers = 3
    device.run(device.reported("confirmed"), begin=True)
    assert len({lease for lease, _ in world.kinds()}) == 1


def test_a_report_whose_answer_was_lost_is_sent_again_after_a_restart(world: World, device: Device) -> None:
    world.publish(world.release(1, {"rules": "good 1"}))
    device.run(lambda: device.state() is State.PROBING, begin=True)
    world.lose_answers = 2
    device.run(device.reported("confirmed"))
    assert len(device.agent.tools.outbox.waiting()) == 1, "without a 2xx it is kept"
    device.restart().begin()
    device.run(lambda: not device.agent.tools.outbox.waiting())
    assert len(world.reports) >= 2 and len(world.kinds()) == 1
    assert len({report["seq"] for report in world.reports}) == 1


def test_one_poisoned_report_does_not_hold_up_the_others(world: World, device: Device) -> None:
    world.on_report = lambda report: (400, {"detail": "no such lease"}) if report["lease_id"] == "gone" else None
    outbox = device.agent.tools.outbox
    for seq, lease in ((1, "gone"), (2, "l2"), (3, "l3")):
        outbox.put({"lease_id": lease, "kind": "confirmed", "seq": seq, "boot_s": 1, "probes": [], "note": ""})
    (outbox.directory / "00000000000000000004.json").write_text("{torn")
    device.agent.turn()
    assert [report["lease_id"] for report in world.reports] == ["l2", "l3"]
    assert outbox.waiting() == []
    assert len(list((outbox.directory / "refused").iterdir())) == 2
    assert "no such lease" in device.log.getvalue()


def test_reports_wait_while_the_server_refuses_the_credential(world: World, device: Device) -> None:
    outbox = device.agent.tools.outbox
    outbox.put({"lease_id": "l1", "kind": "confirmed", "seq": 1, "boot_s": 1, "probes": [], "note": ""})
    world.on_report = lambda report: (401, {"detail": "revoked"})
    device.agent.turn()
    assert len(outbox.waiting()) == 1 and "revoked" in device.log.getvalue()


def test_a_payload_with_a_wrong_digest_is_refused(world: World, device: Device) -> None:
    installed = install(device)
    candidate = world.release(2, {"rules": "good 2"})
    (payload,) = [p for p in (world.repo / "payloads").iterdir() if b"good 2" in p.read_bytes()]
    right = payload.read_bytes()
    payload.write_bytes(right.replace(b"good 2", b"evil 2"))
    world.publish(candidate)
    device.run(lambda: "digest" in device.status()["sentence"])
    assert device.installed() == installed and len(world.announced) == 1
    assert [p.name for p in (device.directory / "slots").iterdir()] == [installed[:16]]
    payload.write_bytes(right)
    device.run(device.reported("confirmed", 2))


def test_an_expired_plan_starts_nothing(world: World, device: Device) -> None:
    installed = install(device)
    world.publish(world.release(2, {"rules": "good 2"}))
    device.clock.passed_s += 700
    device.turns(4)
    assert device.installed() == installed and len(world.announced) == 1
    assert "expired" in device.status()["sentence"]


def test_a_plan_that_expires_under_a_lease_moves_no_pointer(world: World, device: Device) -> None:
    candidate = world.release(1, {"rules": "good 1"})
    world.publish(candidate)

    def lease_then_wait(message: dict[str, Any]) -> None:
        device.clock.passed_s += 700

    world.on_announce = lease_then_wait
    device.run(lambda: device.state() is State.APPLYING, begin=True)
    device.turns(10)
    assert device.state() is State.APPLYING and device.installed() is None
    world.on_announce = lambda message: None
    world.publish(candidate)
    device.run(device.reported("confirmed"))
    assert len(world.announced) >= 2, "the lease had run out, so it is asked for again"


def test_a_wrongly_signed_plan_is_not_believed(world: World, device: Device) -> None:
    installed = install(device)
    world.publish(world.release(2, {"rules": "good 2"}))
    newest = max((world.repo / "metadata").glob("*.plans.json"), key=lambda p: int(p.name.split(".")[0]))
    forged = json.loads(newest.read_bytes())
    forged["signed"]["expires"] = "2099-01-01T00:00:00Z"
    newest.write_text(json.dumps(forged))
    device.turns(5)
    assert device.installed() == installed and len(world.announced) == 1
    assert "signature" in device.status()["sentence"].lower() or "signed" in device.status()["sentence"]


def test_a_plan_that_names_what_no_release_key_signed_is_not_believed(world: World, device: Device) -> None:
    candidate = world.release(1, {"rules": "x"})
    world.publish(replace(candidate, sha256="0" * 64))
    device.agent.begin()
    device.turns(4)
    assert world.announced == [] and device.installed() is None


def test_no_downgrade_even_if_the_plan_says_so(world: World, device: Device) -> None:
    old = world.release(1, {"rules": "old"})
    newer = world.release(2, {"rules": "new"})
    world.publish(newer)
    device.run(device.reported("confirmed"), begin=True)
    world.publish(old)
    device.turns(5)
    assert device.installed() == newer.sha256 and "not newer" in device.status()["sentence"]


def test_dwell_keeps_releases_apart(world: World, device: Device) -> None:
    install(device)
    began = device.clock.boot_s()
    world.publish(world.release(2, {"rules": "good 2"}, dwell_s=60))
    device.turns(3)
    assert "dwell" in device.status()["sentence"]
    device.run(device.reported("confirmed", 2))
    assert device.clock.boot_s() - began >= 55


def test_only_one_component_is_on_trial_at_a_time(place: Path, clock: HandClock) -> None:
    world = World(place / "two", lambda: int(clock.wall()), (COMPONENT, "dns-filter"))
    device = Device(world, place / "home2", clock)
    for component in (COMPONENT, "dns-filter"):
        candidate = world.release(1, {"rules": component}, component=component, soak_s=20)
        world.publish(candidate, component=component, rollout=f"r-{component}")
    device.agent.begin()
    together = 0
    for _ in range(200):
        device.turns(1)
        under = [m for m in device.agent.machines.values() if m.state in (State.APPLYING, State.PROBING)]
        together = max(together, len(under))
        if device.reported("confirmed", 2)():
            break
    assert device.reported("confirmed", 2)() and together == 1
    world.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MB, since a full disk cannot be had otherwise."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_said_and_nothing_else_changes(world: World, clock: HandClock, small_disk: Path) -> None:
    device = Device(world, small_disk / "home", clock)
    installed = install(device)
    world.publish(world.release(2, {"rules": "good 2", "large": "x" * 1_800_000}))
    device.run(lambda: "MB are free" in device.status()["sentence"], turns=5)
    assert device.installed() == device.good() == installed
    # another program may take the room in the middle of it: the payload alone fits, its files do not
    world.publish(world.release(3, {"rules": "good 3", "large": "x" * 600_000}))
    fill = device.machine.slots.fill

    def too_late(digest: str, manifest: Any, unpack: Any) -> None:
        left = os.statvfs(small_disk)
        (small_disk / "ballast").write_bytes(b"x" * (left.f_bavail * left.f_frsize - 200_000))
        fill(digest, manifest, unpack)

    device.machine.slots.fill = too_late  # type: ignore[method-assign]
    device.run(lambda: "no room left" in device.status()["sentence"], turns=40)
    assert device.installed() == device.good() == installed
    assert [p.name for p in (device.directory / "slots").iterdir()] == [installed[:16]]
    assert device.files() == {"rules": "good 1"} and len(world.announced) == 1
    (small_disk / "ballast").unlink()
    device.machine.slots.fill = fill  # type: ignore[method-assign]
    device.run(lambda: "r3" in device.confirmed())
    device.agent.tools.server.close()


def test_a_release_that_fills_the_disk_is_taken_back_all_the_same(
    world: World, clock: HandClock, small_disk: Path
) -> None:
    device = Device(world, small_disk / "home", clock)
    installed = install(device)
    ballast = small_disk / "ballast"
    fill = ("sh", "-c", f"dd if=/dev/zero of={ballast} bs=4096 2>/dev/null || true")
    sick = world.release(2, {"rules": "r", "poison": "p"}, activate=fill, probes=(CALM,))
    world.publish(sick)
    device.run(lambda: device.installed() == sick.sha256)
    device.run(lambda: device.installed() == installed, turns=3)
    assert device.files() == {"rules": "good 1"}
    assert not device.reported("reverted")(), "there is no room for the report yet"
    ballast.unlink()
    device.run(device.reported("reverted"))
    assert device.good() == installed and (device.directory / "condemned" / sick.sha256).exists()
    device.agent.tools.server.close()


def test_a_cut_download_goes_on_where_it_stopped(world: World, device: Device) -> None:
    world.publish(world.release(1, {"rules": "good 1", "large": "y" * 300_000}))
    (payload,) = (world.repo / "payloads").iterdir()
    fetched = device.directory / "fetch"
    fetched.mkdir(parents=True)
    (fetched / f"{hashlib.sha256(payload.read_bytes()).hexdigest()}.part").write_bytes(payload.read_bytes()[:200_000])
    device.run(device.reported("confirmed"), begin=True)
    assert any(h.get("Range") == "bytes=200000-" for h in world.headers)


def test_an_idle_poll_is_two_small_requests(world: World, device: Device) -> None:
    install(device)
    device.turns(3)
    world.asked.clear()
    device.agent.tools.plans.refresh()
    assert len(world.asked) == 2 and world.asked[-1] == "metadata/timestamp.json"


def test_enrolment_is_repeatable_until_it_worked(world: World, tmp_path: Path) -> None:
    home = tmp_path / "new"
    real, world.root = world.root, world.root + b" "
    with pytest.raises(Untrusted, match="token pins"):
        enrol(home, world.address, world.token)
    world.root = real
    first = dict(world.devices)
    identity = enrol(home, world.address, world.token)
    assert list(world.devices.values()) == [*first.values()], "the same key is the same device"
    assert Home(home).load_identity() == identity
    assert (home / "identity.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Refused, match="enrolled already"):
        enrol(home, world.address, world.token)
    with pytest.raises(Untrusted, match="not known"):
        enrol(tmp_path / "other", world.address, world.token[:-1] + ("0" if world.token[-1] != "0" else "1"))
    assert layout.ROOT in (home / "root.json").read_text()
