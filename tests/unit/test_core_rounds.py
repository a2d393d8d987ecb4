"""A ring whose members wait for caps stays open while it moves, and no longer than the slowest group needs."""

from __future__ import annotations

import pytest
from tests.rollouts import Course, Fleet, run_good, spec_of

from tidegate.core.admission import Grant, NotYet, accepts
from tidegate.core.caps import Cap
from tidegate.core.limits import Limit
from tidegate.core.model import Outcome
from tidegate.core.rounds import rounds


def test_rounds_are_those_of_the_slowest_group() -> None:
    fleet = [({"site": "A"}, 7), ({"site": "B"}, 2), ({"site": "B", "os": "linux"}, 1), ({}, 5)]
    assert rounds([Cap("site", 2)], fleet) == (4, 1.5)
    assert rounds([], fleet) == (1, 0) and rounds([Cap("os", 1)], fleet) == (1, 0) and rounds([], []) == (1, 0)
    assert rounds([], [({"service": "dns", "lane": lane}, 1) for lane in "abb"]).slowest == 2
    assert rounds([], fleet, [Limit("all of B", (("site", "B"),), 1)]) == (3, 0)


def capped(cap_rounds: int) -> Course:
    fleet = Fleet(8, {index: {"site": "A"} for index in range(8)})
    caps = (Cap("site", 2),)
    return fleet.start(spec_of(8, max_harmed=8, placebo_per_treated=0.0, caps=caps, cap_rounds=cap_rounds))


def one_round(course: Course) -> int:
    granted = [p for p in range(8) if p not in course.treated and isinstance(course.announce(p), Grant)]
    for position in granted:
        course.report(position, Outcome.CONFIRMED)
    course.fleet.pass_s(9)
    return len(granted)


@pytest.mark.parametrize(("cap_rounds", "late"), [(4, 0), (1, 4)])
def test_a_ring_waits_for_whom_its_caps_hold_back(cap_rounds: int, late: int) -> None:
    course = capped(cap_rounds)
    while not course.rollout.closed:
        one_round(course)
    assert len(set(course.rollout.overdue)) == late


def test_a_ring_that_does_not_move_closes_after_one_observation_time() -> None:
    course = capped(4)
    for position in range(8):
        course.announce(position)  # two are exposed, and neither ever answers
    assert isinstance(course.announce(7), NotYet)
    course.fleet.pass_s(9)
    assert accepts(course.rollout, 1, course.fleet.now_ms)
    course.fleet.pass_s(2)
    assert not accepts(course.rollout, 1, course.fleet.now_ms)


def test_everyone_gets_through_a_tight_cap() -> None:
    course = capped(4)
    run_good(course)
    assert course.rollout.covered == 8
