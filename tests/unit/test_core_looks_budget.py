"""Budgets through restarts, months, severities and strata: alpha is one."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.errors import Refused
from tidegate.core.looks import plan_looks
from tidegate.core.looks_budget import (
    MONTH_S,
    Account,
    Rolling,
    budget_parts,
    severity_plans,
    severity_room,
    severity_window,
    strata_budgets,
)
from tidegate.core.window import RingCounts

PLAN = plan_looks(100_000, 100, 0.999)


def test_a_restart_in_the_same_order_goes_on_with_its_evidence() -> None:
    account = Account("a" * 64, 100, 0.999).begun("roster-1", PLAN).with_rings([RingCounts(100, 400, 1, 0)])
    again = account.renewed("a" * 64, 100, 0.999).begun("roster-1", PLAN)
    assert again.rings == account.rings
    assert again.alpha_spent == pytest.approx(0.001)


def test_another_order_of_the_same_candidate_finds_alpha_spent() -> None:
    account = Account("a" * 64, 100, 0.999).begun("roster-1", PLAN).closed(500, 490)
    with pytest.raises(Refused, match="alpha is spent"):
        account.begun("roster-2", PLAN)


def test_unconfirmed_devices_of_earlier_orders_stay_charged() -> None:
    half = plan_looks(100_000, 100, 0.9995)
    account = Account("a" * 64, 100, 0.999).begun("roster-1", half).closed(500, 490)
    assert account.max_harmed_left == 90
    with pytest.raises(Refused, match="90 of max_harmed"):
        account.begun("roster-2", half)
    smaller = account.begun("roster-2", plan_looks(100_000, 90, 0.9995))
    assert smaller.alpha_left == pytest.approx(0.0, abs=1e-12)


def test_a_budget_is_never_raised_and_never_lent() -> None:
    account = Account("a" * 64, 100, 0.999)
    for candidate, max_harmed, confidence in (("b" * 64, 100, 0.999), ("a" * 64, 101, 0.999), ("a" * 64, 100, 0.99)):
        with pytest.raises(Refused):
            account.renewed(candidate, max_harmed, confidence)
    assert account.renewed("a" * 64, 50, 0.9999).max_harmed == 50


def test_looks_cannot_be_resized_once_begun() -> None:
    account = Account("a" * 64, 100, 0.999).begun("roster-1", PLAN)
    with pytest.raises(Refused, match="sizes cannot change"):
        account.begun("roster-1", plan_looks(100_000, 100, 0.999, canary=10))


@given(st.lists(st.tuples(st.integers(1, 200), st.integers(0, 200)), max_size=12))
def test_no_sequence_of_attempts_spends_more_than_alpha_or_the_budget(attempts: list[tuple[int, int]]) -> None:
    tenth = plan_looks(1000, 10, 1 - 0.001 / 4)
    account, harmed, alpha = Account("a" * 64, 30, 0.999), 0, 0.0
    for number, (exposed, unconfirmed) in enumerate(attempts):
        try:
            account = account.begun(str(number), tenth)
        except Refused:
            continue
        alpha += tenth.alpha
        lost = min(exposed, unconfirmed, 10)
        harmed += lost
        account = account.closed(exposed, exposed - lost)
    assert alpha <= 0.001 * (1 + 1e-9)
    assert harmed <= 30


def test_many_small_budgets_do_not_add_up_unseen() -> None:
    month = Rolling(100).reserved(0, "a", 60)
    with pytest.raises(Refused, match="40 left"):
        month.reserved(10, "b", 60)
    assert month.reserved(10, "a", 60).left(10) == 40, "a restart inherits its reservation"
    settled = month.settled(1000, "a", unconfirmed=5)
    assert settled.left(1001) == 95
    assert settled.left(1000 + MONTH_S) == 100
    assert settled.settled(2 * MONTH_S, "a", 5).left(2 * MONTH_S) == 100, "what has ended does not end again"
    assert month.left(10 * MONTH_S) == 40, "a rollout that still runs is charged however old it is"


@given(
    st.lists(
        st.tuples(st.integers(0, 40 * 86_400), st.sampled_from("abcd"), st.integers(1, 60), st.booleans()), max_size=30
    )
)
def test_the_rolling_budget_is_never_overdrawn(events: list[tuple[int, str, int, bool]]) -> None:
    month, now = Rolling(100), 0.0
    for wait, candidate, count, settles in events:
        now += wait
        if settles:
            month = month.settled(now, candidate, count)
            continue
        with contextlib.suppress(Refused):
            month = month.reserved(now, candidate, count)
        assert month.left(now) >= 0


def test_late_devices_have_a_share_of_their_own() -> None:
    assert budget_parts(850, 0.2) == (680, 170)
    assert budget_parts(10, 0.0) == (10, 0)
    assert sum(budget_parts(7, 0.2)) == 7
    with pytest.raises(ValueError, match="too small"):
        budget_parts(1, 0.2)


def test_severity_takes_half_of_alpha_each_and_the_narrower_window() -> None:
    plans = severity_plans(8_500_000, 850, 200, 0.999, 4.0, 1e-5, 1e-4, 0.05)
    assert [plan.look_alpha for plan in plans] == pytest.approx([0.0005, 0.0005])
    assert plans[0].sizes == plans[1].sizes
    assert plans[0].feasible
    m, c = plans[0].treated(0), plans[0].placebo[0]
    fine, reverted = RingCounts(m, c, 0, 0), RingCounts(m, c, m, 0)
    assert severity_window(plans, [fine], [fine]) == plans[0].sizes[1]
    assert severity_window(plans, [fine], [reverted]) == plans[0].sizes[0]
    arrays = RingCounts(m, c, np.array([0, m]), np.array([0, 0]))
    assert list(np.asarray(severity_window(plans, [fine], [arrays]))) == [plans[0].sizes[1], plans[0].sizes[0]]


@given(
    exposed=st.integers(0, 500), confirmed=st.integers(0, 500), reverted=st.integers(0, 500), silent=st.integers(1, 50)
)
def test_severity_by_the_certain_rule(exposed: int, confirmed: int, reverted: int, silent: int) -> None:
    confirmed = min(confirmed, exposed)
    reverted = min(reverted, exposed - confirmed)
    room = severity_room(exposed, confirmed, reverted, 50, silent, 50)
    if room:
        assert exposed + room - confirmed <= 50
        assert exposed + room - confirmed - reverted <= silent


def test_strata_are_searched_and_not_split_in_proportion() -> None:
    """70, 20, 9 and 1 % of 8.5 million, 100 devices in all: 10 rings for each (in proportion: 45,397)."""
    strata = [5_950_000, 1_700_000, 765_000, 85_000]
    split = strata_budgets(strata, 100, 0.999, q_gate=0.0)
    assert sum(split) <= 100
    each = 1 - 0.001 / 4
    rings = [plan_looks(n, b, each, q_gate=0.0).rings for n, b in zip(strata, split, strict=True)]
    assert max(rings) <= 10
    with pytest.raises(Refused):
        strata_budgets(strata, 8, 0.999)
