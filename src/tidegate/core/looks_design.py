"""How far a good update can be expected to open the window at a planned size: the planner's arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tidegate.core.bounds import LEAST_RATE
from tidegate.core.looks_exact import harm_cdf, tail_of
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
    """What the planner expects to have seen when the rings so far are resolved, for a good update."""

    devices: int
    max_harmed: int
    alpha: float
    placebo_per_treated: float
    q: float
    q_gate: float
    canary: int
    treated: tuple[int, ...] = ()
    placebo: tuple[int, ...] = ()
    test: str = "exact"
    theta: float = 0.0

    @property
    def exposed(self) -> int:
        """Treated devices so far."""
        return sum(self.treated)

    def grown(self, size: int) -> Evidence:
        """Add the ring that reaches `size`, with as many placebo devices as are wanted and left unexposed."""
        treated = size - self.exposed
        placebo = min(math.floor(self.placebo_per_treated * treated + 1e-9), self.devices - size)
        arms = {"treated": (*self.treated, treated), "placebo": (*self.placebo, placebo)}
        return replace(self, **arms, test="exact", theta=0.0)


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
        now = path[-1]
        target, test, theta = _exact_reach(now, margin), "exact", 0.0
        if target < now.devices:
            if even:
                target = min(target, _full(now))
            else:
                chernoff, tilt = _chernoff_reach(now, margin)
                if chernoff > target:
                    target, test, theta = chernoff, "chernoff", tilt
        if target - now.exposed < max(1.0, now.exposed * LEAST_GROWTH):
            break
        path[-1] = replace(now, test=test, theta=theta)
        path.append(now.grown(target))
    return tuple(path)


def _full(now: Evidence) -> int:
    """The largest size whose ring still finds its full number of placebo devices among the unexposed."""
    wanted = now.placebo_per_treated
    return math.floor((now.devices + wanted * now.exposed) / (1.0 + wanted))


def _exact_reach(now: Evidence, margin: float) -> int:
    n = now.exposed
    shares = [m / c if c else math.inf for m, c in zip(now.treated, now.placebo, strict=True) if m]
    kappa = min(shares)
    if math.isinf(kappa):
        kappa = 0.0
    # With unequal rings the smallest kappa is valid for all, but leaves some background unpaid: the bias.
    bias = now.q * sum(m - kappa * c for m, c in zip(now.treated, now.placebo, strict=True))
    variance = now.q * sum(m + kappa * kappa * c for m, c in zip(now.treated, now.placebo, strict=True))
    if variance > _FEW:
        unlucky = bias + margin * math.sqrt(variance)

        def passes(target: int) -> bool:
            return target <= now.max_harmed or _tail(now, n, target, unlucky, kappa) <= now.alpha

    else:
        unlucky, totals = _few_failures(now, kappa, margin)

        def passes(target: int) -> bool:
            cdf = harm_cdf(now.max_harmed, n, target, now.q_gate)
            return target <= now.max_harmed or max(tail_of(cdf, kappa, s)(unlucky) for s in totals) <= now.alpha

    return _furthest(passes, n, now.devices)


def _few_failures(now: Evidence, kappa: float, margin: float) -> tuple[float, tuple[int, ...]]:
    """Unlucky difference of the arms, and totals of failures to try, where failures are too few to be normal."""
    treated, placebo = now.q * sum(now.treated), now.q * (sum(now.placebo) if kappa > 0 else 0)
    y = np.arange(math.ceil(treated + 8.0 * math.sqrt(treated) + 8.0))
    x = np.arange(math.ceil(placebo + 8.0 * math.sqrt(placebo) + 8.0))
    weight = np.outer(poisson_pmf(y, treated), poisson_pmf(x, placebo)).ravel()
    difference = np.subtract.outer(y, kappa * x).ravel()
    order = np.argsort(difference)
    unlucky = order[np.searchsorted(np.cumsum(weight[order]), float(normal_cdf(margin)))]
    most = math.ceil(treated + placebo + margin * math.sqrt(treated + placebo)) if kappa > 0 else 0
    return float(difference[unlucky]), tuple(sorted({0, most // 4, most // 2, most}))


def _tail(now: Evidence, exposed: int, target: int, t: float, kappa: float) -> float:
    """P(H + background <= t), with a normal background whose totals are those of a good update."""
    total = now.q * sum(now.treated) + now.q * sum(now.placebo)
    variance = kappa * (total + MARGIN * math.sqrt(total))
    share = (1.0 - now.q_gate) * exposed / max(target - 1, exposed)
    mean = now.max_harmed * share
    if mean > _MANY:
        return float(normal_cdf((t - mean) / math.sqrt(mean * (1.0 - share) + variance + 1e-300)))
    most = min(now.max_harmed, math.ceil(t + 9.0 * math.sqrt(variance)) + 1)
    if now.max_harmed <= 200:
        cdf = harm_cdf(now.max_harmed, exposed, target, now.q_gate)[: most + 1]
    else:
        cdf = binomial_cdf(np.arange(most + 1), now.max_harmed, share)
    return float(np.diff(cdf, prepend=0.0) @ normal_cdf((t - np.arange(len(cdf))) / math.sqrt(variance)))


def _chernoff_reach(now: Evidence, margin: float) -> tuple[int, float]:
    """U_plan of the documentation: min over tilts of [L + q (n theta - c t) + margin sd] / (n u)."""
    m, c = floats(now.treated), floats(now.placebo)
    theta = _TILTS[:, None]
    u = -np.expm1(-theta)
    tilt = np.log1p(u * np.divide(m, c, out=np.zeros_like(m), where=c > 0))
    mean = (theta * m - tilt * c).sum(axis=1)
    spread = (theta**2 * m + tilt**2 * c).sum(axis=1)
    bound = -math.log(now.alpha * PLANNED_SHARE) + now.q * mean + margin * np.sqrt(now.q * spread)
    rates = bound / (now.exposed * u[:, 0])
    best = int(np.argmin(rates))
    reach = (1.0 - now.q_gate) * now.max_harmed / max(float(rates[best]), LEAST_RATE)
    return math.floor(min(reach, now.devices)), float(_TILTS[best])


def _furthest(passes: Callable[[int], bool], low: int, high: int) -> int:
    if passes(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low
