"""The promise measured: how often the budget is broken, by the shipped rule and by rules with a bug."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from bench.rows import Row
from tidegate.core.window import RingCounts, statistical_window
from tidegate.sim.counts import Certain, Tidegate
from tidegate.sim.outcome import Ending, Flags, Ints, summarise
from tidegate.sim.play import Play
from tidegate.sim.port import load_policy
from tidegate.sim.rule import looks_of
from tidegate.sim.scenario import Scenario, scenario_of

FLEET = 8_500_000
ALPHA = 0.05
BUDGETS = (100, 850, 8500)
RATES = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
NEVER_HALTS = 1e-300
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class SpendsNoAlpha(Tidegate):
    """A bug: each look is passed by what is likely rather than by what is proven (alpha 0.9 at every look)."""

    name: str = "spends no alpha"

    def passes(self, play: Play, who: Ints, stage: int) -> Flags:
        if stage + 1 >= len(play.sizes) or play.looks is None:
            return np.zeros(len(who), dtype=np.bool_)
        loose = replace(play.looks, look_alpha=0.9)
        rings = [RingCounts(*play.rings[k][:, who]) for k in range(stage + 1)]
        return np.asarray(statistical_window(loose, rings)) >= play.sizes[stage + 1]


@dataclass(frozen=True, slots=True)
class ReadsMidRing(Tidegate):
    """A bug: the newest ring is read when half of its leases have run out, and who is silent so far counts as fine."""

    name: str = "reads mid-ring"

    def passes(self, play: Play, who: Ints, stage: int) -> Flags:
        if stage + 1 >= len(play.sizes) or play.looks is None:
            return np.zeros(len(who), dtype=np.bool_)
        rings = [RingCounts(*play.rings[k][:, who]) for k in range(stage + 1)]
        m, c, y, x = play.rings[stage][:, who]
        rings[-1] = RingCounts(m, c, y // 2, x // 2)
        return np.asarray(statistical_window(play.looks, rings)) >= play.sizes[stage + 1]


RULES = {
    rule.name: rule for rule in (Tidegate(halting=False), SpendsNoAlpha(halting=False), ReadsMidRing(halting=False))
}


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the table: a rule on a fleet, over a grid of harm rates, perhaps with a fault."""

    name: str
    max_harmed: int
    q: float
    rule: str = "tidegate"
    late: bool = False
    fault: Mapping[str, Any] | None = None

    def scenario(self, p: float) -> Scenario:
        """The scenario at one harm rate; where late devices alone are harmed it is their rate."""
        tables: dict[str, Any] = {"fleet": {"devices": FLEET}}
        if self.fault:
            tables["fault"] = [dict(self.fault)]
        tables["background"] = {"silent_rate": self.q}
        tables["defect"] = {"harm_rate": 0.0 if self.late else p}
        if self.late:
            tables["late"] = {"share": 0.2, "return_s": 3600, "harm_rate": p}
        tables["rollout"] = {
            "max_harmed": self.max_harmed,
            "confidence": 1.0 - ALPHA,
            "false_halt": NEVER_HALTS,
            "rollout_deadline_s": DAY_S / 4,
        }
        return scenario_of(tables)

    def grid(self, points: int) -> list[float]:
        """Harm rates on a log grid 1e-7 to 1, and, for each pair of looks, the rates that could slip between them."""
        found = set(np.geomspace(1e-7, 1.0, points)) if points else {1.0}
        looks = looks_of(self.scenario(1.0))
        for size in looks.sizes[1:] if looks else ():
            found |= {(self.max_harmed + 1) / size * factor for factor in (1.0, 1.05, 1.15)}
        return sorted({min(1.0, float(p)) for p in found})


@dataclass(frozen=True, slots=True)
class Worst:
    """The worst point of a case: the share of broken promises there, and the rate of harm at it."""

    case: Case
    broken: float
    at: float
    points: int
    replicates: int

    @property
    def tolerance(self) -> float:
        """What chance alone adds to alpha at the worst of so many points: four standard deviations."""
        return ALPHA + 4.0 * math.sqrt(ALPHA * (1.0 - ALPHA) / self.replicates)


def worst_of(case: Case, replicates: int, points: int, seed: int = 1) -> Worst:
    """Play a case over its grid.

    Args:
        case: what to play.
        replicates: runs at each harm rate.
        points: harm rates on the log grid, 0 for those between the looks alone.
        seed: of all of it.
    """
    found: list[tuple[float, float]] = []
    grid = case.grid(points)
    rule = RULES.get(case.rule) or load_policy(case.rule)
    for p, one in zip(grid, np.random.SeedSequence(seed).spawn(len(grid)), strict=True):
        runs = rule.run(case.scenario(p), np.random.default_rng(one), replicates)
        found.append((float(np.mean(runs.harmed > case.max_harmed)), p))
    broken, at = max(found)
    return Worst(case, broken, at, len(grid), replicates)


def restarts(max_harmed: int, p: float, replicates: int, *, fresh: bool, attempts: int = 4) -> float:
    """Share of broken promises when an operator ends each attempt in its second ring and starts the candidate again.

    The shipped rule binds budget, evidence and alpha to the candidate: a new order of exposure goes by the certain
    rule, within what the unconfirmed devices of earlier attempts leave. With `fresh` each attempt gets a new budget.
    """
    case = Case("restart", max_harmed, 0.0).scenario(p)
    scenario = replace(case, rollout=replace(case.rollout, rollout_deadline_s=1.5 * case.rollout.observe_s))
    rng = np.random.default_rng(3)
    first = _attempt(scenario, Tidegate(), rng, replicates)
    harmed, left = first.harmed.copy(), max_harmed - (first.exposed - first.confirmed)
    for _ in range(attempts - 1):
        if fresh:
            harmed += _attempt(scenario, Tidegate(), rng, replicates).harmed
            continue
        for budget in np.unique(left[left > 0]):
            mine = np.flatnonzero(left == budget)
            lesser = replace(scenario, rollout=replace(scenario.rollout, max_harmed=int(budget)))
            again = _attempt(lesser, Certain(), rng, len(mine))
            harmed[mine] += again.harmed
            left[mine] -= again.exposed - again.confirmed
    return float(np.mean(harmed > max_harmed))


def worst_restarts(max_harmed: int, replicates: int, points: int, *, fresh: bool) -> tuple[float, float]:
    """Give the worst share of broken promises by restarts over a log grid of harm rates, and the rate there."""
    return max(
        (restarts(max_harmed, float(p), replicates, fresh=fresh), float(p)) for p in np.geomspace(1e-5, 1, points)
    )


def _attempt(scenario: Scenario, rule: Tidegate, rng: np.random.Generator, replicates: int) -> Play:
    looks = None if isinstance(rule, Certain) else looks_of(scenario)
    play = Play(scenario, rng, replicates, rule, (scenario.rollout.max_harmed, 0), looks, rule.fleet)
    play.run()
    return play


def false_halts(q: float, replicates: int, bound: float = ALPHA, outage: bool = False) -> float:
    """Share of good updates that are halted, looked at after every report."""
    tables: dict[str, Any] = {
        "fleet": {"devices": FLEET},
        "background": {"silent_rate": q, "reverted_rate": 1e-6},
        "defect": {"harm_rate": 0.0},
        "rollout": {"max_harmed": 8500, "false_halt": bound, "reverted_bound": 1e-6},
    }
    if outage:
        tables["fault"] = [{"share": 0.5, "start_s": 300, "duration_s": 4000}]
    runs = load_policy("tidegate").run(scenario_of(tables), np.random.default_rng(5), replicates)
    return float(np.mean(runs.verdict == Ending.HALTED))


FAULTS: dict[str, dict[str, Any]] = {
    "outage of half": {"kind": "telemetry_outage", "share": 0.5, "start_s": 300, "duration_s": 4000},
    "outage below the gate": {"kind": "telemetry_outage", "share": 0.03, "start_s": 300, "duration_s": 4000},
    "partition": {"kind": "partition", "share": 0.3, "start_s": 300, "duration_s": 4000},
    "sites down": {"kind": "site_down", "share": 0.2, "start_s": 300, "duration_s": 4000},
}


def kept_cases() -> list[Case]:
    """The cases in which the promise must hold."""
    plain = [Case("no fault", budget, q) for budget in BUDGETS for q in RATES]
    late = [Case("late devices alone are harmed", budget, q, late=True) for budget in BUDGETS for q in (0.0, 1e-4)]
    pairs = ((100, 0.0), (850, 1e-4), (8500, 1e-3))
    return [*plain, *late, *[Case(name, *pair, fault=fault) for name, fault in FAULTS.items() for pair in pairs]]


def broken_cases() -> list[Case]:
    """Rules with a bug, in which it must not: each must break it far more often than alpha."""
    return [
        Case("each ring its own budget", 850, 1e-4, "naive"),
        Case("spends no alpha", 850, 1e-4, "spends no alpha"),
        Case("reads mid-ring", 850, 1e-4, "reads mid-ring"),
    ]


def measure(cases: Iterable[Case], replicates: int, points: int, processes: int = 2) -> list[Worst]:
    """Play many cases, in several processes if asked."""
    found = list(cases)
    if processes < 2:
        return [worst_of(case, replicates, points) for case in found]
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(partial(worst_of, replicates=replicates, points=points), found))


def rows(*, full: bool, write: bool) -> list[Row]:
    """Measure the promise: each case's worst share of broken promises beside the stated alpha.

    Args:
        full: with the power of `dev.py test --all` (10,000 runs at each of 29 harm rates and more); minutes.
        write: write what was measured into docs/promise.md, with the pictures.
    """
    from bench import promise_page

    replicates, points = (10_000, 29) if full else (1000, 0)
    kept, broken = measure(kept_cases(), replicates, points), measure(broken_cases(), replicates, points)
    rates = 21 if full else 3
    again = (worst_restarts(850, 500, rates, fresh=False), worst_restarts(850, 500, rates, fresh=True))
    false = [(q, false_halts(q, replicates), false_halts(q, replicates, outage=True)) for q in RATES]
    if write:
        times = [(budget, q, *_time(budget, q)) for budget in BUDGETS for q in RATES]
        promise_page.write(promise_page.Measured(kept, broken, again, false, times, replicates))
    named = [(f"over budget: {w.case.name}, max_harmed {w.case.max_harmed}, q {w.case.q:g}", w.broken) for w in kept]
    named += [(f"over budget: {w.case.name} (must be seen)", w.broken) for w in broken]
    named += [(f"good updates halted, q {q:g}", most) for q, calm, struck in false for most in [max(calm, struck)]]
    return [Row(name, value, "share of runs", "stated", ALPHA) for name, value in named]


def _time(max_harmed: int, q: float) -> tuple[float | None, float]:
    """Time of a good update in T*, and the share of runs that reach everyone, at the default confidence."""
    tables = {
        "fleet": {"devices": FLEET},
        "background": {"silent_rate": q},
        "defect": {"harm_rate": 0.0},
        "rollout": {"max_harmed": max_harmed},
    }
    scenario = scenario_of(tables)
    runs = load_policy("tidegate").run(scenario, np.random.default_rng(7), 1000)
    result = summarise(scenario, runs)
    return result["time_ratio"], result["verdicts"]["completed"] / runs.replicates
