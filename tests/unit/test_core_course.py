"""What is due: rings close and open, a hold goes on when it may, harm halts, and there is always an end."""

from __future__ import annotations

from typing import Any

import pytest
from tests.rollouts import Course, Fleet, run_good, spec_of

from tidegate.core.admission import Grant
from tidegate.core.course import next_due
from tidegate.core.model import Arm, Outcome, PlanState
from tidegate.core.phases import Happening
from tidegate.core.verdict import Verdict, VerdictKind


def course_of(devices: int, **changes: Any) -> Course:
    return Fleet(devices).start(spec_of(devices, **changes))


def treated_in(course: Course, ring: int) -> list[int]:
    return [p for p in range(course.rollout.devices) if course.rollout.rings.treated[p] == ring]


def everyone_asks(course: Course) -> list[int]:
    return [p for p in range(course.rollout.devices) if isinstance(course.announce(p), Grant)]


def test_the_first_ring_is_the_canary_and_opens_at_once() -> None:
    course = course_of(20, max_harmed=4, canary=2, placebo_per_treated=2.0)
    drawn = course.rollout.rings.drawn
    assert [(ring.treated, ring.placebo) for ring in drawn] == [(2, 4)]
    assert course.verdicts[0].kind is VerdictKind.ADVANCE
    assert "canary" in course.verdicts[0].sentence


def test_nothing_is_due_until_something_happens() -> None:
    course = course_of(20)
    assert next_due(course.rollout, course.fleet.now_ms) is None
    course.fleet.pass_s(1)
    assert len(course.verdicts) == 1


def test_rings_by_the_certain_rule_grow_by_what_has_been_exposed() -> None:
    course = course_of(40, max_harmed=6, canary=2, placebo_per_treated=0.0)
    run_good(course)
    sizes = [ring.treated for ring in course.rollout.rings.drawn]
    assert sizes[:3] == [2, 4, 6]
    assert sum(sizes) == 40
    assert max(sizes) <= 6


def test_a_ring_closes_when_all_have_answered_and_its_evidence_stays() -> None:
    course = course_of(8, placebo_per_treated=1.0)
    for position in everyone_asks(course):
        course.report(position, Outcome.CONFIRMED if position in course.treated else Outcome.REVERTED)
    course.fleet.look()
    frozen = course.frozen[1]
    assert (frozen.treated, frozen.treated_failed, frozen.placebo, frozen.placebo_failed) == (3, 0, 3, 3)
    run_good(course)
    assert course.rollout.closed[1] == frozen


def test_a_ring_with_absent_members_closes_after_its_time_and_they_are_late() -> None:
    course = course_of(8, spread_s=5)
    present = treated_in(course, 1)[0]
    course.announce(present)
    course.report(present, Outcome.CONFIRMED)
    course.fleet.pass_s(14)
    assert 1 not in course.frozen
    course.fleet.pass_s(1)
    assert set(course.frozen[1].late) == set(treated_in(course, 1)) - {present}
    assert course.frozen[1].treated == 1


def test_an_outage_of_both_arms_waits_until_few_placebo_devices_are_silent() -> None:
    """All fall silent: the gate (2 silent placebo devices at q_gate 0) keeps the ring open, whatever the time."""
    course = course_of(20, max_harmed=6, q_gate=0.0)
    everyone_asks(course)
    course.fleet.pass_s(100)
    assert not course.frozen
    assert course.rollout.phase is PlanState.HOLD
    placebo = [p for p in range(20) if course.placebo[p]]
    for position in placebo[:4]:
        course.report(position, Outcome.CONFIRMED)
    course.fleet.look()
    assert course.frozen[1].placebo_failed == 2


def test_a_ring_without_answers_from_the_treated_alone_halts() -> None:
    course = course_of(60, max_harmed=20, placebo_per_treated=1.0)
    for position in everyone_asks(course):
        if position not in course.treated:
            course.report(position, Outcome.CONFIRMED)
    course.fleet.pass_s(11)
    assert course.rollout.phase is PlanState.HALTED
    assert course.verdicts[-1].kind is VerdictKind.HALT
    assert course.verdicts[-1].figures.silent == 20


def test_two_reverted_devices_halt_and_one_does_not() -> None:
    course = course_of(20)
    first, second, _ = treated_in(course, 1)
    for position in (first, second):
        course.announce(position)
    course.report(first, Outcome.REVERTED)
    course.fleet.look()
    assert course.rollout.phase is PlanState.OPEN
    course.report(second, Outcome.REVERTED)
    course.fleet.look()
    assert course.rollout.phase is PlanState.HALTED
    assert "2 reverted themselves" in course.verdicts[-1].sentence
    assert next_due(course.rollout, course.fleet.now_ms + 10**9) is None


def test_silent_canaries_hold_and_the_rollout_goes_on_when_they_come_back() -> None:
    course = course_of(12, placebo_per_treated=0.0)
    canaries = everyone_asks(course)
    course.fleet.pass_s(11)
    assert course.rollout.phase is PlanState.HOLD
    assert "3 devices exposed without a confirmation (3 silent" in course.rollout.sentence
    assert everyone_asks(course) == canaries, "nobody but those who hold a lease already"
    course.report(canaries[0], Outcome.CONFIRMED)
    course.fleet.look()
    assert course.rollout.phase is PlanState.OPEN
    assert course.rollout.ring_open == 2


def test_late_devices_can_come_back_for_ever() -> None:
    """One device is away for a day when its ring is open: plans stay open for it, and it completes the rollout."""
    course = course_of(8)
    away = treated_in(course, 1)[0]
    for _ in range(100):
        for position in range(8):
            if position != away and isinstance(course.announce(position), Grant):
                course.report(position, Outcome.CONFIRMED)
        course.fleet.pass_s(1)
    course.fleet.pass_s(86_400)
    assert len(course.good) == 7
    assert set(course.rollout.overdue) == {away}
    assert course.rollout.phase is PlanState.OPEN, "devices announce while a plan is open alone"
    answer = course.announce(away)
    assert isinstance(answer, Grant)
    assert answer.late
    course.report(away, Outcome.CONFIRMED)
    course.fleet.look()
    assert course.rollout.phase is PlanState.CLOSED


def test_a_hold_for_lack_of_room_is_eased_for_late_devices() -> None:
    """Everybody left is late, and the budget is used up by silent ones: hold; one of them confirms: late ones may."""
    course = course_of(6, placebo_per_treated=0.0)
    for position in treated_in(course, 1):
        course.announce(position)
        course.report(position, Outcome.CONFIRMED)
    course.fleet.pass_s(1)
    course.fleet.pass_s(20)
    late = treated_in(course, 2)
    assert set(course.rollout.overdue) == set(late)
    for position in late:
        course.announce(position)
    course.fleet.pass_s(20)
    assert course.rollout.phase is PlanState.HOLD
    for position in late:
        course.report(position, Outcome.CONFIRMED)
    course.fleet.look()
    assert course.rollout.phase is PlanState.CLOSED


def test_room_that_comes_back_eases_a_hold() -> None:
    course = course_of(9, max_harmed=3, placebo_per_treated=0.0)
    for position in treated_in(course, 1):
        course.announce(position)
        course.report(position, Outcome.CONFIRMED)
    course.fleet.pass_s(1)
    second = treated_in(course, 2)
    assert len(second) == 3
    course.fleet.pass_s(20)  # ring 2 is missed by all: they are late, and ring 3 opens
    third = treated_in(course, 3)
    assert set(course.rollout.overdue) == set(second)
    assert len(third) == 3
    for position in second:
        assert isinstance(course.announce(position), Grant)
    course.fleet.pass_s(20)  # ring 3 found no room, and is missed as well
    assert course.rollout.phase is PlanState.HOLD
    assert course.rollout.rings.left == 0
    course.report(second[0], Outcome.CONFIRMED)
    course.fleet.look()
    assert course.rollout.phase is PlanState.OPEN
    assert course.verdicts[-1].happening is Happening.EASED
    assert isinstance(course.announce(third[0]), Grant)


def test_a_paused_rollout_opens_nothing_but_closes_rings_and_halts() -> None:
    course = course_of(20)
    for position in everyone_asks(course):
        course.report(position, Outcome.CONFIRMED)
    course.steer("pause")
    course.fleet.pass_s(1)
    assert course.rollout.ring_open == 1
    assert 1 in course.frozen
    course.steer("resume")
    course.fleet.look()
    assert course.rollout.ring_open == 2
    course.steer("pause")
    for position in treated_in(course, 2)[:2]:
        course.rollout.lease(position, 2, Arm.TREATED, course.fleet.now_ms, late=False)
        course.rollout.report(position, 2, Outcome.REVERTED)
    due = next_due(course.rollout, course.fleet.now_ms)
    assert isinstance(due, Verdict)
    assert due.kind is VerdictKind.HALT


def test_everyone_confirmed_is_the_end() -> None:
    course = course_of(5)
    run_good(course)
    assert course.verdicts[-1].happening is Happening.COMPLETE
    assert "all 5 devices" in course.verdicts[-1].sentence
    assert course.rollout.ended_ms == course.fleet.now_ms


@pytest.mark.parametrize("now_ms", [0, -(10**12), 10**15])
def test_a_clock_that_lies_ends_no_loop(now_ms: int) -> None:
    course = course_of(20)
    everyone_asks(course)
    course.fleet.now_ms = now_ms
    course.look()
