"""Planning: the reference figures, what is feasible, and the rings of the certain rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.looks import certain_ring_count, certain_rings, min_max_harmed, plan_looks, time_limit_rings
from tidegate.core.looks_design import Evidence, chernoff_target

FLEET = 8_500_000
RATES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


@pytest.mark.parametrize(("max_harmed", "rings"), [(100, 6), (850, 3), (8500, 2)])
def test_the_time_limit_of_the_reference(max_harmed: int, rings: int) -> None:
    assert time_limit_rings(FLEET, max_harmed, 0.999) == rings


@pytest.mark.parametrize(("devices", "hours"), [(50, (5, 3, 2, 1.5)), (300, (8.5, 5, 3, 2)), (2000, (12, 7, 4.5, 2.5))])
def test_the_time_limit_of_small_fleets(devices: int, hours: tuple[float, ...]) -> None:
    """Hours at D = 30 minutes, alpha 0.05, max_harmed 2, 3, 5 and 10: the exact hypergeometric rule."""
    assert tuple(time_limit_rings(devices, b, 0.95) / 2 for b in (2, 3, 5, 10)) == hours


def test_a_canary_costs_at_most_what_it_is_for() -> None:
    assert time_limit_rings(FLEET, 850, 0.999, canary=16) == 4
    assert time_limit_rings(10, 20) == 1
    assert time_limit_rings(10**9, 1) > 1000


def test_the_smallest_feasible_budgets() -> None:
    """'Full alpha, exact' at 8.5 million, alpha 1e-3: the reference says 6, 16, 49, 153, 480, 1532."""
    found = [min_max_harmed(FLEET, 0.999, 4.0, q, q_gate=0.0, gated=False) for q in RATES]
    assert found == pytest.approx([6, 16, 49, 153, 480, 1532], rel=0.025)
    assert found[0] == 6
    small = [min_max_harmed(10_000, 0.999, 4.0, q, q_gate=0.0, gated=False) for q in (0.0, 1e-4, 1e-3, 1e-2)]
    assert small == pytest.approx([5, 6, 17, 53], abs=1.1)


@pytest.mark.parametrize(
    ("alpha", "reference"),
    [(0.001, (11, 26, 66, 200, 631, 2016)), (0.0009 / 40, (16, 31, 76, 222, 693, 2214))],
    ids=["full alpha", "first form"],
)
def test_the_smallest_feasible_budgets_of_the_chernoff_form(alpha: float, reference: tuple[int, ...]) -> None:
    """With one placebo ratio throughout; the best tilt does up to 14 % better than the reference where q is high."""
    found = [_chernoff_least(q, alpha) for q in RATES]
    assert found[0] == reference[0]
    assert all(0.86 * ref <= got <= ref for got, ref in zip(found, reference, strict=True))


@pytest.mark.parametrize(
    ("max_harmed", "q", "most"),
    [(100, 0, 6), (850, 0, 3), (8500, 0, 2), (100, 1e-5, 7), (850, 1e-4, 4), (850, 1e-3, 6)],
)
def test_rings_of_a_good_update(max_harmed: int, q: float, most: int) -> None:
    plan = plan_looks(FLEET, max_harmed, 0.999, 4.0, q)
    assert plan.feasible
    assert plan.rings <= most
    if q == 0:
        assert plan.rings == time_limit_rings(FLEET, max_harmed, 0.999)


@settings(max_examples=30, deadline=None)
@given(
    devices=st.integers(1, 2_000_000),
    max_harmed=st.integers(1, 3000),
    canary=st.integers(0, 3000),
    q=st.sampled_from([0.0, 1e-9, 1e-5, 1e-3, 0.05, 0.5]),
    placebo=st.sampled_from([0.0, 0.3, 1.0, 4.0]),
)
def test_plans_hold_together(devices: int, max_harmed: int, canary: int, q: float, placebo: float) -> None:
    plan = plan_looks(devices, max_harmed, 0.99, placebo, q, 0.05, canary)
    assert plan.sizes[0] <= min(max_harmed, devices, canary or max_harmed)
    assert all(a < b for a, b in zip(plan.sizes, plan.sizes[1:], strict=False))
    assert plan.feasible == (plan.sizes[-1] == devices)
    assert len(plan.sizes) == len(plan.placebo) == len(plan.tests) == len(plan.thetas)
    for ring, size in enumerate(plan.sizes):
        assert 0 <= plan.placebo[ring] <= devices - size
        assert plan.placebo[ring] <= placebo * plan.treated(ring) + 1


def test_a_plan_stands_absences_where_that_costs_no_ring() -> None:
    tight = plan_looks(FLEET, 850, robust=False)
    assert plan_looks(FLEET, 850).rings == tight.rings
    assert plan_looks(FLEET, 850).sizes[1] < tight.sizes[1]


def test_a_second_look_at_each_size_takes_half_the_alpha() -> None:
    assert plan_looks(FLEET, 850, looks_per_size=2).look_alpha == pytest.approx(0.0005)


def test_no_placebo_and_no_background_is_as_good() -> None:
    assert plan_looks(FLEET, 100, 0.999, 0.0).rings == plan_looks(FLEET, 100, 0.999, 4.0).rings


def test_certain_rings_ramp_and_then_take_the_budget_each() -> None:
    assert certain_rings(500, 10, 10) == tuple(range(10, 501, 10))
    assert certain_rings(100, 40, 4)[:5] == (4, 12, 28, 60, 100)
    assert certain_rings(3, 10, 10) == (3,)


@given(devices=st.integers(0, 5000), max_harmed=st.integers(1, 300), canary=st.integers(1, 300))
def test_certain_rings_are_counted_without_being_listed(devices: int, max_harmed: int, canary: int) -> None:
    rings = certain_rings(devices, max_harmed, canary)
    assert certain_ring_count(devices, max_harmed, canary) == len(rings)
    assert (rings[-1] if rings else 0) == devices


def test_what_is_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match="max_harmed"):
        plan_looks(10, 0)
    with pytest.raises(ValueError, match="confidence"):
        plan_looks(10, 1, 1.0)
    with pytest.raises(ValueError, match="q_gate"):
        plan_looks(10, 1, q_gate=1.0)
    with pytest.raises(ValueError, match="looks_per_size"):
        plan_looks(10, 1, looks_per_size=3)
    with pytest.raises(ValueError, match="canary"):
        certain_rings(10, 1, 0)
    with pytest.raises(ValueError, match="ten million"):
        certain_rings(10**9, 1, 1)


def _chernoff_least(q: float, alpha: float) -> int:
    def feasible(budget: int) -> bool:
        now = Evidence(FLEET, budget, alpha, 4.0, q, 0.0, budget)
        size = budget
        for _ in range(39):
            target, _ = chernoff_target(replace(now, treated=(size,), placebo=(4 * size,)), 1.5, FLEET)
            if target >= FLEET or target <= size:
                return target >= FLEET
            size = target
        return False

    return _bisect(feasible)


def _bisect(feasible: Callable[[int], bool]) -> int:
    low, high = 0, 4000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if feasible(middle) else (middle, high)
    return high
