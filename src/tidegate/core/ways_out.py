"""The ways out of a rollout that cannot be done: the smallest budget, more placebo devices, a quieter outcome."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tidegate.core.looks import MOST_LOOKS, LookPlan, can_plan, certain_ring_count, min_max_harmed
from tidegate.core.looks_design import MARGIN

_MOST_PLACEBO = 64.0


@dataclass(frozen=True, slots=True)
class WayOut:
    """One change that would make an infeasible rollout feasible.

    Attributes:
        kind: "max_harmed", "placebo_per_treated" or "silent_rate".
        value: the least change that does; None if no value of this one alone does.
        sentence: for a person.
    """

    kind: str
    value: float | None
    sentence: str


def certain_rounds(devices: int, max_harmed: int, canary: int, q: float) -> int | None:
    """Count the observation times that the certain rule alone takes, or None if background uses up the budget.

    A device that falls silent by itself never confirms and stays charged, so room shrinks to B - q n after n devices;
    the rounds are the integral of dn / (B - q n) = ln(B / (B - q N)) / q. It ends before the roster where
    q N, with some bad luck, reaches B.
    """
    rounds = certain_ring_count(devices, max_harmed, canary)
    if q == 0:
        return rounds
    lost = q * devices
    if lost + MARGIN * math.sqrt(lost) >= max_harmed and devices > max_harmed:
        return None
    if devices <= max_harmed:
        return rounds
    slower = -math.log1p(-lost / max_harmed) / q - devices / max_harmed
    return rounds + math.ceil(slower - 1e-9)


def ways_within(
    plan: LookPlan, confidence: float, least: int, most_looks: int, late_for: float | None
) -> tuple[WayOut, ...]:
    """Find the ways out; where all is right but the deadline, which `late_for` seconds would meet, say so instead."""
    if late_for is None:
        return ways_out(plan, confidence, least, most_looks)
    said = f"alone would do: raise the deadline to {late_for:.0f} s"
    names = {"max_harmed": "budget", "placebo_per_treated": "number of placebo devices", "silent_rate": "outcome"}
    return tuple(WayOut(kind, None, f"no {name} {said}") for kind, name in names.items())


def ways_out(plan: LookPlan, confidence: float, least: int, most_looks: int = MOST_LOOKS) -> tuple[WayOut, ...]:
    """Find the three changes that would do, each alone: a larger budget, more placebo devices, a quieter outcome.

    Args:
        plan: an infeasible plan.
        confidence: 1 - alpha.
        least: the smallest feasible max_harmed.
        most_looks: rings for which there is time.
    """

    def feasible(placebo: float, q: float) -> bool:
        terms = (plan.devices, plan.max_harmed, confidence, placebo, q, plan.q_gate, plan.canary)
        return can_plan(*terms, most_looks=most_looks)

    found = [WayOut("max_harmed", float(least), f"raise max_harmed to {least}")]
    placebo = plan.placebo_per_treated
    more = placebo
    while more < _MOST_PLACEBO and not feasible(more, plan.q):
        more = max(1.0, more * 2.0)
    if feasible(more, plan.q):
        value = math.ceil(_least_real(lambda p: feasible(p, plan.q), placebo, more))
        found.append(WayOut("placebo_per_treated", float(value), f"run {value} placebo devices per treated one"))
    else:
        found.append(WayOut("placebo_per_treated", None, "no number of placebo devices alone would do"))
    quiet = 1e-9
    if plan.q > quiet and feasible(placebo, quiet):
        log_q = _least_real(lambda s: feasible(placebo, math.exp(-s)), -math.log(plan.q), -math.log(quiet))
        value = float(f"{math.exp(-log_q):.2g}")
        value = value if feasible(placebo, value) else value * 0.97
        found.append(
            WayOut("silent_rate", value, f"choose an outcome that fails by itself at most {value:.2g} per device")
        )
    else:
        found.append(WayOut("silent_rate", None, "no quieter outcome alone would do: the budget is too small"))
    return tuple(found)


def least_budget(
    devices: int,
    confidence: float,
    placebo: float,
    q: float,
    q_gate: float,
    canary: int,
    most_rounds: float,
    most_looks: int,
) -> int:
    """The smallest budget that is feasible by either rule."""

    def in_time(budget: int) -> bool:
        rounds = certain_rounds(devices, budget, min(canary or budget, budget), q)
        return rounds is not None and rounds <= most_rounds

    statistical = min_max_harmed(devices, confidence, placebo, q, q_gate, canary, most_looks=most_looks)
    if not in_time(statistical):
        return statistical
    low, high = 0, statistical
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if in_time(middle) else (middle, high)
    return high


def _least_real(feasible: Callable[[float], bool], low: float, high: float) -> float:
    for _ in range(10):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if feasible(middle) else (middle, high)
    return high
