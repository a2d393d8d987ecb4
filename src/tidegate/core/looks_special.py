"""Typed doors to the special functions of SciPy that the rules need, so that nothing else imports SciPy."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
import scipy.special  # pyright: ignore[reportMissingTypeStubs]

Floats = npt.NDArray[np.float64]
Numbers = float | npt.ArrayLike

_special = cast(Any, scipy.special)


def floats(value: Numbers) -> Floats:
    """Take a number or an array as float64, without a copy where it is one already."""
    return np.asarray(value, dtype=np.float64)


def binomial_cdf(count: Numbers, trials: Numbers, share: Numbers) -> Floats:
    """P(Bin(trials, share) <= count) = I_(1-share)(trials - count, count + 1); broadcastable, counts up to 1e9."""
    k, n, p = floats(np.floor(count)), floats(trials), floats(share)
    inside = (k >= 0) & (k < n)
    safe = np.where(inside, k, 0.0)
    value = floats(_special.betainc(np.maximum(n - safe, 1e-300), safe + 1.0, 1.0 - p))
    return np.where(inside, value, np.where(k < 0, 0.0, 1.0))


def hypergeometric_cdf(total: int, marked: int, drawn: int) -> Floats:
    """P(H <= h) for h = 0..marked, H the marked ones among `drawn` of `total`; shape (marked + 1,)."""
    h = np.arange(marked + 1, dtype=np.float64)
    possible = (h <= drawn) & (marked - h <= total - drawn)
    inside, outside = np.where(possible, h, 0.0), np.where(possible, marked - h, 0.0)
    log_pmf = _log_choose(drawn, inside) + _log_choose(total - drawn, outside) - _log_choose(total, floats(marked))
    pmf = np.where(possible, np.exp(log_pmf), 0.0)
    return np.minimum(np.cumsum(pmf) / pmf.sum(), 1.0)


def binomial_pmf(count: Numbers, trials: Numbers, share: Numbers) -> Floats:
    """P(Bin(trials, share) = count) for 0 < share < 1, any broadcastable shapes; 0 outside 0..trials."""
    k, n, p = floats(count), floats(trials), floats(share)
    inside = (k >= 0) & (k <= n)
    safe = np.where(inside, k, 0.0)
    log_pmf = _log_choose(n, safe) + safe * np.log(p) + (n - safe) * np.log1p(-p)
    return np.where(inside, np.exp(log_pmf), 0.0)


def poisson_pmf(count: Numbers, mean: float) -> Floats:
    """P(Poisson(mean) = count), any shape; mean 0 allowed."""
    k = floats(count)
    return floats(np.exp(_special.xlogy(k, mean) - mean - _special.gammaln(k + 1.0)))


def smallest_share(failed: Numbers, trials: int, alpha: float) -> Floats:
    """The least share p with P(Bin(trials, p) <= failed) <= alpha; 1 where failed >= trials. Shape of `failed`."""
    y = floats(failed)
    inside = y < trials
    safe = np.where(inside, y, 0.0)
    return np.where(inside, floats(_special.betainccinv(safe + 1.0, trials - safe, alpha)), 1.0)


def normal_cdf(z: Numbers) -> Floats:
    """The standard normal distribution function, any shape."""
    return floats(_special.ndtr(floats(z)))


def normal_quantile(share: float) -> float:
    """The standard normal quantile of a share in (0, 1)."""
    return float(_special.ndtri(share))


def log_sum_exp(values: Floats, axis: int) -> Floats:
    """log of the sum of exponentials along an axis, without overflow; -inf where all are. No value may be +inf.

    SciPy's own takes half a millisecond whatever the shape, and the rules ask for it at every report.
    """
    top = np.maximum(values.max(axis=axis), np.finfo(np.float64).min)
    with np.errstate(divide="ignore"):
        return floats(top + np.log(np.exp(values - np.expand_dims(top, axis)).sum(axis=axis)))


def _log_choose(n: Numbers, k: Floats) -> Floats:
    top = floats(n)
    return floats(_special.gammaln(top + 1.0) - _special.gammaln(k + 1.0) - _special.gammaln(top - k + 1.0))
