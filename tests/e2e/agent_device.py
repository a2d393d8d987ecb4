"""One enrolled device for the agent's tests: real files, real HTTP, and a clock that is moved by hand."""

from __future__ import annotations

import io
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tidegate.agent.config import Home
from tidegate.agent.enrol import enrol
from tidegate.agent.loop import Agent
from tidegate.agent.machine import Machine
from tidegate.agent.say import Log
from tidegate.agent.tools import make_tools
from tidegate.core.device import State

from .agent_server import COMPONENT, World

HEALTHY = ("test", "-e", "{current}/rules")
CALM = ("test", "!", "-e", "{current}/poison")
"""Probes: every good release has rules, and none has poison."""


@contextmanager
def quick_directory() -> Iterator[Path]:
    """A directory whose syncs cost nothing, where the system has one: these tests cut the power by other means."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    with tempfile.TemporaryDirectory(prefix="tidegate-test-", dir=memory if usable else None) as name:
        yield Path(name)


class HandClock:
    """Time that passes only in `sleep`, so that a soak of minutes is tested in no time."""

    def __init__(self) -> None:
        self.boot_id = "boot-1"
        self.began = time.time()
        self.passed_s = 1000.0
        self.skew_s = 0.0

    def wall(self) -> float:
        return self.began + self.passed_s + self.skew_s

    def boot_s(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        self.passed_s += max(0.0, seconds)


class Device:
    """A home, and the agent that runs on it; `restart` is what a crash leaves: files alone."""

    def __init__(self, world: World, home: Path, clock: HandClock, settings: dict[str, dict[str, str]] | None = None):
        self.world, self.clock, self.home = world, clock, Home(home)
        self.identity = enrol(home, world.address, world.token, {}, {}, (), settings or {}, 1.0)
        self.agent = self.restart()

    def restart(self) -> Agent:
        if hasattr(self, "agent"):
            self.agent.tools.server.close()
        self.log = io.StringIO()
        tools = make_tools(self.home, Log(self.log), self.clock, random.Random(7))
        tools.power = self.home.path / "no-power-supplies"
        self.agent = Agent(tools)
        return self.agent

    def run(self, until: Callable[[], bool], *, begin: bool = False, turns: int = 300) -> None:
        """Let the agent go on until something holds; fail if it does not after so many turns."""
        if begin:
            self.agent.begin()
        for _ in range(turns):
            if until():
                return
            self.agent.turn()
            self.clock.sleep(max(0.0, self.agent.next_due_s() - self.clock.boot_s()))
        raise AssertionError(f"not reached; {self.status()['sentence']}\n{self.log.getvalue()[-3000:]}")

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.agent.turn()
            self.clock.sleep(max(0.0, self.agent.next_due_s() - self.clock.boot_s()))

    def install(self, seq: int = 1) -> str:
        """Bring a good release to the device, to its end; give its digest."""
        candidate = self.world.release(seq, {"rules": f"good {seq}"}, probes=(HEALTHY, CALM))
        self.world.publish(candidate)
        self.run(lambda: f"r{seq}" in self.confirmed(), begin=not self.agent.machines)
        assert self.installed() == self.good() == candidate.sha256
        return candidate.sha256

    @property
    def machine(self) -> Machine:
        return self.agent.machines[COMPONENT]

    @property
    def directory(self) -> Path:
        return self.home.component(COMPONENT)

    def state(self) -> State:
        return self.machine.state if COMPONENT in self.agent.machines else State.IDLE

    def installed(self) -> str | None:
        return self.machine.slots.current()

    def good(self) -> str | None:
        return self.machine.slots.good()

    def reported(self, kind: str, count: int = 1) -> Callable[[], bool]:
        return lambda: len([k for _, k in self.world.kinds() if k == kind]) >= count

    def status(self) -> dict[str, Any]:
        return json.loads(self.home.status_file.read_text())

    def confirmed(self) -> list[str]:
        """The rollouts whose confirmation arrived, once the agent is idle again."""
        if self.state() is not State.IDLE:
            return []
        return [lease.split(":")[0] for lease, kind in self.world.kinds() if kind == "confirmed"]

    def files(self) -> dict[str, str]:
        """What the protected component reads now."""
        current = self.directory / "current"
        return {p.name: p.read_text() for p in sorted(current.iterdir()) if not p.name.startswith(".")}
