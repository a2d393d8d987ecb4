"""Every message: one device, announcement, lease and report at a time, through the shipped server and table."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tidegate.control.state import fold
from tidegate.core.assign import rank
from tidegate.core.model import PlanState
from tidegate.log.events import decode
from tidegate.sim.messages_checks import Checks
from tidegate.sim.messages_start import begin
from tidegate.sim.messages_world import World
from tidegate.sim.outcome import Ending, Recorder, Runs, Series
from tidegate.sim.scenario import Scenario, scenario_line


@dataclass(frozen=True, slots=True)
class MessageRun:
    """One run: what `Runs` keeps of it, and what only messages can tell.

    Attributes:
        harmed: exposed devices that the candidate harms.
        ending, coverage_s, false_halt, series: as in `Runs`.
        events, messages, deaths, rings: durable events, messages sent, deaths of the server, rings opened.
        confirmed, exposed: at the end.
        sentence: what the server said last.
        digest: SHA-256 of the log: two runs are the same if and only if it is.
    """

    harmed: int
    ending: Ending
    coverage_s: float
    false_halt: bool
    series: Series | None
    events: int
    messages: int
    deaths: int
    rings: int
    exposed: int
    confirmed: int
    sentence: str
    digest: str


def play(scenario: Scenario, seed: int) -> MessageRun:
    """Play one scenario once, with every invariant checked at every event. The same seed gives the same run.

    Raises:
        BadInput: for a scenario that messages cannot play.
        Broken: if something that must always hold did not; it names the command that plays this run again.
    """
    world = make_world(scenario, seed)
    recorder = Recorder()
    points = _points(world, recorder)
    world.timeline.at(world.start.begin_ms, world.server.tick_at, world.start.begin_ms)

    def ended() -> bool:
        points()
        return world.over() or _everyone_is_through(world)

    deadline_ms = world.start.begin_ms + round(scenario.rollout.rollout_deadline_s * 1000)
    world.timeline.run(deadline_ms, ended)
    if not world.server.up:
        world.server.rise()
    world.checks.same(fold(decode(line) for line in world.server.log))
    return _result(world, recorder)


def make_world(scenario: Scenario, seed: int) -> World:
    """Set a scenario up, ready to run."""
    start = begin(scenario, np.random.default_rng(seed))
    ranks = rank(bytes.fromhex(start.spec.order_salt), start.keys)
    checks = Checks(start.spec, ranks, start.harmed, replay_command(scenario, seed))
    return World(scenario, start, random.Random(seed), checks)


def replay_command(scenario: Scenario, seed: int) -> str:
    """Give the command that plays one run again, wherever the scenario came from."""
    return f"replay: {scenario_line(scenario)} --fidelity messages --replicates 1 --seed {seed}"


def _points(world: World, recorder: Recorder) -> Callable[[], None]:
    """Keep a point of the series whenever somebody was exposed or confirmed, but not more than a thousand a window."""
    last = [-1, -1, -1]
    gap_ms = max(1, round(world.observe_s))

    def add() -> None:
        checks, now_ms = world.checks, world.timeline.now_ms
        if (checks.exposed, checks.confirmed) == (last[0], last[1]) or now_ms < last[2] + gap_ms:
            return
        last[:] = [checks.exposed, checks.confirmed, now_ms]
        opened = sum(ring.treated for ring in checks.rings) + checks.late_exposed
        t_s = (now_ms - world.start.begin_ms) / 1000
        recorder.add(t_s, checks.exposed, checks.confirmed, checks.harmed, max(opened, checks.exposed))

    return add


def _everyone_is_through(world: World) -> bool:
    """Say whether everyone has been exposed, every lease has ended or run out, and no living device has more to say.

    Devices that fell silent for their own reasons never confirm; the server then waits for ever, and rightly so.
    """
    checks, server = world.checks, world.server
    if checks.exposed < len(world.devices) or not server.up:
        return False
    rollout, now_ms = server.rollout, world.timeline.now_ms
    if len(rollout.closed) < rollout.ring_open or rollout.evidence.waiting(now_ms, rollout.observe_ms):
        return False
    return not any(device.outbox for device in world.devices if not device.fate.dead)


def _result(world: World, recorder: Recorder) -> MessageRun:
    checks, scenario, server = world.checks, world.scenario, world.server
    ending = Ending.HELD
    if server.rollout.phase is PlanState.HALTED:
        ending = Ending.HALTED
    elif server.rollout.phase is PlanState.CLOSED or _everyone_is_through(world):
        ending = Ending.COMPLETED
    last_ms = checks.last_confirmed_ms or world.timeline.now_ms  # where nobody confirmed: when the last lease ran out
    coverage_s = (last_ms - world.start.begin_ms) / 1000
    return MessageRun(
        harmed=checks.harmed,
        ending=ending,
        coverage_s=coverage_s if ending is Ending.COMPLETED else math.nan,
        false_halt=ending is Ending.HALTED and scenario.good,
        series=recorder.series(),
        events=checks.events,
        messages=world.network.sent,
        deaths=server.deaths,
        rings=server.rollout.ring_open,
        exposed=checks.exposed,
        confirmed=checks.confirmed,
        sentence=server.rollout.sentence,
        digest=hashlib.sha256(b"\n".join(server.log)).hexdigest(),
    )


@dataclass(frozen=True, slots=True)
class MessagePolicy:
    """Tidegate, or the certain rule alone, by messages. Replicate k of a scenario with seed s is `play(..., s + k)`."""

    name: str

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        """Play so many runs. The seeds come from the scenario, not from `rng`, so that each can be played alone."""
        del rng
        terms = replace(scenario.rollout, policy=self.name)
        runs = [play(replace(scenario, rollout=terms), scenario.seed + k) for k in range(replicates)]
        return Runs(
            harmed=np.array([run.harmed for run in runs], dtype=np.int64),
            verdict=np.array([run.ending for run in runs], dtype=np.int8),
            coverage_s=np.array([run.coverage_s for run in runs], dtype=np.float64),
            false_halt=np.array([run.false_halt for run in runs], dtype=np.bool_),
            series=runs[0].series,
        )


POLICIES = {name: MessagePolicy(name) for name in ("tidegate", "certain")}
