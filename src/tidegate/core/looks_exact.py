"""The exact test of one look: do the failures of both arms rule out that a next ring would break the budget?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tidegate.core.looks_special import (
    Floats,
    Numbers,
    binomial_cdf,
    binomial_pmf,
    floats,
    hypergeometric_cdf,
    normal_cdf,
)

EVERY_TOTAL = 256
"""Totals of failures up to here are tabled one by one; above, on a grid two per cent apart and a little lower."""
MOST_EXACT = 200
"""Budgets up to here use the hypergeometric count (small fleets gain by it); above, the binomial that bounds it."""
NORMAL_VARIANCE = 2500.0


@dataclass(frozen=True, slots=True)
class ExactTest:
    """Whether a look at `exposed` devices may open `target`, given the failures of both arms.

    Attributes:
        max_harmed: the budget B, in devices.
        exposed: n, treated devices that the counts cover.
        target: n', the number of exposed devices that would be allowed.
        kappa: treated per placebo device, as `shared_kappa` chooses it; infinite where there is no placebo, and then
            every failure counts as harm.
        alpha: the share of alpha of this look.
        q_gate: share of the harmed that may be hidden because they would have failed anyway.

    Source: "Sharper, and simpler: no skipping". Break of the promise needs n < M <= n', M the place of the (B+1)-th
    harmed device; then H of B harmed ones lie among the first n, H ~ Hypergeometric(n' - 1, B, n) or luckier, and
    t = y - kappa x is H + (1 + kappa) Bin(s, pi) - kappa s for s background failures, pi = kappa / (1 + kappa).
    s is not known, but s <= y + x; so t must be improbable for every s up to that: a running maximum.
    """

    max_harmed: int
    exposed: int
    target: int
    kappa: float
    alpha: float
    q_gate: float = 0.0

    def passes(self, treated_failed: Numbers, placebo_failed: Numbers) -> npt.NDArray[np.bool_]:
        """Say for each replicate whether the target may be opened. Any broadcastable shapes of counts.

        It never turns from yes to no when a treated failure becomes fine, or a fine placebo device fails.
        """
        y, x = np.broadcast_arrays(floats(treated_failed), floats(placebo_failed))
        if self.target <= self.max_harmed:
            return np.ones(y.shape, dtype=np.bool_)
        if math.isinf(self.kappa):
            return np.asarray(y <= self._critical(0), dtype=np.bool_)
        t, total = y - self.kappa * x, y + x
        hopeful = t <= self._critical(0)
        if not np.any(hopeful):
            return np.asarray(hopeful, dtype=np.bool_)
        grid = totals_grid(int(total[hopeful].max()))
        table = self.table(grid)
        place = np.minimum(np.searchsorted(grid, total), len(grid) - 1)
        return np.asarray(hopeful & (t <= table[place]), dtype=np.bool_)

    def table(self, grid: npt.NDArray[np.int64]) -> Floats:
        """The largest t that passes, for each total of failures in the grid: never rising. Shape of `grid`."""
        found = floats([self._critical(int(s)) for s in grid])
        # Between totals that are not tabled one by one the threshold wiggles by up to half a lattice step.
        slack = np.where(grid > EVERY_TOTAL, 0.5 * max(1.0, self.kappa / 2.0), 0.0)
        return np.minimum.accumulate(found - slack)

    def _critical(self, total: int) -> float:
        return critical(self.max_harmed, self.exposed, self.target, self.kappa, self.alpha, self.q_gate, total)


def totals_grid(most: int) -> npt.NDArray[np.int64]:
    """The totals of background failures that are tabled: each up to 256, then two per cent apart, beyond `most`."""
    steps: list[int] = list(range(min(most, EVERY_TOTAL) + 1))
    while steps[-1] < most:
        steps.append(steps[-1] + max(1, steps[-1] // 50))
    return np.asarray(steps, dtype=np.int64)


@lru_cache(maxsize=200_000)
def critical(
    max_harmed: int, exposed: int, target: int, kappa: float, alpha: float, q_gate: float, total: int
) -> float:
    """The largest t with P(H + (1 + kappa) Bin(total, pi) - kappa total <= t) <= alpha; -inf if there is none."""
    cdf = harm_cdf(max_harmed, exposed, target, q_gate)
    if total == 0 or math.isinf(kappa):
        passing = int(np.searchsorted(cdf, alpha, side="right"))
        return passing - 1 + 0.5 if passing > 0 else -math.inf
    sd = math.sqrt(kappa * total)
    low, high = -12.0 * sd - kappa - 2.0, float(np.searchsorted(cdf, 0.5)) + 12.0 * sd
    tail = tail_of(cdf, kappa, total)
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if tail(middle) <= alpha else (low, middle)
    return low


def tail_of(cdf: Floats, kappa: float, total: int) -> Callable[[float], float]:
    """Give t -> P(H + (1 + kappa) Bin(total, pi) - kappa total <= t), for H with this distribution function.

    A split whose variance exceeds 2,500 is taken as normal: it then spans hundreds of lattice steps.
    """
    if total == 0:
        return lambda t: float(_at(cdf, floats(math.floor(t + 1e-9))))
    sd = math.sqrt(kappa * total)
    if kappa * total > NORMAL_VARIANCE:
        pmf = np.diff(cdf, prepend=0.0)
        keep = np.flatnonzero(pmf > 1e-18)
        return lambda t: float(pmf[keep] @ normal_cdf((t - keep) / sd))
    weight, shift = _split(kappa, total)
    return lambda t: float(weight @ _at(cdf, np.floor(t + shift + 1e-9)))


@lru_cache(maxsize=512)
def _split(kappa: float, total: int) -> tuple[Floats, Floats]:
    """How `total` failures fall on the arms: the probability of each split, and what it takes from t. Read only."""
    centre, width = total * kappa / (1.0 + kappa), 10.0 * math.sqrt(kappa * total) / (1.0 + kappa) + 10.0
    b = np.arange(max(0, math.floor(centre - width)), min(total, math.ceil(centre + width)) + 1, dtype=np.float64)
    return binomial_pmf(b, total, kappa / (1.0 + kappa)), kappa * total - (1.0 + kappa) * b


def shared_kappa(treated: Sequence[int], placebo: Sequence[int]) -> tuple[float, tuple[bool, ...]]:
    """Choose one ratio of treated per placebo device for all rings, and the rings whose placebo counts.

    A ratio is valid for every ring whose own is not smaller: there a background failure is likelier on the treated
    side than assumed. The placebo of the other rings is dropped. Of the ratios at hand it takes the one that leaves
    the least background on the treated side. It looks at sizes alone, never at outcomes.

    Args:
        treated: m_k per ring.
        placebo: c_k per ring.

    Returns:
        kappa (infinite if there is no placebo at all), and for each ring whether its placebo failures count.
    """
    shares = [m / c if m > 0 and c > 0 else math.inf for m, c in zip(treated, placebo, strict=True)]
    best, credit = math.inf, 0.0
    for kappa in sorted({share for share in shares if share < math.inf}):
        covers = kappa * sum(c for c, m, share in zip(placebo, treated, shares, strict=True) if m and share >= kappa)
        if covers > credit * (1.0 + 1e-12):
            best, credit = kappa, covers
    return best, tuple(m > 0 and c > 0 and m / c >= best for m, c in zip(treated, placebo, strict=True))


@lru_cache(maxsize=4096)
def harm_cdf(max_harmed: int, exposed: int, target: int, q_gate: float) -> Floats:
    """P(H <= h), h = 0..B: visible harmed devices among the first `exposed`, when B lie among the first target - 1.

    Each harmed device is hidden with probability `q_gate`. Shape (B + 1,); read only.
    """
    h = np.arange(max_harmed + 1, dtype=np.float64)
    places = max(target - 1, max_harmed)
    drawn = min(exposed, places)
    if max_harmed > MOST_EXACT:
        return binomial_cdf(h, max_harmed, (1.0 - q_gate) * drawn / places)
    cdf = hypergeometric_cdf(places, max_harmed, drawn)
    if q_gate > 0:
        cdf = np.minimum(_seen(max_harmed, q_gate) @ np.diff(cdf, prepend=0.0), 1.0)
    return cdf


@lru_cache(maxsize=64)
def _seen(most: int, q_gate: float) -> Floats:
    h = np.arange(most + 1, dtype=np.float64)
    return binomial_cdf(h[:, None], h[None, :], 1.0 - q_gate)


def _at(cdf: Floats, h: Floats) -> Floats:
    last = len(cdf) - 1
    inside = np.clip(h, 0, last).astype(np.int64)
    return np.where(h < 0, 0.0, cdf[inside])
