"""A clock that lies: wrong by years, jumping, standing still. Nothing expired is believed, nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tidegate.agent.enrol import enrol
from tidegate.trust.errors import ClockWrong
from tidegate.trust.signed_time import SignedTime

from .agent_device import Device, HandClock, quick_directory
from .agent_server import World

YEARS_S = 10 * 365 * 86_400.0


class LyingClock(HandClock):
    """`true` is the hour it is; what the device's wall clock says is that and `skew_s`, or where it stopped."""

    stopped_at: float | None = None

    def true(self) -> float:
        return self.began + self.passed_s

    def wall(self) -> float:
        return self.true() + self.skew_s if self.stopped_at is None else self.stopped_at


@pytest.fixture
def clock() -> LyingClock:
    return LyingClock()


@pytest.fixture
def world(place: Path, clock: LyingClock) -> Iterator[World]:
    made = World(place / "world", lambda: int(clock.true()))
    yield made
    made.close()


def refuses(world: World, device: Device, says: str, turns: int = 6) -> None:
    """A release is announced, and the device stays on what it has, and says why."""
    had, asked = device.installed(), len(world.announced)
    device.turns(turns)
    assert says in device.status()["sentence"]
    assert device.installed() == device.good() == had and len(world.announced) == asked


LIES = [
    pytest.param(YEARS_S, "by this machine's clock, which says 20", id="years-ahead"),
    pytest.param(-YEARS_S, "behind a time that was signed; set it right", id="years-behind"),
    pytest.param(-3600.0, "behind a time that was signed; set it right", id="an-hour-back"),
]


@pytest.mark.parametrize(("skew_s", "says"), LIES)
def test_a_wrong_clock_stops_the_next_release_and_a_right_one_takes_it(
    world: World, device: Device, clock: LyingClock, skew_s: float, says: str
) -> None:
    device.install()
    clock.skew_s = skew_s
    candidate = world.release(2, {"rules": "good 2"})
    world.publish(candidate)
    refuses(world, device, says)
    assert device.files() == {"rules": "good 1"}
    device.restart().begin()  # the same after a restart: what was signed is known durably
    refuses(world, device, says)
    clock.skew_s = 0.0
    world.publish(candidate)
    device.run(lambda: "r2" in device.confirmed())


@pytest.mark.parametrize("skew_s", [YEARS_S, -YEARS_S], ids=["ahead", "behind"])
def test_a_device_whose_first_hour_is_wrong_takes_nothing_until_it_is_right(
    world: World, device: Device, clock: LyingClock, skew_s: float
) -> None:
    clock.skew_s = skew_s
    candidate = world.release(1, {"rules": "good 1"})
    world.publish(candidate)
    device.agent.begin()
    device.turns(4)
    assert world.announced == [] and "clock" in device.status()["sentence"]
    clock.skew_s = 0.0
    world.publish(candidate)
    device.run(lambda: "r1" in device.confirmed())


@pytest.mark.parametrize("skew_s", [YEARS_S, -YEARS_S], ids=["ahead", "behind"])
def test_a_clock_that_jumps_in_a_soak_harms_nothing(
    world: World, device: Device, clock: LyingClock, skew_s: float
) -> None:
    """The soak runs on what passes, and what was confirmed is kept and reported."""
    candidate = world.release(1, {"rules": "good 1"}, soak_s=30)
    world.publish(candidate)
    device.run(lambda: device.state().name == "PROBING", begin=True)
    began_s, clock.skew_s = clock.boot_s(), skew_s
    device.run(device.reported("confirmed"))
    assert 29 <= clock.boot_s() - began_s < 60 and device.good() == candidate.sha256


def test_under_a_lease_a_clock_that_jumps_moves_no_pointer(world: World, device: Device, clock: LyingClock) -> None:
    had = device.install()
    candidate = world.release(2, {"rules": "good 2"})
    world.publish(candidate)

    def lease_then_jump(message: dict[str, Any]) -> None:
        clock.skew_s = YEARS_S

    world.on_announce = lease_then_jump
    device.run(lambda: device.state().name == "APPLYING")
    device.turns(8)
    assert device.installed() == had and "clock" in device.status()["sentence"]
    world.on_announce = lambda message: None
    clock.skew_s = 0.0
    world.publish(candidate)
    device.run(lambda: "r2" in device.confirmed())


def test_a_clock_that_stands_still_believes_nothing_that_has_expired(
    world: World, device: Device, clock: LyingClock
) -> None:
    """Whoever keeps the old files before such a device cannot make it take a release that was stopped since."""
    device.install()
    world.publish(world.release(2, {"rules": "good 2"}), announce_rank="0" * 16)  # not this device's turn yet
    device.turns(2)
    clock.stopped_at = clock.true() + 100
    clock.passed_s += 590
    device.turns(1)
    assert "turn has not come" in device.status()["sentence"]
    clock.passed_s += 20  # the plan ends after 600 s by the hour that it must be, 500 s before what the clock says
    refuses(world, device, "expired", turns=3)
    clock.passed_s += 600
    refuses(world, device, "behind a time that was signed", turns=3)
    clock.stopped_at = None
    device.install(3)


def test_what_must_have_passed_counts() -> None:
    wall, passed = [1000.0], [5.0]
    time_ = SignedTime(lambda: int(wall[0]), lambda: passed[0])
    assert (time_.least_s, time_.now()) == (0, 1000)
    time_.saw(900)
    passed[0] += 150
    assert (time_.least_s, time_.now()) == (1050, 1050)
    time_.saw(1040)  # older than what is known: nothing new
    passed[0] += 551
    with pytest.raises(ClockWrong, match="601 s behind"):
        time_.now()
    wall[0] = 1001
    assert time_.now() == 1601
    time_.forget()
    assert time_.now() == 1001
    still = SignedTime(lambda: 10, None)
    still.saw(400)
    assert still.now() == 400


LIAR = """
import pathlib, runpy, sys, time
true, said = time.time, pathlib.Path(sys.argv.pop(1))
time.time = lambda: true() + float(said.read_text())
runpy.run_module("tidegate.agent", run_name="__main__")
"""
"""Runs the agent as it is, on a wall clock that lies by the seconds that a file names at the moment."""


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_directory() as directory:
        yield directory


def test_a_real_agent_stays_on_what_it_has_and_says_so(place: Path) -> None:
    world = World(place / "server", lambda: int(time.time()))
    home, lie = place / "home", place / "lie"
    enrol(home, world.address, world.token, {}, {}, (), {}, 0.1)
    lie.write_text("0")
    command = [sys.executable, "-c", LIAR, str(lie), "--home", str(home)]
    agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def status() -> dict[str, Any]:
        found = home / "status.json"
        return json.loads(found.read_text()) if found.exists() else {"sentence": "", "installed": None}

    def until(holds: Callable[[], bool]) -> None:
        give_up = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < give_up and agent.poll() is None, status()
            time.sleep(0.02)

    try:
        first = world.release(1, {"rules": "good 1"}, soak_s=1)
        world.publish(first)
        until(lambda: world.kinds() == [("r1:1:0", "confirmed")])
        second = world.release(2, {"rules": "good 2"}, soak_s=1)
        for skew_s, says in ((YEARS_S, "by this machine's clock"), (-YEARS_S, "behind a time that was signed")):
            partial = lie.with_suffix(".new")
            partial.write_text(str(skew_s))
            partial.replace(lie)
            until(lambda says=says: says in status()["sentence"])
            world.publish(second)
            time.sleep(0.5)
            assert status()["installed"] == first.sha256 and len(world.announced) == 1
        said = subprocess.run(
            [sys.executable, "-m", "tidegate", "agent", "status", "--home", str(home)],
            capture_output=True, text=True, check=True, timeout=60, env={"COLUMNS": "400", "PATH": ""},
        ).stdout  # fmt: skip
        assert "this machine's clock is" in said and "set it right" in said, said
        lie.write_text("0")
        world.publish(second)
        until(lambda: status()["installed"] == second.sha256)
    finally:
        agent.kill()
        agent.wait()
        world.close()
