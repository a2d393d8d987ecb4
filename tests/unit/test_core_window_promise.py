"""The promise, with power: the shipped rule keeps it at confidence 0.95, and rules with a bug break it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tidegate.core.bounds import exact_reach
from tidegate.core.gating import placebo_gate
from tidegate.core.looks import LookPlan, plan_looks
from tidegate.core.window import RingCounts, statistical_window

FLEET = 8_500_000
ALPHA = 0.05
Counts = npt.NDArray[np.int64]
Rule = Callable[[LookPlan, Sequence[RingCounts]], object]


def _harmed(
    plan: LookPlan, harm_rate: float, q: float, replicates: int, seed: int, rule: Rule = statistical_window
) -> tuple[Counts, npt.NDArray[np.bool_]]:
    """Devices harmed, and whether everyone was reached, when nothing ever halts; exact hypergeometric draws."""
    rng = np.random.default_rng(seed)
    n, left = 0, np.full(replicates, round(harm_rate * plan.devices))
    harmed, running = np.zeros(replicates, dtype=np.int64), np.ones(replicates, dtype=np.bool_)
    rings: list[RingCounts] = []
    for ring in range(plan.rings):
        m, c = plan.treated(ring), plan.placebo[ring]
        here = rng.hypergeometric(left, plan.devices - n - left, m)
        n, left = n + m, left - here
        harmed += np.where(running, here, 0)
        rings.append(RingCounts(m, c, here + rng.binomial(m - here, q), rng.binomial(c, q, replicates)))
        if ring + 1 < plan.rings:
            running &= np.asarray(rule(plan, rings)) >= plan.sizes[ring + 1]
    return harmed, running


def _worst(
    plan: LookPlan,
    q: float,
    replicates: int = 3000,
    rule: Rule = statistical_window,
    factors: Sequence[float] = (1.0, 1.05, 1.15),
) -> float:
    """The largest share of broken promises over a grid of harm rates that aims at every gap between looks."""
    edges = [(plan.max_harmed + 1) / size for size in plan.sizes[1:]]
    grid = sorted({min(1.0, edge * factor) for edge in edges for factor in factors} | {1.0})
    broken = [
        float(np.mean(_harmed(plan, p, q, replicates, seed, rule)[0] > plan.max_harmed)) for seed, p in enumerate(grid)
    ]
    return max(broken)


@pytest.mark.parametrize("q", [0.0, 1e-5, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("max_harmed", [100, 850, 8500])
def test_the_promise_holds(max_harmed: int, q: float) -> None:
    plan = plan_looks(FLEET, max_harmed, 1 - ALPHA, 4.0, q, robust=False)
    assert _worst(plan, q) <= ALPHA + 3 * np.sqrt(ALPHA / 3000)


@pytest.mark.parametrize("truth", [1e-5, 1e-2])
def test_it_holds_when_the_background_is_not_what_was_planned(truth: float) -> None:
    plan = plan_looks(FLEET, 850, 1 - ALPHA, 4.0, 1e-4, robust=False)
    assert _worst(plan, truth) <= ALPHA + 3 * np.sqrt(ALPHA / 3000)


def test_small_fleets_keep_it_too() -> None:
    for devices, budget in ((300, 5), (2000, 10), (20_000, 50)):
        plan = plan_looks(devices, budget, 1 - ALPHA, 1.0, robust=False)
        assert _worst(plan, 0.0) <= ALPHA + 3 * np.sqrt(ALPHA / 3000)


@pytest.mark.slow
@pytest.mark.parametrize(("max_harmed", "reference"), [(10, 0.024), (100, 0.032), (850, 0.041)])
def test_the_worst_probability_is_that_of_the_reference(max_harmed: int, reference: float) -> None:
    """Full alpha at each look leaves little slack: a rule that is needlessly careful would fail here."""
    plan = plan_looks(FLEET, max_harmed, 1 - ALPHA, 4.0, 0.0, 0.0, robust=False)
    worst = _worst(plan, 0.0, 30_000, factors=(1.0, 1.02, 1.05, 1.08, 1.12, 1.16))
    assert 0.88 * reference <= worst <= ALPHA


@pytest.mark.parametrize(("max_harmed", "q"), [(100, 0.0), (850, 1e-5), (850, 1e-4), (8500, 1e-2)])
def test_a_good_update_reaches_everyone(max_harmed: int, q: float) -> None:
    plan = plan_looks(FLEET, max_harmed, 0.999, 4.0, q)
    assert np.mean(_harmed(plan, 0.0, q, 2000, 1)[1]) > 0.98


def test_a_barely_feasible_budget_mostly_gets_there() -> None:
    plan = plan_looks(FLEET, 850, 0.999, 4.0, 1e-3)
    assert np.mean(_harmed(plan, 0.0, 1e-3, 2000, 1)[1]) > 0.9


def test_the_rule_that_spends_no_alpha_breaks_it() -> None:
    plan = plan_looks(FLEET, 850, 0.5, 4.0, 1e-4, robust=False)
    assert _worst(plan, 1e-4) > 4 * ALPHA


def test_half_the_bound_breaks_it() -> None:
    """As if U were halved: twice the budget in the test, the stated one in the count of harm."""
    double = plan_looks(FLEET, 1700, 1 - ALPHA, 4.0, 0.0, robust=False)

    def rule(plan: LookPlan, rings: Sequence[RingCounts]) -> object:
        return statistical_window(double, rings)

    assert _worst(replace(double, max_harmed=850), 0.0, rule=rule) > 0.9


def test_reading_a_ring_before_its_time_breaks_it() -> None:
    """Pending treated leases taken as fine: harm that is silent until the observation time is over is not seen."""

    def rule(plan: LookPlan, rings: Sequence[RingCounts]) -> object:
        return statistical_window(plan, [*rings[:-1], replace(rings[-1], treated_failed=0 * rings[-1].treated_failed)])

    assert _worst(plan_looks(FLEET, 850, 1 - ALPHA), 0.0, rule=rule) > 0.9


def test_a_fresh_budget_for_every_ring_breaks_it() -> None:
    """The naive rule: each ring is as large as the one before it alone allows. It breaks whenever p N > B."""
    rng = np.random.default_rng(8)
    for harm_rate in (1.0, 0.01, 1e-3):
        for _ in range(20):
            ring, exposed, harmed = 100, 0, 0
            for _ in range(200):
                ring = min(ring, FLEET - exposed)
                here = int(rng.binomial(ring, harm_rate))
                exposed, harmed = exposed + ring, harmed + here
                ring = max(100, int(exact_reach(ring, here, 100, ALPHA)))
            assert harmed > 100


def test_looking_at_any_size_with_all_of_alpha_breaks_it() -> None:
    """Skipping: a look every ten per cent, each with the whole alpha and free to open anything."""
    rng = np.random.default_rng(9)
    replicates, budget = 4000, 100
    sizes = np.unique(np.append(np.round(budget * 1.1 ** np.arange(120)), FLEET)).astype(np.int64)
    sizes = sizes[sizes <= FLEET]
    broken = []
    for harm_rate in (3e-4, 1e-3):
        left = np.full(replicates, round(harm_rate * FLEET))
        window = np.full(replicates, budget, dtype=np.float64)
        y = np.zeros(replicates, dtype=np.int64)
        seen, harmed = 0, np.zeros(replicates, dtype=np.int64)
        for size in sizes:
            here = rng.hypergeometric(left, FLEET - seen - left, int(size) - seen)
            seen, left, y = int(size), left - here, y + here
            harmed = np.where(size <= window, y, harmed)
            reach = exact_reach(seen, y, budget, ALPHA)
            window = np.where(size <= window, np.maximum(window, reach), window)
        broken.append(float(np.mean(harmed > budget)))
    assert max(broken) > 2 * ALPHA


def test_late_devices_that_alone_are_harmed_would_break_any_window() -> None:
    """Why they run on the certain rule: clean evidence of those who were there opens everything."""
    plan = plan_looks(FLEET, 850, 0.999, attendance=0.8)
    rings = [RingCounts(int(0.8 * plan.treated(k)), int(0.8 * plan.placebo[k]), 0, 0) for k in range(plan.rings - 1)]
    assert statistical_window(plan, rings) == FLEET


def test_evaluating_at_the_placebo_gate_keeps_it_through_an_outage() -> None:
    """Half of both arms silent, clearing over time; the ring is frozen by a look at the placebo arm alone."""
    plan = plan_looks(FLEET, 850, 1 - ALPHA, 4.0, 1e-5, robust=False)
    m, c, replicates = plan.treated(0), plan.placebo[0], 4000
    rng = np.random.default_rng(10)
    gate = placebo_gate(0.01, c)
    for factor in (1.0, 1.3):
        p = factor * 851 / plan.sizes[1]
        here = rng.binomial(m, p, replicates)
        share = np.full(replicates, 0.5)
        y = here + rng.binomial(m - here, share)
        x = rng.binomial(c, share)
        for _ in range(60):
            waiting = x > gate
            y = np.where(waiting, here + rng.binomial(y - here, 0.8), y)
            x = np.where(waiting, rng.binomial(x, 0.8), x)
        assert np.all(x <= gate)
        opened = np.asarray(statistical_window(plan, [RingCounts(m, c, y, x)])) >= plan.sizes[1]
        assert np.mean(opened) <= ALPHA + 3 * np.sqrt(ALPHA / replicates)


def test_harm_that_silences_its_whole_site_hides_from_the_placebo() -> None:
    """Interference, said openly: a spill-over on both arms alike makes the bound too low."""
    plan = plan_looks(FLEET, 850, 0.999, 4.0, 1e-4)
    seen = RingCounts(850, 3400, 9, 34)
    alone = RingCounts(850, 3400, 9, 0)
    assert statistical_window(plan, [seen]) >= statistical_window(plan, [alone])
