"""The upper bound on harm: its limits, its monotony, and counts that other implementations choke on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.bounds import THETAS, exact_reach, upper_bound


def test_no_failures_bound_the_rate_by_l_over_n() -> None:
    alpha = 1e-3
    bound = float(upper_bound(850, 3400, 0, 0, alpha))
    assert np.log(1 / alpha) / 850 < bound < 1.5 * np.log(1 / alpha) / 850


def test_a_planned_tilt_brings_the_bound_close_to_l_over_n() -> None:
    bound = float(upper_bound(850, 3400, 0, 0, 1e-3, thetas=(9.0,), weights=(1.0,)))
    assert bound == pytest.approx(np.log(1000) / 850, rel=1e-3)


def test_everyone_harmed_gives_one() -> None:
    assert float(upper_bound(850, 3400, 850, 0, 1e-3)) == 1.0


@pytest.mark.parametrize(
    ("m", "c", "y", "x"),
    [
        ([0], [0], [0], [0]),
        ([0, 0], [10, 0], [0, 0], [5, 0]),
        ([5], [0], [0], [0]),
        ([5, 0, 7], [0, 3, 28], [1, 0, 0], [0, 1, 2]),
        ([10**9], [10**9], [0], [0]),
        ([10**9], [4 * 10**9], [1], [4]),
        ([10**9, 10**9], [1, 10**9], [10**6, 10], [1, 40]),
    ],
)
def test_odd_counts_give_a_rate(m: list[int], c: list[int], y: list[int], x: list[int]) -> None:
    bound = float(upper_bound(m, c, y, x, 1e-9))
    assert 1e-12 <= bound <= 1.0


def test_nobody_treated_proves_nothing() -> None:
    assert float(upper_bound([0, 0], [100, 50], 0, 50, 1e-3)) == 1.0


def test_rates_of_1e_minus_9_are_told_apart() -> None:
    clean = float(upper_bound(10**10, 10**10, 0, 0, 1e-3))
    worse = float(upper_bound(10**10, 10**10, 10, 0, 1e-3))
    assert 1e-10 < clean < worse < 1e-8


def test_replicates_are_computed_together() -> None:
    rng = np.random.default_rng(1)
    y, x = rng.integers(0, 20, (50, 3)), rng.integers(0, 80, (50, 3))
    m, c = np.array([100, 1000, 10_000]), np.array([400, 4000, 40_000])
    together = upper_bound(m, c, y, x, 0.01)
    assert together.shape == (50,)
    assert together == pytest.approx([float(upper_bound(m, c, y[i], x[i], 0.01)) for i in range(50)])


@given(y=st.integers(0, 100), x=st.integers(0, 400), more=st.integers(0, 50), alpha=st.floats(1e-9, 0.3))
def test_more_treated_failures_widen_and_more_placebo_failures_narrow_it(
    y: int, x: int, more: int, alpha: float
) -> None:
    here = float(upper_bound(200, 800, y, x, alpha))
    assert float(upper_bound(200, 800, y + more, x, alpha)) >= here
    assert float(upper_bound(200, 800, y, x + more, alpha)) <= here
    assert float(upper_bound(200, 800, y, x, alpha / 2)) >= here


def test_impossible_counts_are_refused() -> None:
    for counts in ((10, 40, 11, 0), (10, 40, 0, 41), (10, 40, -1, 0)):
        with pytest.raises(ValueError, match="counts"):
            upper_bound(*counts, 0.05)
    with pytest.raises(ValueError, match="alpha"):
        upper_bound(10, 40, 0, 0, 0.0)
    with pytest.raises(ValueError, match="weights"):
        upper_bound(10, 40, 0, 0, 0.05, weights=[1.0] * len(THETAS))


@pytest.mark.parametrize("q", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("p", [0.002, 0.02, 0.2])
def test_it_covers_the_true_rate(p: float, q: float) -> None:
    """Both arms share a background, however high. A harmed device that would have failed anyway cannot be seen: so
    the rate that is bounded is p (1 - q), which is what `q_gate` is for; it is missed with probability alpha."""
    rng = np.random.default_rng(7)
    m, c, alpha, replicates = 1000, 4000, 0.05, 20_000
    failing = rng.binomial(m + c, q, replicates)
    background = rng.hypergeometric(m, c, failing)
    visible = rng.hypergeometric(m - background, background, round(p * m))
    bound = upper_bound([m], [c], (visible + background)[:, None], (failing - background)[:, None], alpha)
    assert np.mean(bound < p * (1 - q)) <= alpha + 3 * np.sqrt(alpha / replicates)


def test_the_exact_reach_grows_by_the_closed_form() -> None:
    for budget in (10, 100, 850, 8500):
        growth = 1 / (1 - 0.001 ** (1 / budget))
        assert float(exact_reach(10**6, 0, budget, 0.001)) == pytest.approx(1e6 * growth, rel=1e-6)
        assert growth == pytest.approx(budget / np.log(1000) + 0.5, rel=0.03)


def test_the_exact_reach_shrinks_with_failures_and_never_recalls() -> None:
    reach = exact_reach(850, np.arange(900), 850, 0.001)
    assert np.all(np.diff(reach) <= 0)
    assert reach[0] > 100_000
    assert np.all(reach >= 850)
    assert reach[-1] == 850
