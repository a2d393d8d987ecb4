"""The window: the certain rule for certain, early looks never wider, no skipping, and the gate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.gating import placebo_gate
from tidegate.core.looks import LookPlan, plan_looks
from tidegate.core.window import (
    RingCounts,
    certain_room,
    statistical_window,
    tally,
    window,
)

PLANS = (
    plan_looks(8_500_000, 850, 0.999, q=1e-4),
    plan_looks(8_500_000, 850, 0.999, q=1e-3),
    plan_looks(8_500_000, 100, 0.95, q=1e-5, canary=16),
    plan_looks(20_000, 50, 0.95, 1.0, q=1e-3),
    plan_looks(300, 10, 0.95, 0.0),
    plan_looks(8_500_000, 100, 0.999, q=1e-3),
)


@st.composite
def _rollouts(draw: st.DrawFn) -> tuple[LookPlan, list[RingCounts]]:
    plan = draw(st.sampled_from(PLANS))
    rings: list[RingCounts] = []
    for ring in range(draw(st.integers(1, plan.rings))):
        m, c = plan.treated(ring), plan.placebo[ring]
        rings.append(RingCounts(m, c, draw(st.integers(0, min(m, 30))), draw(st.integers(0, min(c, 120)))))
    return plan, rings


def test_nobody_confirmed_opens_the_canary_at_most() -> None:
    for plan in PLANS:
        assert statistical_window(plan, []) <= min(plan.max_harmed, plan.canary)
        pending = RingCounts(plan.treated(0), plan.placebo[0], plan.treated(0), 0)
        assert statistical_window(plan, [pending]) == plan.sizes[0]
        assert window(plan, [pending], plan.sizes[0], 0) == plan.sizes[0]


@settings(max_examples=60, deadline=None)
@given(_rollouts(), st.integers(0, 10_000), st.integers(0, 10_000))
def test_an_early_look_is_never_wider_than_the_final_one(
    rollout: tuple[LookPlan, list[RingCounts]], treated_pending: int, placebo_pending: int
) -> None:
    plan, final = rollout
    for ring, counts in enumerate(final):
        m, y, x = int(counts.treated), int(counts.treated_failed), int(counts.placebo_failed)
        fine = max(0, m - y - treated_pending)
        early = list(final)
        early[ring] = tally(m, fine, int(counts.placebo), max(0, x - placebo_pending))
        assert statistical_window(plan, early) <= statistical_window(plan, final)


@settings(max_examples=60, deadline=None)
@given(_rollouts())
def test_a_look_opens_the_next_size_and_never_more(rollout: tuple[LookPlan, list[RingCounts]]) -> None:
    plan, rings = rollout
    found = statistical_window(plan, rings)
    assert found in plan.sizes
    assert found <= plan.sizes[min(len(rings), plan.rings - 1)]
    clean = [replace(ring, treated_failed=0, placebo_failed=0) for ring in rings]
    assert found <= statistical_window(plan, clean)


def test_absences_open_what_the_smaller_ring_can_stand() -> None:
    plan = plan_looks(8_500_000, 850, 0.999, robust=False)
    full, few = RingCounts(850, 3400, 0, 0), RingCounts(300, 1200, 0, 0)
    assert statistical_window(plan, [full]) == plan.sizes[1]
    assert statistical_window(plan, [few]) == plan.sizes[0]
    spare = plan_looks(8_500_000, 850, 0.999, attendance=0.8)
    assert spare.rings == 4
    assert statistical_window(spare, [RingCounts(680, 2720, 0, 0)]) == spare.sizes[1]


def test_replicates_are_computed_together() -> None:
    plan, rng = PLANS[1], np.random.default_rng(5)
    m = [plan.treated(k) for k in range(3)]
    y = [rng.poisson(0.001 * size, 40) for size in m]
    x = [rng.poisson(0.001 * plan.placebo[k], 40) for k in range(3)]
    together = statistical_window(plan, [RingCounts(m[k], plan.placebo[k], y[k], x[k]) for k in range(3)])
    assert isinstance(together, np.ndarray)
    alone = [
        statistical_window(plan, [RingCounts(m[k], plan.placebo[k], int(y[k][i]), int(x[k][i])) for k in range(3)])
        for i in range(40)
    ]
    assert list(together) == alone
    sizes = np.where(np.arange(40) % 2, m[0], m[0] - 50)
    mixed = statistical_window(plan, [RingCounts(sizes, plan.placebo[0], 0, 0)])
    assert isinstance(mixed, np.ndarray)
    assert mixed.shape == (40,)


def test_the_window_is_the_wider_of_both_rules() -> None:
    plan = PLANS[0]
    rings = [RingCounts(850, 3400, 0, 0)]
    assert window(plan, rings, 850, 850) == statistical_window(plan, rings) == plan.sizes[1]
    many = [RingCounts(850, 3400, 40, 0)]
    assert statistical_window(plan, many) == 850
    assert window(plan, many, 850, 810) == 850 + 810
    assert window(plan, many, 1660, 1620, max_harmed=100) == 1660 + 60
    assert window(PLANS[4], [], 295, 295) == 300


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="counts"):
        statistical_window(PLANS[0], [RingCounts(850, 3400, 851, 0)])
    with pytest.raises(ValueError, match="confirmed"):
        certain_room(10, 11, 5, 5)
    with pytest.raises(ValueError, match="q_gate"):
        placebo_gate(1.0, 10)


@settings(max_examples=200)
@given(
    max_harmed=st.integers(1, 40),
    canary=st.integers(1, 40),
    moves=st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1), st.floats(0, 1)), max_size=60),
)
def test_the_certain_rule_never_harms_more_than_the_budget(
    max_harmed: int, canary: int, moves: list[tuple[int, float, float]]
) -> None:
    """Whoever is harmed and whenever the others confirm: an adversary chooses both."""
    exposed = confirmed = harmed = 0
    for wanted, harmful, confirming in moves:
        granted = min(wanted, certain_room(exposed, confirmed, max_harmed, canary))
        exposed += granted
        harmed += round(granted * harmful)
        confirmed += round((exposed - harmed - confirmed) * confirming)
        assert harmed <= max_harmed
        if confirmed == 0:
            assert exposed <= canary


def test_the_certain_rule_for_arrays() -> None:
    room = certain_room(np.array([0, 10, 10, 50]), np.array([0, 0, 10, 45]), 20, 10)
    assert list(room) == [10, 0, 20, 15]
    assert certain_room(5, 0, 20, 3) == 0


def test_the_gate_is_a_count() -> None:
    assert placebo_gate(0.05, 0) == 2
    assert placebo_gate(0.05, 3400) == 211
    assert placebo_gate(0.0, 3400) == 2


def test_the_gate_loses_few_rings_to_chance() -> None:
    rng = np.random.default_rng(1)
    for placebo, rate in ((64, 0.05), (3400, 0.01), (400_000, 1e-4)):
        silent = rng.binomial(placebo, rate, 20_000)
        assert np.mean(silent > placebo_gate(rate, placebo)) < 0.01
