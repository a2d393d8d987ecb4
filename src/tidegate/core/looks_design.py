"""How far a good update can be expected to open the window at a planned size: the planner's arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tidegate.core.bounds import LEAST_RATE
from tidegate.core.looks_exact import harm_cdf, shared_kappa, tail_of
from tidegate.core.looks_special import binomial_cdf, floats, normal_cdf, poisson_pmf

MARGIN = 1.5
"""Standard deviations of bad luck with the background that a feasible plan must stand at each look."""
PLANNED_SHARE = 0.6
"""Weight of the planned tilt in the Chernoff form; the grid shares the rest."""
LEAST_GROWTH = 0.005
"""A look that opens less than this is no progress worth an observation time."""
_TILTS = np.geomspace(0.005, 12.0, 90)
_FEW = 25.0
_MANY = 1000.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the planner expects to have seen when the rings so far are resolved, for a good update.

    `attendance` is the share of each ring's members that are there when their turn comes.
    """

    devices: int
    max_harmed: int
    alpha: float
    placebo_per_treated: float
    q: float
    q_gate: float
    canary: int
    attendance: float = 1.0
    treated: tuple[int, ...] = ()
    placebo: tuple[int, ...] = ()
    test: str = "exact"
    theta: float = 0.0

    @property
    def exposed(self) -> int:
        """Treated members of the rings so far."""
        return sum(self.treated)

    def grown(self, size: int) -> Evidence:
        """Add the ring that reaches `size`, with as many placebo devices as are wanted and left unexposed."""
        treated = size - self.exposed
        placebo = min(math.floor(self.placebo_per_treated * treated + 1e-9), self.devices - size)
        arms = {"treated": (*self.treated, treated), "placebo": (*self.placebo, placebo)}
        return replace(self, **arms, test="exact", theta=0.0)

    def present(self) -> Evidence:
        """Leave those who come."""
        if self.attendance == 1.0:
            return self
        treated = tuple(math.floor(self.attendance * m) for m in self.treated)
        placebo = tuple(math.floor(self.attendance * c) for c in self.placebo)
        return replace(self, treated=treated, placebo=placebo)


def steps(start: Evidence, margin: float, most_looks: int, even: bool) -> tuple[Evidence, ...]:
    """Follow a good update from the canary on, ring by ring, as far as the looks carry it.

    Args:
        start: the rollout before anyone is exposed.
        margin: standard deviations of bad luck with the background that every look must stand.
        most_looks: rings to stop at.
        even: keep treated per placebo device the same in all rings, which the exact test wants: where unexposed
            devices run short, take shorter rings. Otherwise take what is left, and Chernoff where that gets further.

    Returns:
        The evidence at each planned size; the last one reaches `devices` if the budget is feasible.
    """
    path = [start.grown(start.canary)]
    while path[-1].exposed < start.devices and len(path) < most_looks:
        now, came = path[-1], path[-1].present()
        # The next ring is opened to all its members, and all of them might come.
        absent = now.exposed - came.exposed
        most = now.devices - absent
        target, test, theta = exact_target(came, margin, most), "exact", 0.0
        if target < most:
            if even:
                target = min(target, _full(now) - absent)
            else:
                chernoff, tilt = chernoff_target(came, margin, most)
                if chernoff > target:
                    target, test, theta = chernoff, "chernoff", tilt
        size = max(target + absent, _certain_size(now, margin))
        if size - now.exposed < max(1.0, now.exposed * LEAST_GROWTH):
            break
        path[-1] = replace(now, test=test, theta=theta)
        path.append(now.grown(size))
    return tuple(path)


def _certain_size(now: Evidence, margin: float) -> int:
    """Where the certain rule gets in one ring: devices that failed by themselves, or are absent, use up its room."""
    lost = now.q * now.exposed
    spare = math.floor(now.max_harmed - lost - margin * math.sqrt(lost))
    return min(now.devices, now.exposed + max(0, min(spare, now.canary + now.exposed)))


def exact_target(now: Evidence, margin: float, most: int) -> int:
    """How far the exact test opens the window for a good update with so much bad luck; at least the exposed."""
    n = now.exposed
    kappa, used = shared_kappa(now.treated, now.placebo)
    treated = now.q * n
    placebo = now.q * sum(c for c, use in zip(now.placebo, used, strict=True) if use)
    weight = 0.0 if math.isinf(kappa) else kappa
    # Rings whose placebo is dropped or not paid in full leave some background on the treated side: the bias.
    bias, variance = treated - weight * placebo, treated + weight * weight * placebo
    if n == 0:
        return min(now.max_harmed, most)
    if variance > _FEW:
        unlucky = bias + margin * math.sqrt(variance)
        spread = weight * (treated + placebo + MARGIN * math.sqrt(treated + placebo))

        def passes(target: int) -> bool:
            return target <= now.max_harmed or _tail(now, target, unlucky, spread) <= now.alpha

    else:
        unlucky, totals = _few_failures(treated, placebo, weight, margin)

        def passes(target: int) -> bool:
            if target <= now.max_harmed:
                return True
            cdf = harm_cdf(now.max_harmed, n, target, now.q_gate)
            return all(tail_of(cdf, kappa, s)(unlucky) <= now.alpha for s in totals)

    return _furthest(passes, n, most)


def chernoff_target(now: Evidence, margin: float, most: int, q_gate: float | None = None) -> tuple[int, float]:
    """How far the Chernoff form opens the window, and its best tilt: U_plan in "Planning the looks".

    U_plan(n) = min over theta of [L + q (n theta - c t) + margin sqrt(q (n theta**2 + c t**2))] / (n u).
    """
    if now.exposed == 0:
        return min(now.max_harmed, most), 0.0
    m, c = floats(now.treated), floats(now.placebo)
    theta = _TILTS[:, None]
    u = -np.expm1(-theta)
    tilt = np.log1p(u * np.divide(m, c, out=np.zeros_like(m), where=c > 0))
    mean = (theta * m - tilt * c).sum(axis=1)
    spread = (theta**2 * m + tilt**2 * c).sum(axis=1)
    bound = -math.log(now.alpha * PLANNED_SHARE) + now.q * mean + margin * np.sqrt(now.q * spread)
    rates = bound / (now.exposed * u[:, 0])
    best = int(np.argmin(rates))
    gate = now.q_gate if q_gate is None else q_gate
    reach = (1.0 - gate) * now.max_harmed / max(float(rates[best]), LEAST_RATE)
    return math.floor(min(reach, most)), float(_TILTS[best])


def _full(now: Evidence) -> int:
    """The largest size whose ring still finds its full number of placebo devices among the unexposed."""
    wanted = now.placebo_per_treated
    return math.floor((now.devices + wanted * now.exposed) / (1.0 + wanted))


def _few_failures(treated: float, placebo: float, kappa: float, margin: float) -> tuple[float, Sequence[int]]:
    """Unlucky difference of the arms, and totals of failures to try, where failures are too few to be normal."""
    if kappa == 0:
        placebo = 0.0
    y = np.arange(math.ceil(treated + 8.0 * math.sqrt(treated) + 8.0))
    x = np.arange(math.ceil(placebo + 8.0 * math.sqrt(placebo) + 8.0))
    weight = np.outer(poisson_pmf(y, treated), poisson_pmf(x, placebo)).ravel()
    difference = np.subtract.outer(y, kappa * x).ravel()
    order = np.argsort(difference)
    unlucky = order[min(int(np.searchsorted(np.cumsum(weight[order]), normal_cdf(margin))), len(order) - 1)]
    most = math.ceil(treated + placebo + margin * math.sqrt(treated + placebo)) if kappa > 0 else 0
    return float(difference[unlucky]), tuple(sorted({0, most // 4, most // 2, most}, reverse=True))


def _tail(now: Evidence, target: int, t: float, variance: float) -> float:
    """P(H + background <= t), the background's split between the arms taken as normal."""
    exposed = now.exposed
    share = (1.0 - now.q_gate) * exposed / max(target - 1, exposed)
    mean = now.max_harmed * share
    if mean > _MANY:
        return float(normal_cdf((t - mean) / math.sqrt(mean * (1.0 - share) + variance + 1e-300)))
    most = max(0, min(now.max_harmed, math.ceil(t + 9.0 * math.sqrt(variance)) + 1))
    if now.max_harmed <= 200:
        cdf = harm_cdf(now.max_harmed, exposed, target, now.q_gate)[: most + 1]
    else:
        cdf = binomial_cdf(np.arange(most + 1), now.max_harmed, share)
    if variance == 0:
        return float(cdf[min(math.floor(t), most)]) if t >= 0 else 0.0
    return float(np.diff(cdf, prepend=0.0) @ normal_cdf((t - np.arange(len(cdf))) / math.sqrt(variance)))


def _furthest(passes: Callable[[int], bool], low: int, high: int) -> int:
    if passes(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low
