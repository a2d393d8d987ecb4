"""Halting: a good update is halted with probability at most `false_halt`, whenever one looks; a bad one soon."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.bounds import halts, log_count_channel, log_halting

FALSE_HALT = 0.05


@given(m=st.integers(1, 60), c=st.integers(0, 200), share=st.floats(0, 1))
def test_one_batch_is_fair_whatever_the_background(m: int, c: int, share: float) -> None:
    """Exact: given the failures among both arms, the mean of the e-process over their split is at most 1."""
    failures = round(share * (m + c))
    y = np.arange(max(0, failures - c), min(m, failures) + 1)
    log_weight = _log_choose(m, y) + _log_choose(c, failures - y)
    weight = np.exp(log_weight - log_weight.max())
    value = np.exp(log_halting(m, c, y[:, None], (failures - y)[:, None]))
    assert float(value @ weight / weight.sum()) <= 1.0 + 1e-9


def test_a_good_update_is_rarely_halted_at_any_look() -> None:
    """Ten looks a ring, a background of one in a hundred, then an outage of half of both arms."""
    rng = np.random.default_rng(2)
    replicates, batches = 4000, 40
    for q in (0.01, 0.5):
        y = rng.binomial(16, q, (replicates, batches))
        x = rng.binomial(64, q, (replicates, batches))
        evidence = np.stack([log_halting(16, 64, y[:, : k + 1], x[:, : k + 1]) for k in range(batches)])
        assert np.mean(halts(evidence.max(axis=0), FALSE_HALT)) <= FALSE_HALT


def test_an_outage_that_clears_between_batches_halts_nothing() -> None:
    rng = np.random.default_rng(3)
    q = np.where(rng.random((3000, 30)) < 0.3, 0.8, 0.001)
    y, x = rng.binomial(20, q), rng.binomial(80, q)
    evidence = np.stack([log_halting(20, 80, y[:, : k + 1], x[:, : k + 1]) for k in range(30)])
    assert np.mean(halts(evidence.max(axis=0), FALSE_HALT)) <= FALSE_HALT


def test_revealing_one_arm_first_halts_good_updates_almost_always() -> None:
    """The broken rule, kept: treated outcomes of a batch are read one by one before any placebo's."""
    rng = np.random.default_rng(4)
    silent = rng.random((2000, 16)) < 0.5
    evidence = np.stack([log_halting(16, 64, silent[:, : k + 1].sum(axis=1)[:, None], 0) for k in range(16)])
    assert np.mean(halts(evidence.max(axis=0), FALSE_HALT)) > 0.95


def test_a_bad_update_is_halted_at_its_first_batch() -> None:
    assert bool(halts(log_halting([16], [64], [16], [0]), 0.001))
    assert bool(halts(log_halting([850], [3400], [12], [0]), 0.001))


def test_failures_in_both_arms_alike_are_no_evidence() -> None:
    assert not bool(halts(log_halting([850], [3400], [425], [1700]), 0.05))


def test_a_batch_without_placebo_tells_nothing() -> None:
    assert float(log_halting([100], [0], [100], [0])) < 0.0 + 1e-9
    assert float(log_halting([0, 0], [0, 10], [0, 0], [0, 3])) <= 1e-9


def test_huge_counts_stay_finite() -> None:
    value = log_halting([10**9], [4 * 10**9], [10**8], [10])
    assert np.isfinite(value)
    assert bool(halts(value, 1e-9))


def test_one_reverted_device_halts_nothing_and_two_do() -> None:
    one = log_halting([], [], [], [], exposed=16, treated_reverted=1, reverted_bound=1e-6)
    two = log_halting([], [], [], [], exposed=16, treated_reverted=2, reverted_bound=1e-6)
    assert not bool(halts(one, 0.001))
    assert bool(halts(two, 0.001))


def test_reverts_within_the_declared_bound_rarely_halt() -> None:
    rng = np.random.default_rng(5)
    bound, step, looks, replicates = 1e-3, 500, 40, 4000
    reverted = rng.binomial(step, bound, (replicates, looks)).cumsum(axis=1)
    exposed = step * np.arange(1, looks + 1)
    evidence = log_count_channel(exposed, reverted, bound)
    assert np.mean(halts(evidence.max(axis=1), FALSE_HALT)) <= FALSE_HALT


def test_reverts_beyond_the_bound_halt() -> None:
    assert bool(halts(log_halting([], [], [], [], exposed=10_000, treated_reverted=10, reverted_bound=1e-6), 0.001))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="bound"):
        log_count_channel(10, 2, 0.0)
    with pytest.raises(ValueError, match="exposed"):
        log_count_channel(1, 2, 0.1)
    with pytest.raises(ValueError, match="false_halt"):
        halts(1.0, 1.0)


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    from scipy.special import gammaln

    return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
