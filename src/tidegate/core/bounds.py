"""What the counts of both arms prove: an upper bound on harm (to advance) and an e-process (to halt)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tidegate.core.looks_special import Floats, Numbers, floats, log_sum_exp, smallest_share

THETAS = tuple(float(t) for t in np.geomspace(0.01, 9.0, 11))
"""Tilts of the Chernoff form, from much background (small tilt) to none (large tilt)."""
ODDS_RATIOS = (1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1e3, 1e5)
"""How many times likelier a failure is under the candidate: the alternatives that halting mixes over."""
REVERT_RATIOS = (2.0, 5.0, 10.0, 30.0, 100.0, 1e3, 1e4, 1e5)
"""How many times more reverts than declared: the alternatives of the reverted channel."""
LEAST_RATE = 1e-12


def upper_bound(
    treated: Numbers,
    placebo: Numbers,
    treated_failed: Numbers,
    placebo_failed: Numbers,
    alpha: float,
    thetas: Sequence[float] = THETAS,
    weights: Sequence[float] | None = None,
) -> Floats:
    """Bound the rate of harm that the candidate causes, from above, by counts of both arms (Chernoff form).

    U = min_i [ln(1 / (alpha w_i)) + theta_i Y - sum_k ln(1 + u_i m_k / c_k) x_k] / (n u_i), u_i = 1 - exp(-theta_i).

    Args:
        treated: m_k, treated devices per ring, shape (rings,) or (replicates, rings); counts up to 1e9 and beyond.
        placebo: c_k, placebo devices per ring, broadcastable; where it is 0 nothing is subtracted.
        treated_failed: y_k, silent or reverted or still pending treated devices, broadcastable.
        placebo_failed: x_k, silent or reverted placebo devices, broadcastable.
        alpha: probability with which the bound may fail at this look.
        thetas: the grid of tilts, fixed before the rollout starts.
        weights: their shares of alpha, sum at most 1; equal shares if not given.

    Returns:
        U in [1e-12, 1], a share of the exposed devices; shape () or (replicates,). 1 where nobody was treated.

    Raises:
        ValueError: for counts that cannot be, or weights that add up to more than 1.

    Source: "The promise" in the documentation: tail of the hypergeometric count (Hoeffding 1963, theorem 4) and
    P(background splits between arms) dominated in convex order by the binomial; the two multiply to a martingale.
    """
    m, c, y, x = _counts(treated, placebo, treated_failed, placebo_failed)
    shares = [1.0 / len(thetas)] * len(thetas) if weights is None else list(weights)
    if len(shares) != len(thetas) or min(shares) <= 0 or sum(shares) > 1.0 + 1e-9:
        raise ValueError("weights must be positive, one per theta, and add up to at most 1")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, not {alpha}")
    n, failed = m.sum(axis=-1), y.sum(axis=-1)
    odds = np.divide(m, c, out=np.zeros_like(m), where=c > 0)
    best = np.full(n.shape, np.inf)
    for theta, share in zip(thetas, shares, strict=True):
        u = -math.expm1(-theta)
        credit = (np.log1p(u * odds) * x).sum(axis=-1)
        value = (-math.log(alpha * share) + theta * failed - credit) / u
        best = np.minimum(best, value)
    rate = np.divide(best, n, out=np.ones_like(best), where=n > 0)
    return np.clip(rate, LEAST_RATE, 1.0)


def exact_reach(exposed: Numbers, failed: Numbers, max_harmed: int, alpha: float) -> Floats:
    """Say how far exposure may reach when every failure counts as harm: the exact rule with no background.

    n' = n / betaincinv(y + 1, B - y, 1 - alpha). At y = 0 it grows n by 1 / (1 - alpha ** (1 / B)).

    Args:
        exposed: n, treated devices resolved so far; any shape.
        failed: y, how many of them failed; broadcastable.
        max_harmed: the budget B, in devices.
        alpha: the share of alpha of this look.

    Returns:
        Devices that may be exposed in total, as float64 holding whole numbers, at least n.

    Source: place of the (B+1)-th harmed device; the binomial tail bounds the hypergeometric one.
    """
    n = floats(exposed)
    reach = np.floor(n / smallest_share(failed, max_harmed, alpha) * (1.0 + 1e-12))
    return np.maximum(reach, n)


def log_halting(
    treated: Numbers,
    placebo: Numbers,
    treated_failed: Numbers,
    placebo_failed: Numbers,
    *,
    exposed: Numbers = 0,
    treated_reverted: Numbers = 0,
    reverted_bound: float = 1e-6,
) -> Floats:
    """Weigh the evidence that the candidate harms somebody: the logarithm of an e-process, to be read at any moment.

    Under "the candidate harms nobody", given the failures s = y + x of a batch, the treated share of them is random
    with known odds. M is the mean over odds ratios psi of the product over batches of psi**y / (1 - pi + pi psi)**s,
    pi = m / (m + c). M_R does the same for self-reverted treated devices against the declared bound, and rises above
    1 only from two distinct devices on. The result is ln((M + M_R) / 2), whose mean stays at most 1.

    Args:
        treated: m_k per batch, shape (batches,) or (replicates, batches). A batch is a block of interleaved
            leases that are ALL past their deadline: reading one arm first breaks the bound.
        placebo: c_k per batch, broadcastable; a batch without placebo tells nothing.
        treated_failed: y_k, silent or reverted, broadcastable.
        placebo_failed: x_k, broadcastable.
        exposed: treated leases granted so far, those still running included; shape () or (replicates,).
        treated_reverted: distinct treated devices that said "reverted" so far; shape () or (replicates,).
        reverted_bound: the declared rate of reverts of a good update, per treated device.

    Returns:
        Natural logarithm, shape () or (replicates,).

    Raises:
        ValueError: for counts that cannot be, or a reverted_bound outside (0, 1).

    Source: e-processes and Ville's inequality (Ramdas et al., "Game-theoretic statistics and safe anytime-valid
    inference", 2023); the odds-ratio mixture is the noncentral hypergeometric likelihood, bounded by the binomial.
    """
    odds = log_odds(treated, placebo, treated_failed, placebo_failed).sum(axis=-1)
    return log_both(odds, log_count_channel(exposed, treated_reverted, reverted_bound))


def log_odds(treated: Numbers, placebo: Numbers, treated_failed: Numbers, placebo_failed: Numbers) -> Floats:
    """Weigh each batch by itself against each of `ODDS_RATIOS`: what `log_halting` adds up over batches.

    Arguments and errors are those of `log_halting`. Returns ln(psi**y / (1 - pi + pi psi)**(y + x)), shape (ratios,
    batches) or (ratios, replicates, batches).
    """
    m, c, y, x = _counts(treated, placebo, treated_failed, placebo_failed)
    total = m + c
    share = np.divide(m, total, out=np.zeros_like(m), where=total > 0)
    return np.stack([y * math.log(psi) - (y + x) * np.log1p(share * (psi - 1.0)) for psi in ODDS_RATIOS])


def log_both(odds: Floats, reverted: Floats) -> Floats:
    """Join the two channels: `odds` as `log_odds` gives them, added up over batches, and the reverted channel."""
    both_arms = log_sum_exp(odds, axis=0) - math.log(len(ODDS_RATIOS))
    return np.logaddexp(both_arms, reverted) - math.log(2.0)


def log_count_channel(exposed: Numbers, reported: Numbers, bound: float) -> Floats:
    """Weigh reports that have no placebo beside them (reverts, signals) against a declared rate.

    ln mean over lambda of exp(r ln lambda - n bound (lambda - 1)), held at 0 while fewer than two distinct devices
    have reported, so that one liar or one odd device halts nothing.

    Args:
        exposed: n, treated leases granted so far; any shape.
        reported: r, distinct devices among them that reported; broadcastable.
        bound: the declared rate per treated device, in (0, 1).

    Returns:
        Natural logarithm of an e-process, broadcast shape.
    """
    if not 0 < bound < 1:
        raise ValueError(f"the declared bound must lie between 0 and 1, not {bound}")
    n, r = np.broadcast_arrays(floats(exposed), floats(reported))
    if np.any(r < 0) or np.any(r > np.maximum(n, 0)):
        raise ValueError("reports must be 0 to the number of exposed devices: give `exposed` with them")
    logs = [r * math.log(ratio) - n * bound * (ratio - 1.0) for ratio in REVERT_RATIOS]
    value = log_sum_exp(np.stack(logs), axis=0) - math.log(len(REVERT_RATIOS))
    return np.where(r >= 2, value, np.minimum(value, 0.0))


def halts(log_evidence: Numbers, false_halt: float) -> npt.NDArray[np.bool_]:
    """Say whether the evidence of harm suffices: e-process at 1 / false_halt (Ville's inequality). Any shape."""
    if not 0 < false_halt < 1:
        raise ValueError(f"false_halt must lie between 0 and 1, not {false_halt}")
    return np.asarray(floats(log_evidence) >= -math.log(false_halt), dtype=np.bool_)


def _counts(m: Numbers, c: Numbers, y: Numbers, x: Numbers) -> tuple[Floats, Floats, Floats, Floats]:
    arrays = np.broadcast_arrays(floats(m), floats(c), floats(y), floats(x))
    treated, placebo, treated_failed, placebo_failed = (np.atleast_1d(a) for a in arrays)
    if np.any(treated_failed > treated) or np.any(placebo_failed > placebo) or any(np.any(a < 0) for a in arrays):
        raise ValueError("counts must not be negative, and no arm can have more failures than devices")
    return treated, placebo, treated_failed, placebo_failed
