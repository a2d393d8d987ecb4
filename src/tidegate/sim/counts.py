"""Tidegate, its certain rule alone, and the naive rule, played by counts: all replicates at once, up to 1e9 devices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tidegate.core.bounds import upper_bound
from tidegate.core.looks import LookPlan
from tidegate.core.window import RingCounts, certain_room, statistical_window
from tidegate.sim.outcome import Flags, Ints, Runs
from tidegate.sim.play import Play
from tidegate.sim.pools import Pools
from tidegate.sim.port import Policy
from tidegate.sim.rule import FleetMaker, looks_of
from tidegate.sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Tidegate:
    """The wider of the statistical and the certain rule; late devices on the certain rule with their own share.

    Where the statistical rule cannot reach everyone, or not sooner, the certain rule carries the whole fleet.
    """

    name: str = "tidegate"
    halting: bool = True
    waits: bool = True
    fleet: FleetMaker = Pools

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        looks = looks_of(scenario)
        if looks is None:
            return Certain(fleet=self.fleet).run(scenario, rng, replicates)
        return self.play(scenario, rng, replicates, scenario.budgets, looks)

    def play(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        replicates: int,
        budgets: tuple[int, int],
        looks: LookPlan | None,
    ) -> Runs:
        """Play under this rule with a split budget and the looks, if there are any."""
        return Play(scenario, rng, replicates, self, budgets, looks, self.fleet).run()

    def room(self, play: Play, who: Ints) -> Ints:
        return certain_room(play.exposed[who], play.confirmed[who], play.budget, play.first_ring)

    def late_room(self, play: Play, who: Ints) -> Ints:
        return certain_room(play.late_exposed[who], play.late_confirmed[who], play.late_budget, play.late_budget)

    def passes(self, play: Play, who: Ints, stage: int) -> Flags:
        if stage + 1 >= len(play.sizes) or play.looks is None:
            return np.zeros(len(who), dtype=np.bool_)
        rings = [RingCounts(*play.rings[k][:, who]) for k in range(stage + 1)]
        return np.asarray(statistical_window(play.looks, rings)) >= play.sizes[stage + 1]


@dataclass(frozen=True, slots=True)
class Certain(Tidegate):
    """The certain rule alone, for everyone, with the whole budget: late devices need no share of their own."""

    name: str = "certain"
    waits: bool = False

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        return self.play(scenario, rng, replicates, (scenario.rollout.max_harmed, 0), None)

    def room(self, play: Play, who: Ints) -> Ints:
        exposed = play.exposed[who] + play.late_exposed[who]
        return certain_room(exposed, play.confirmed[who] + play.late_confirmed[who], play.budget, play.first_ring)

    def late_room(self, play: Play, who: Ints) -> Ints:
        return self.room(play, who)


@dataclass(frozen=True, slots=True)
class Naive(Certain):
    """Each ring with a fresh budget of its own, certified from the ring before alone; never halts. It must fail.

    What one would write first: no ring harms more than `max_harmed`, and nobody adds them up.
    """

    name: str = "naive"
    halting: bool = False
    waits: bool = True

    def room(self, play: Play, who: Ints) -> Ints:
        m, c, y, x = play.last[:, who].astype(np.float64)
        terms = play.scenario.rollout
        rate = upper_bound(m[:, None], c[:, None], y[:, None], x[:, None], terms.alpha)
        fresh = np.floor((1.0 - terms.q_gate) * play.budget / rate)
        return np.where(m > 0, np.minimum(fresh, play.scenario.fleet.devices), play.first_ring).astype(np.int64)

    def late_room(self, play: Play, who: Ints) -> Ints:
        return np.full(len(who), play.budget, dtype=np.int64)


POLICIES: dict[str, Policy] = {one.name: one for one in (Tidegate(), Certain(), Naive())}
