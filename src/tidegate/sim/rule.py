"""What the rules of Tidegate's family decide in a play by counts or columns, and the looks that are planned for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tidegate.core.looks import LookPlan, certain_ring_count, plan_looks
from tidegate.sim.batch import Arrivals, Fleet
from tidegate.sim.outcome import Flags, Ints
from tidegate.sim.port import OWN
from tidegate.sim.scenario import Scenario

if TYPE_CHECKING:
    from tidegate.sim.play import Play

FleetMaker = Callable[[Scenario, Arrivals, np.random.Generator, int], Fleet]


class Rule(Protocol):
    """What a rule of Tidegate's family decides, for the replicates `who`."""

    @property
    def halting(self) -> bool:
        """Whether evidence of harm ends the rollout."""
        ...

    @property
    def waits(self) -> bool:
        """Whether the next batch waits until this one's evidence is frozen; if not, until its leases have run out."""
        ...

    def room(self, play: Play, who: Ints) -> Ints:
        """Leases that may be granted now where no planned ring is open."""
        ...

    def late_room(self, play: Play, who: Ints) -> Ints:
        """Leases that may be granted now to late devices."""
        ...

    def passes(self, play: Play, who: Ints, stage: int) -> Flags:
        """Whether the look at the end of planned ring `stage` opens the next as a whole."""
        ...


Terms = tuple[int, int, float, float, float, float, int, float]
"""What the looks follow from: not the seed, so that runs of one scenario share them."""
_KNOWN: dict[Terms, LookPlan | None] = {}
"""What another process has planned for this one."""


def planned(scenario: Scenario) -> tuple[Scenario, LookPlan | None]:
    """Give what another process should know, so that it need not plan the same again."""
    return scenario, looks_of(scenario) if scenario.rollout.policy in OWN else None


def know(scenario: Scenario, looks: LookPlan | None) -> None:
    """Take over what another process has planned."""
    _KNOWN[_terms(scenario)] = looks


def looks_of(scenario: Scenario) -> LookPlan | None:
    """Plan the looks as the planner does before a rollout starts; None where the certain rule carries the fleet."""
    terms = _terms(scenario)
    return _KNOWN[terms] if terms in _KNOWN else _looks(terms)


def _terms(scenario: Scenario) -> Terms:
    terms = scenario.rollout
    return (
        scenario.fleet.devices,
        scenario.budgets[0],
        terms.confidence,
        terms.placebo_per_treated,
        scenario.background.rate,
        terms.q_gate,
        scenario.first_ring,
        1.0 if scenario.late is None else 1.0 - scenario.late.share,
    )


@lru_cache(maxsize=256)
def _looks(terms: Terms) -> LookPlan | None:
    looks = plan_looks(*terms[:7], attendance=terms[7])
    sooner = looks.rings < certain_ring_count(looks.devices, looks.max_harmed, looks.canary)
    return looks if looks.feasible and sooner else None
