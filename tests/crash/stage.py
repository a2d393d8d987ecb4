"""What is cut: a server, a device's home as it was before, and the ways on which the agent is sent."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.agent_device import CALM, HEALTHY
from tests.e2e.agent_server import COMPONENT, World

from tidegate.agent import guard
from tidegate.agent.clock import SystemClock
from tidegate.agent.config import Home, HomeLock
from tidegate.agent.enrol import enrol
from tidegate.agent.loop import Agent
from tidegate.agent.say import Log
from tidegate.agent.slots import slot_name
from tidegate.agent.tools import make_tools
from tidegate.core.device import State
from tidegate.core.model import Candidate, PlanState

from . import trace
from .trace import Fault, Ran

POLL_S = 0.05
PLAN_AGE_S = 120.0
OLD = {"rules": "old release\n" * 40, "lib/more": "old\n"}
NEW = {"rules": "new release\n" * 60, "lib/more": "new\n", "lib/deep/er": "only here\n"}
SICK = {**NEW, "poison": "x"}
ACTIVATE = ("test", "-e", "{current}/rules")


@dataclass(slots=True)
class Way:
    """One way through the device's table, from a home as it was before. `kind`: the outcome if nothing fails.

    `state`: of the plan that the server shows.
    """

    name: str
    kind: str
    before: Path
    candidate: Candidate
    new: dict[str, str]
    old: dict[str, str] | None
    old_digest: str | None
    arm: str = "treated"
    state: PlanState = PlanState.OPEN


class Stage:
    """One server and four homes, made once; each cut begins with a copy of one of them."""

    def __init__(self, place: Path) -> None:
        self.place, self.world = place, World(place / "world", lambda: int(time.time()))
        self.aside = place / "aside"
        self.aside.mkdir()
        self.said: dict[str, str] = {}
        """What the agent said on each way without a fault."""
        self._plan: tuple[object, ...] = ()
        world = self.world
        driver = {"driver": "command", "activate": ACTIVATE, "probes": (HEALTHY, CALM), "soak_s": 0}
        fresh, steady, trial = place / "fresh", place / "steady", place / "trial"
        old = world.release(1, OLD, **driver)
        world.publish(old)
        enrol(fresh, world.address, world.token, {}, {}, (), {}, POLL_S)
        shutil.copytree(fresh, steady, symlinks=True)
        self.revive(steady)
        self.oldest = place / "repo-oldest"
        shutil.copytree(world.repo, self.oldest)
        new, sick = world.release(2, NEW, **driver), world.release(3, SICK, **driver)
        slow = world.release(4, NEW, **{**driver, "soak_s": 500})
        first, sick_first = world.release(5, NEW, **driver), world.release(6, SICK, **driver)
        world.publish(old, state=world.plans[COMPONENT].state)
        for home in (fresh, steady):
            self.revive(home) if home is steady else self._look(home)
        shutil.copytree(steady, trial, symlinks=True)
        self.ways = {
            way.name: way
            for way in (
                Way("install", "confirmed", steady, new, NEW, OLD, old.sha256),
                Way("revert", "reverted", steady, sick, SICK, OLD, old.sha256),
                Way("placebo", "confirmed", steady, new, NEW, OLD, old.sha256, "placebo"),
                Way("first", "confirmed", fresh, first, NEW, None, None),
                Way("first-revert", "reverted", fresh, sick_first, SICK, None, None),
                Way("halted", "reverted", trial, slow, NEW, OLD, old.sha256, state=PlanState.HALTED),
                Way("guard", "reverted", trial, slow, NEW, OLD, old.sha256),
                Way("taken-back", "reverted", place / "taken-back", slow, NEW, OLD, old.sha256),
            )
        }
        self._put_on_trial(trial, slow)
        shutil.copytree(trial, place / "taken-back", symlinks=True)
        subprocess.run(guard_command(place / "taken-back"), stderr=subprocess.DEVNULL, check=True)
        self.recent = place / "repo-recent"

    def close(self) -> None:
        self.world.close()

    def begin(self, way: Way, home: Path) -> None:
        """Put the home as it was before, and the server too."""
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(way.before, home, symlinks=True)
        self.begin_server(way)

    def begin_server(self, way: Way) -> None:
        """Let the server forget all runs, and offer this way's candidate in a fresh plan."""
        world = self.world
        world.arm = way.arm
        for seen in (world.reports, world.announced, world.seqs):
            seen.clear()
        if way.before != self.place / "trial" and way.before != self.place / "taken-back":
            world.leases.clear()
        rollout = f"r{way.candidate.seq}"
        over = 200, {"retry_after_s": 5000, "reason": "window"}
        world.on_announce = lambda message: over if _reported(world, rollout) else None
        plan = way.candidate, way.state, time.time() // PLAN_AGE_S
        if self._plan != plan:  # always one fresh enough, never one too many
            shutil.rmtree(self.recent, ignore_errors=True)
            shutil.copytree(world.repo, self.recent)
            self._plan = plan
            world.publish(way.candidate, state=way.state)

    def send(
        self, way: Way, home: Path, fault: Fault | None = None, *, record: bool = False, within_s: float = 20.0
    ) -> Ran:
        """Let the agent go its way once, or the guard where that is what is cut."""
        if way.name == "guard":
            return trace.run(guard_command(home), self.aside, fault, record=record, within_s=within_s)
        return trace.run_agent(home, self.aside, fault, record=record, within_s=within_s)

    def revive(self, home: Path, within_s: float = 90.0, *, reported: bool = False) -> Agent:
        """Start the agent again, with nothing in its way, and let it go on until it is calm and all is sent.

        `reported`: and an outcome has arrived, however often it has to try, as on a machine that is busy.
        """
        agent = self._agent(home)
        give_up = time.monotonic() + within_s
        try:
            with HomeLock(Home(home)):
                agent.begin()
                agent.turn()
                while any(m.state not in (State.IDLE, State.READY) for m in agent.machines.values()) or (
                    agent.tools.outbox.waiting() or agent.tools.plans.trouble or (reported and not self.world.reports)
                ):
                    if time.monotonic() > give_up:
                        said = (self.aside / "revived.log").read_text()
                        raise AssertionError(f"it does not converge: {said[-2000:]}")
                    agent.tools.clock.sleep(max(0.0, agent.next_due_s() - agent.tools.clock.boot_s()))
                    agent.turn()
        finally:
            agent.tools.server.close()
        return agent

    @contextmanager
    def serving(self, repo: Path) -> Iterator[None]:
        """Serve older files, as an attacker would."""
        newest, self.world.repo = self.world.repo, repo
        try:
            yield
        finally:
            self.world.repo = newest

    def _agent(self, home: Path) -> Agent:
        with (self.aside / "revived.log").open("w"):
            pass
        log = (self.aside / "revived.log").open("a", buffering=1)
        return Agent(make_tools(Home(home), Log(log), SystemClock(), random.Random(5)))

    def _look(self, home: Path) -> None:
        tools = self._agent(home).tools
        assert tools.plans.refresh(), tools.plans.trouble
        tools.server.close()

    def _put_on_trial(self, home: Path, slow: Candidate) -> None:
        """A home whose candidate runs unconfirmed, and whose guard has counted all starts that it allows."""
        self.world.publish(slow)
        agent = self._agent(home)
        agent.begin()
        agent.turn()
        machine = agent.machines[COMPONENT]
        assert machine.state is State.PROBING, machine.sentence
        agent.tools.server.close()
        path = home / "components" / COMPONENT / "guard.json"
        guard.write(path, {**(guard.read(path) or {}), "starts": guard.STARTS_ALLOWED})


def _reported(world: World, rollout: str) -> bool:
    return any(report["lease_id"].startswith(f"{rollout}:") for report in world.reports)


def guard_command(home: Path) -> list[str]:
    """The guard in front of the protected component, as the machine starts it."""
    directory = home / "components" / COMPONENT
    return [sys.executable, "-S", "-E", str(guard.__file__), "--component-dir", str(directory), "--", "true"]


def slot(home: Path, digest: str) -> Path:
    return home / "components" / COMPONENT / "slots" / slot_name(digest)
