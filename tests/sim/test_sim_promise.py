"""The promise with power, through the whole simulator at confidence 0.95: the shipped rule keeps it, bugs break it."""

from __future__ import annotations

import pytest
from bench.promise import (
    ALPHA,
    BUDGETS,
    FAULTS,
    RATES,
    Case,
    broken_cases,
    false_halts,
    kept_cases,
    restarts,
    worst_of,
)

MANY = 10_000


@pytest.mark.parametrize("q", [0.0, 1e-4, 1e-2])
@pytest.mark.parametrize("max_harmed", BUDGETS)
def test_the_budget_is_kept(max_harmed: int, q: float) -> None:
    worst = worst_of(Case("no fault", max_harmed, q), 1000, 0)
    assert worst.broken <= worst.tolerance, f"broken in {worst.broken:.3f} of runs at harm rate {worst.at:.3g}"


def test_the_tests_have_power_because_the_rule_is_nearly_exact() -> None:
    assert worst_of(Case("no fault", 850, 0.0), 2000, 0).broken > ALPHA / 4


@pytest.mark.parametrize("case", broken_cases(), ids=lambda case: case.name)
def test_a_rule_with_a_bug_is_seen(case: Case) -> None:
    worst = worst_of(case, 500, 0)
    assert worst.broken > worst.tolerance + 0.1


def test_late_devices_that_alone_are_harmed_cannot_break_it() -> None:
    assert worst_of(Case("late", 850, 1e-4, late=True), 500, 0).broken == 0.0


@pytest.mark.parametrize("name", FAULTS)
def test_faults_do_not_break_it(name: str) -> None:
    worst = worst_of(Case(name, 850, 1e-4, fault=FAULTS[name]), 1000, 0)
    assert worst.broken <= worst.tolerance


@pytest.mark.parametrize("p", [1.0, 0.4])
def test_restarts_of_a_candidate_share_one_budget(p: float) -> None:
    assert restarts(850, p, 300, fresh=False) == 0.0
    assert restarts(850, p, 300, fresh=True) > ALPHA + 0.1


@pytest.mark.parametrize("q", [0.0, 1e-4, 1e-2])
def test_a_good_update_is_halted_no_more_often_than_said(q: float) -> None:
    assert false_halts(q, 2000) <= ALPHA
    assert false_halts(q, 500, outage=True) <= ALPHA


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", kept_cases(), ids=lambda case: f"{case.name} B={case.max_harmed} q={case.q:g}")
def test_the_budget_is_kept_everywhere(case: Case) -> None:
    worst = worst_of(case, MANY, 29)
    assert worst.broken <= worst.tolerance, f"broken in {worst.broken:.4f} of runs at harm rate {worst.at:.3g}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("q", RATES)
def test_false_halts_with_many_replicates(q: float) -> None:
    assert false_halts(q, MANY) <= ALPHA
