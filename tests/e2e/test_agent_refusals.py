"""What the agent does not do: wrong payloads, old or forged plans, full disks, too much at once; and how it enrols."""

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
from tidegate.trust import layout

from .agent_device import CALM, Device, HandClock
from .agent_server import COMPONENT, World


def test_a_payload_with_a_wrong_digest_is_refused(world: World, device: Device) -> None:
    installed = device.install()
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
    installed = device.install()
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
    installed = device.install()
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
    device.install()
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
    installed = device.install()
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
    installed = device.install()
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


def test_a_new_candidate_need_not_wait_for_the_failed_one(world: World, device: Device) -> None:
    device.install()
    world.publish(world.release(2, {"rules": "x"}, driver="no-such-driver"))
    device.run(lambda: "no driver" in device.status()["sentence"])
    device.machine.retry_at_s = device.clock.boot_s() + 100_000
    device.install(3)


def test_a_long_download_lets_the_others_go_on(world: World, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.agent.effects.SLICE_S", 0.0)
    world.publish(world.release(1, {"rules": "good 1", "large": "y" * 400_000}))
    device.agent.begin()
    device.agent.turn()
    assert device.state() is State.FETCHING and "fetches 1.1: " in device.status()["sentence"]
    device.run(device.reported("confirmed"))


def test_a_cut_download_goes_on_where_it_stopped(world: World, device: Device) -> None:
    world.publish(world.release(1, {"rules": "good 1", "large": "y" * 300_000}))
    (payload,) = (world.repo / "payloads").iterdir()
    fetched = device.directory / "fetch"
    fetched.mkdir(parents=True)
    (fetched / f"{hashlib.sha256(payload.read_bytes()).hexdigest()}.part").write_bytes(payload.read_bytes()[:200_000])
    device.run(device.reported("confirmed"), begin=True)
    assert any(h.get("Range") == "bytes=200000-" for h in world.headers)


def test_an_idle_poll_is_two_small_requests(world: World, device: Device) -> None:
    device.install()
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
