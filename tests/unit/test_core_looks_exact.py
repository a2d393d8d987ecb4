"""The exact test of one look: its size at the edge, its monotony, and the shortcuts it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.bounds import exact_reach
from tidegate.core.looks_exact import ExactTest, critical, harm_cdf, shared_kappa, totals_grid


@pytest.mark.parametrize(("budget", "q"), [(10, 0.0), (100, 0.0), (100, 1e-3), (850, 1e-3), (850, 1e-2), (100, 0.3)])
def test_it_breaks_with_probability_alpha_at_most_at_the_edge_of_the_null(budget: int, q: float) -> None:
    """The worst place for the (B+1)-th harmed device is the very last one that the look would open."""
    rng = np.random.default_rng(11)
    m, c, replicates, alpha = 10_000, 40_000, 20_000, 0.05
    for factor in (1.3, 3.0, 15.0, 60.0):
        target = round(m * factor)
        harmed = rng.hypergeometric(budget, target - 1 - budget, m, replicates)
        failing = rng.binomial(m + c, q, replicates)
        background = rng.hypergeometric(m, c, failing)
        test = ExactTest(budget, m, target, m / c, alpha)
        assert np.mean(test.passes(harmed + background, failing - background)) <= alpha + 0.005


def test_it_uses_most_of_its_alpha() -> None:
    """A test with slack would pass the one above and let nothing through: here a tight one is near 0.05."""
    rng = np.random.default_rng(12)
    m, c, target, budget, replicates = 10_000, 40_000, 25_000, 100, 20_000
    harmed = rng.hypergeometric(budget, target - 1 - budget, m, replicates)
    failing = rng.binomial(m + c, 3e-3, replicates)
    background = rng.hypergeometric(m, c, failing)
    passed = ExactTest(budget, m, target, 0.25, 0.05).passes(harmed + background, failing - background)
    assert 0.03 < np.mean(passed) <= 0.053


@settings(max_examples=200, deadline=None)
@given(
    budget=st.integers(1, 300),
    exposed=st.integers(1, 5000),
    factor=st.floats(1.01, 50),
    kappa=st.sampled_from([0.1, 0.25, 1 / 3, 1.0, 2.5, math.inf]),
    y=st.integers(0, 40),
    x=st.integers(0, 160),
)
def test_it_is_monotone_in_the_evidence(budget: int, exposed: int, factor: float, kappa: float, y: int, x: int) -> None:
    test = ExactTest(budget, exposed, exposed + max(1, round(exposed * (factor - 1))), kappa, 0.01, 0.05)
    if bool(test.passes(y + 1, x)):
        assert bool(test.passes(y, x))
    if bool(test.passes(y, x)) and kappa < math.inf:
        assert bool(test.passes(y, x + 1))


def test_without_placebo_it_is_the_closed_form() -> None:
    for budget, y in ((850, 0), (850, 3), (300, 1)):
        reach = int(exact_reach(10_000, y, budget, 0.001))
        assert bool(ExactTest(budget, 10_000, reach, math.inf, 0.001).passes(y, 0))
        assert not bool(ExactTest(budget, 10_000, reach + 20, math.inf, 0.001).passes(y, 0))


def test_what_lies_within_the_budget_needs_no_evidence() -> None:
    assert bool(ExactTest(10, 5, 10, 0.25, 0.001).passes(5, 0))
    assert not bool(ExactTest(10, 5, 11, 0.25, 0.001).passes(5, 0))


def test_small_fleets_gain_by_the_hypergeometric_count() -> None:
    """With no failures n + B devices are certain, whatever alpha."""
    assert bool(ExactTest(5, 20, 25, math.inf, 1e-12).passes(0, 0))
    assert not bool(ExactTest(5, 20, 26, math.inf, 1e-12).passes(0, 0))


def test_hidden_harm_narrows_it() -> None:
    clean, hidden = harm_cdf(100, 1000, 20_000, 0.0), harm_cdf(100, 1000, 20_000, 0.3)
    assert np.all(hidden >= clean - 1e-12)
    assert hidden[0] > 1.3 * clean[0]


def test_replicates_are_computed_together() -> None:
    rng = np.random.default_rng(3)
    y, x = rng.integers(0, 60, 200), rng.integers(0, 240, 200)
    test = ExactTest(100, 10_000, 40_000, 0.25, 0.01)
    assert list(test.passes(y, x)) == [bool(test.passes(int(a), int(b))) for a, b in zip(y, x, strict=True)]


def test_an_outage_of_millions_is_answered() -> None:
    test = ExactTest(850, 1_700_000, 8_500_000, 0.25, 0.001)
    assert not bool(test.passes(850_000, 3_400_000))
    assert not bool(test.passes(1_700_000, 0))
    assert bool(ExactTest(850, 10**9, 2 * 10**9, 0.25, 0.001).passes(5, 40))


@pytest.mark.parametrize(("kappa", "target"), [(0.1, 50_000), (0.25, 25_000), (0.37, 11_000), (5.0, 100_000)])
def test_the_grid_of_totals_hides_no_lower_threshold(kappa: float, target: int) -> None:
    """Between tabled totals the threshold wiggles by a lattice step: the grid must lie below every one of them."""
    test = ExactTest(100, 10_000, target, kappa, 0.01)
    grid = totals_grid(700)
    totals = np.arange(int(grid[-1]) + 1)
    exact = np.minimum.accumulate([critical(100, 10_000, target, kappa, 0.01, 0.0, int(s)) for s in totals])
    used = test.table(grid)[np.searchsorted(grid, totals)]
    assert np.all(used <= exact + 1e-3)
    assert np.all(used >= exact - 0.6 * max(2.0, kappa))


def test_one_ratio_for_all_rings() -> None:
    assert shared_kappa([100, 1000], [400, 4000]) == (0.25, (True, True))
    assert shared_kappa([100], [0]) == (math.inf, (False,))
    # A large ring with few placebo devices sets the ratio, and the small ring's placebo is dropped.
    assert shared_kappa([100, 100_000], [400, 100_000]) == (1.0, (False, True))
    # Nearly equal ratios take the smaller one and lose next to nothing.
    assert shared_kappa([100, 1000], [400, 3990]) == (0.25, (True, True))
    assert shared_kappa([0, 10], [50, 0]) == (math.inf, (False, False))


@pytest.mark.parametrize("placebo", [(4000, 10_000), (4000, 40_000), (500, 40_000)])
def test_unequal_rings_stay_within_alpha(placebo: tuple[int, int]) -> None:
    rng = np.random.default_rng(13)
    m, replicates, alpha, budget, q = (1000, 10_000), 20_000, 0.05, 100, 5e-3
    kappa, used = shared_kappa(m, placebo)
    n, target = sum(m), 3 * sum(m)
    y, x = rng.hypergeometric(budget, target - 1 - budget, n, replicates), np.zeros(replicates, dtype=np.int64)
    for treated, beside, use in zip(m, placebo, used, strict=True):
        failing = rng.binomial(treated + beside, q, replicates)
        background = rng.hypergeometric(treated, beside, failing)
        y, x = y + background, x + (failing - background) * use
    assert np.mean(ExactTest(budget, n, target, kappa, alpha).passes(y, x)) <= alpha + 0.005
