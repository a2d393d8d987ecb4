"""A machine's parts, and a device that is just about to start anew with a release on trial."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.agent_device import Device, HandClock
from tests.e2e.agent_server import World

from tidegate.agent.config import Home
from tidegate.agent.slots import Slots, slot_name
from tidegate.core.device import State
from tidegate.core.model import Candidate

from .machine import Parts, need_tools, read_disk, write_disk
from .parts import Missing, initramfs, kernel

COMPONENT = "edr-rules"
GOOD = {"rules": "rule beacon 3 evil.*\nrule pipe 20 .*\n"}
FAULTY = {"rules": "rule beacon 3 evil.*\nrule pipe 21 .*\n"}
"""As on 19 July 2024: a rule that reads one field more than the sensor hands over."""


class Clock(HandClock):
    """Hurries through soaks, but says the hour that the agent's own process will see."""

    def wall(self) -> float:
        return time.time()


@dataclass
class Trial:
    """A device whose agent has moved the pointer to a candidate, armed the guard, and is about to restart."""

    world: World
    home: Path
    good: str
    candidate: Candidate

    def disk(self, place: Path) -> Path:
        return write_disk(self.home, place / "disk.img")

    def after(self, disk: Path) -> After:
        return After(self.world, Home(read_disk(disk, disk.with_suffix(".home"))))


@dataclass
class After:
    """The device's home, as the machine left it."""

    world: World
    home: Home

    @property
    def slots(self) -> Slots:
        return Slots(self.home.component(COMPONENT))

    def agent(self) -> list[dict[str, Any]]:
        """Let the real agent run through one poll, as a process; give the reports that arrived meanwhile."""
        before = len(self.world.reports)
        command = [sys.executable, "-m", "tidegate.agent", "--home", str(self.home.path), "--once"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr[-3000:]
        return self.world.reports[before:]


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("the machine is made of Debian's kernel for x86-64")
    try:
        need_tools()
        return Parts(kernel(), initramfs(tmp_path_factory.mktemp("vm") / "initramfs.cpio"))
    except Missing as missing:
        pytest.skip(f"no machine can be built here: {missing}")


def make_trial(place: Path, first: dict[str, str] | None, second: dict[str, str]) -> Iterator[Trial]:
    """Bring a device, by its own agent, to where the second release runs on trial; then its agent is gone."""
    world = World(place / "world", lambda: int(time.time()))
    device = Device(world, place / "home", Clock())
    good = ""
    if first is not None:
        before = world.release(1, first)
        good = before.sha256
        world.publish(before)
        device.run(lambda: "r1" in device.confirmed(), begin=True)
    candidate = world.release(2, second)
    world.publish(candidate)
    device.run(lambda: device.state() is State.PROBING, begin=first is None)
    device.agent.tools.server.close()
    shutil.rmtree(device.directory / "work", ignore_errors=True)
    assert device.machine.slots.guard_state()["armed"] is True and device.installed() == candidate.sha256
    yield Trial(world, place / "home", slot_name(good), candidate)
    world.close()


@pytest.fixture(scope="module")
def faulty(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    yield from make_trial(tmp_path_factory.mktemp("faulty"), GOOD, FAULTY)


@pytest.fixture
def first(parts: Parts, tmp_path: Path) -> Iterator[Trial]:
    yield from make_trial(tmp_path, None, FAULTY)


@pytest.fixture
def sound(parts: Parts, tmp_path: Path) -> Iterator[Trial]:
    yield from make_trial(tmp_path, GOOD, {"rules": GOOD["rules"] + "rule later 7 x\n"})
