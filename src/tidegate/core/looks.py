"""The planned sizes of the looks: after how many exposed devices the evidence is read, fixed before anyone answers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tidegate.core.gating import first_shut
from tidegate.core.looks_design import MARGIN, Evidence, steps
from tidegate.core.looks_limits import certain_ring_count, certain_rings, check_terms, clean_reach, time_limit_rings
from tidegate.core.looks_special import normal_quantile

__all__ = [
    "LookPlan",
    "can_plan",
    "certain_ring_count",
    "certain_rings",
    "clean_reach",
    "min_max_harmed",
    "plan_looks",
    "time_limit_rings",
]

MOST_LOOKS = 40
"""More rings than this are no schedule: the planner calls the budget infeasible."""
SLACK = ((3.0, 0.6), (3.0, 0.8), (2.5, 0.8), (3.0, 0.9), (2.5, 0.9), (2.0, 0.9), (3.0, 0.97), (2.0, 0.97), (2.0, 1.0))
"""Bad luck (standard deviations) and attendance (share) that a plan may stand beyond the least, if it costs no ring."""
PLACEBO_SHARES = (0.75, 0.5, 0.375, 0.25, 0.125)
"""Fewer placebo devices than asked for let a ring reach further into a roster that runs short of them."""


@dataclass(frozen=True, slots=True)
class LookPlan:
    """The looks of a rollout, fixed when it starts.

    Attributes:
        devices: size of the roster N.
        max_harmed: budget B that the statistical rule may use, in devices.
        alpha: 1 - confidence, as far as it is this plan's share.
        look_alpha: alpha that each look spends. With no skipping only the look with n_j < M <= n_(j+1) can break the
            promise, so each may spend all of it; where a size is looked at twice, half each.
        placebo_per_treated: placebo devices beside each treated one, as far as unexposed devices are left.
        q: background failure rate that was planned for; the promise does not depend on it.
        q_gate: share of failures, and of hidden harm, that is put up with.
        canary: devices that may be exposed while nobody has confirmed.
        sizes: cumulative treated devices n_1 < n_2 < ...; the look at n_j opens n_(j+1) and never more.
        placebo: placebo devices of each ring; 0 for a ring that reaches the end.
        tests: "exact" or "chernoff" for the look at each size.
        thetas: planned tilt of each look in the Chernoff form.
        feasible: whether the sizes reach the whole roster.
        reason: one sentence for a person.
    """

    devices: int
    max_harmed: int
    alpha: float
    look_alpha: float
    placebo_per_treated: float
    q: float
    q_gate: float
    canary: int
    sizes: tuple[int, ...]
    placebo: tuple[int, ...]
    tests: tuple[str, ...]
    thetas: tuple[float, ...]
    feasible: bool
    reason: str

    @property
    def rings(self) -> int:
        """How many rings a good update takes under this plan, as far as the statistical rule carries it."""
        return len(self.sizes)

    def treated(self, ring: int) -> int:
        """Treated devices of a ring, counted from 0."""
        return self.sizes[ring] - (self.sizes[ring - 1] if ring else 0)


def plan_looks(
    devices: int,
    max_harmed: int,
    confidence: float = 0.999,
    placebo_per_treated: float = 4.0,
    q: float = 0.0,
    q_gate: float = 0.05,
    canary: int = 0,
    *,
    attendance: float = 1.0,
    looks_per_size: int = 1,
    most_looks: int = MOST_LOOKS,
    robust: bool = True,
    gated: bool = True,
) -> LookPlan:
    """Plan the sizes at which the evidence is read, so that a good update passes every look.

    Args:
        devices: size of the roster N.
        max_harmed: budget B, in devices.
        confidence: 1 - alpha.
        placebo_per_treated: placebo devices wanted beside each treated one; 0 for none.
        q: expected background failure rate per device and observation window.
        q_gate: share of harmed devices that may be hidden by background failures; also the placebo gate.
        canary: first ring; 0 stands for `max_harmed`.
        attendance: share of devices that are there when their turn comes; the absent are late.
        looks_per_size: 2 keeps half of each look's alpha for a second look at the same size.
        most_looks: rings from which on the budget counts as infeasible.
        robust: among plans with as few rings, take the one that stands the most bad luck with the background.
        gated: end the plan where the background alone would keep the placebo gate shut for good; False for the figures
            of the bare rule.

    Returns:
        The plan. If it is not feasible its sizes go as far as the statistical rule carries, and the certain rule
        goes on from there.

    Raises:
        ValueError: naming what is out of range.

    Source: "Planning the looks" and "Sharper, and simpler: no skipping" in the documentation of the promise.
    """
    check_terms(devices, max_harmed, confidence, placebo_per_treated, q, q_gate, canary)
    if looks_per_size not in (1, 2):
        raise ValueError("looks_per_size must be 1 or 2")
    if not 0 < attendance <= 1:
        raise ValueError(f"attendance must be above 0 and at most 1, not {attendance}")
    alpha = 1.0 - confidence
    start = Evidence(
        devices=devices,
        max_harmed=max_harmed,
        alpha=alpha / looks_per_size,
        placebo_per_treated=placebo_per_treated,
        q=q,
        q_gate=q_gate,
        canary=min(canary or max_harmed, max_harmed, devices),
        attendance=attendance,
    )
    path = _best(start, most_looks, robust)
    return _plan(start, _readable(start, path) if gated else path, alpha)


def _best(start: Evidence, most_looks: int, robust: bool) -> tuple[Evidence, ...]:
    """The path with the fewest rings; of those the one that stands the most bad luck and the most absences."""
    fewer = [replace(start, placebo_per_treated=start.placebo_per_treated * share) for share in PLACEBO_SHARES]
    if start.q == 0 or start.placebo_per_treated == 0:
        fewer = []
    elif not robust:
        fewer = fewer[1:2]
    starts = [(start, True), *[(one, True) for one in fewer], (start, False)]
    paths: list[tuple[Evidence, ...]] = []
    for one, even in starts:
        paths.append(steps(one, MARGIN, most_looks, even))
        if not robust and paths[-1][-1].exposed >= start.devices:
            return paths[-1]
    best = min(paths, key=lambda path: (-path[-1].exposed, len(path)))
    if best[-1].exposed < start.devices:
        return best
    for margin, attendance in SLACK:
        for one, even in starts:
            spare = replace(one, attendance=one.attendance * attendance)
            path = steps(spare, margin if start.q > 0 else MARGIN, len(best), even)
            if path[-1].exposed >= start.devices:
                return path
    return best


def _readable(start: Evidence, path: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    """The path up to the first ring that is never read: its gate stays shut, and nothing beyond it opens."""
    beside = [step.placebo[-1] for step in path[:-1]]
    shut = first_shut(start.q, start.q_gate, beside, MARGIN)
    return path if shut is None else path[: shut + 1]


def _plan(start: Evidence, path: tuple[Evidence, ...], alpha: float) -> LookPlan:
    placebo = tuple(step.placebo[-1] for step in path)
    feasible = path[-1].exposed >= start.devices
    if feasible:
        reason = f"{len(path)} rings reach all {start.devices} devices"
    else:
        background = f"when a share of {start.q:g} fails by itself" if start.q else "even when nothing fails by itself"
        reason = (
            f"max_harmed = {start.max_harmed} cannot be certified on {start.devices} devices {background}: "
            f"{len(path)} rings reach {path[-1].exposed}"
        )
        if first_shut(start.q, start.q_gate, placebo[-1:], MARGIN) is not None:
            reason += f", and the last of them is never read: q_gate = {start.q_gate:g} is below what fails by itself"
    return LookPlan(
        devices=start.devices,
        max_harmed=start.max_harmed,
        alpha=alpha,
        look_alpha=start.alpha,
        placebo_per_treated=start.placebo_per_treated,
        q=start.q,
        q_gate=start.q_gate,
        canary=start.canary,
        sizes=tuple(step.exposed for step in path),
        placebo=placebo,
        tests=tuple(step.test for step in path),
        thetas=tuple(step.theta for step in path),
        feasible=feasible,
        reason=reason,
    )


def can_plan(
    devices: int,
    max_harmed: int,
    confidence: float = 0.999,
    placebo_per_treated: float = 4.0,
    q: float = 0.0,
    q_gate: float = 0.05,
    canary: int = 0,
    *,
    most_looks: int = MOST_LOOKS,
    gated: bool = True,
) -> bool:
    """Say whether the looks reach everyone, without looking for the best plan. Arguments as `plan_looks`."""
    noise = q * devices
    if noise > 100:
        # The last look must tell B harmed devices from the background's chance: no plan gets round that.
        kappa = 1.0 / placebo_per_treated if placebo_per_treated else 0.0
        spread = (MARGIN + normal_quantile(confidence)) * math.sqrt(noise * (1.0 + kappa))
        if max_harmed < min(0.9 * spread, noise):
            return False
    terms = (devices, max_harmed, confidence, placebo_per_treated, q, q_gate, canary)
    return plan_looks(*terms, most_looks=most_looks, robust=False, gated=gated).feasible


def min_max_harmed(
    devices: int,
    confidence: float = 0.999,
    placebo_per_treated: float = 4.0,
    q: float = 0.0,
    q_gate: float = 0.05,
    canary: int = 0,
    *,
    most_looks: int = MOST_LOOKS,
    gated: bool = True,
) -> int:
    """Find the smallest `max_harmed` for which the looks reach everyone, by bisection. Arguments as `plan_looks`."""

    def feasible(budget: int) -> bool:
        terms = (devices, budget, confidence, placebo_per_treated, q, q_gate, min(canary, budget))
        return can_plan(*terms, most_looks=most_looks, gated=gated)

    z = MARGIN + normal_quantile(confidence)
    kappa = 1.0 / placebo_per_treated if placebo_per_treated else 0.0
    high = min(devices, max(1, math.ceil(z * math.sqrt(q * (1.0 + kappa) * devices) + 3.0)))
    low = high // 2
    while low > 0 and feasible(low):
        low, high = low // 2, low
    while high < devices and not feasible(high):
        low, high = high, min(math.ceil(high * 1.1) + 1, devices)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if feasible(middle) else (middle, high)
    return high
