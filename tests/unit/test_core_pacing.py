"""Rings and the signed speed limit: none opens before its members may begin, and nobody is late for having to wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.rollouts import Course, Fleet, run_good, spec_of

from tidegate.core.admission import Grant
from tidegate.core.assign import SHARE_ONE
from tidegate.core.course import limited
from tidegate.core.model import Outcome, PlanState, SpeedLimit
from tidegate.core.pacing import rings_to_come
from tidegate.core.speed import speed_permits
from tidegate.core.timetable import timetable
from tidegate.core.verdict import VerdictKind
from tidegate.core.wire import MOST_INT
from tidegate.log.events import Act

BEGIN_S = 1000
DAY_S = 86_400


def limit_of(*steps: tuple[int, float], ceiling: float = 1.0, **more: Any) -> SpeedLimit:
    """A limit logged when the fleet's clock begins, with shares as fractions."""
    shares = tuple((seconds, round(share * SHARE_ONE)) for seconds, share in steps)
    given = {"logged": BEGIN_S, "not_after": BEGIN_S + 7 * DAY_S, "clock_slack_s": 120, **more}
    return SpeedLimit(steps=shares, ceiling_2p32=round(ceiling * SHARE_ONE), **given)


def ask_all(course: Course) -> list[int]:
    """Let each device ask that would: its own limit lets it, and the plan reaches its rank. Give whom was granted."""
    rollout, now_s = course.rollout, course.fleet.now_ms // 1000
    granted: list[int] = []
    ranks = rollout.rings.ranks.tolist()
    for position in np.flatnonzero(~rollout.evidence.treated_lease).tolist():
        rank = ranks[position]
        reached = rollout.ring_open and rank <= rollout.rings.drawn[-1].announce_rank
        scout = position in course.spec.scouts
        if not (reached or scout) or rollout.phase is not PlanState.OPEN:
            continue
        assert rollout.speed is not None
        dwells_ms = 0 if rollout.dwells_ms is None else int(rollout.dwells_ms[position])
        may_begin = speed_permits(rollout.speed, rank, now_s, 0).permitted and dwells_ms <= course.fleet.now_ms
        if may_begin and isinstance(course.announce(position), Grant):
            granted.append(position)
    return granted


def run(course: Course, seconds: int, step_s: int = 1) -> None:
    """A fleet of present, healthy devices that enforce the limit themselves, for so long."""
    for _ in range(0, seconds, step_s):
        for position in ask_all(course):
            course.report(position, Outcome.CONFIRMED)
        course.fleet.pass_s(step_s)
        if course.rollout.phase is PlanState.CLOSED:
            return


def begin(devices: int, limit: SpeedLimit, **more: Any) -> Course:
    return Fleet(devices).start(spec_of(devices, speed=limit, **more))


def test_nobody_is_late_for_the_limit_with_a_slack_longer_than_the_observation_time() -> None:
    course = begin(5, limit_of((0, 0.2), (90, 0.6), (400, 1.0)))
    assert course.rollout.ring_open == 0, "with 120 s of slack nobody may begin yet"
    assert course.rollout.phase is PlanState.HOLD
    assert "the speed limit allows" in course.rollout.sentence
    run(course, 1000)
    assert course.rollout.phase is PlanState.CLOSED
    assert not course.rollout.overdue
    assert course.rollout.covered == 5


def test_a_ring_opens_not_before_its_first_member_may_begin() -> None:
    course = begin(40, limit_of((0, 0.0), (300, 1.0)))
    course.fleet.pass_s(419)
    assert course.rollout.ring_open == 0
    course.fleet.pass_s(1)
    assert course.rollout.ring_open == 1
    assert ask_all(course), "and its members may begin at once"


def test_a_ring_is_cut_to_those_who_may_begin_and_the_rest_comes_with_the_next_step() -> None:
    course = begin(200, limit_of((0, 0.1), (3600, 1.0), clock_slack_s=0), max_harmed=30)
    rollout = course.rollout
    assert rollout.ring_open == 1
    drawn = rollout.rings.drawn[0]
    may_begin = sum(rollout.rings.rank_of(position) < SHARE_ONE // 10 << 32 for position in range(200))
    assert drawn.treated + drawn.placebo == may_begin < 60, "as many as the limit allows at once"
    assert drawn.announce_rank < SHARE_ONE // 10 << 32
    assert "as many as the speed limit allows" in rollout.sentence
    run(course, 3600, 5)
    early = rollout.covered
    assert 0 < early < 40
    run(course, 3000, 5)
    assert rollout.phase is PlanState.CLOSED
    assert not rollout.overdue


def test_a_step_that_comes_within_the_observation_time_is_waited_for() -> None:
    course = begin(40, limit_of((0, 0.05), (8, 1.0), clock_slack_s=0), max_harmed=10, observe_s=10)
    assert course.rollout.ring_open == 0
    waits = limited(course.rollout, course.fleet.now_ms)
    assert waits is not None
    assert waits.until_s == BEGIN_S + 8
    course.fleet.pass_s(8)
    assert course.rollout.rings.drawn[0].treated == 10


def test_no_ring_opens_beyond_the_ceiling_until_it_is_promoted() -> None:
    limit = limit_of((0, 1.0), ceiling=0.25, clock_slack_s=0)
    course = begin(40, limit, max_harmed=10)
    run(course, 600)
    rollout = course.rollout
    share = sum(rollout.rings.rank_of(p) < limit.ceiling_2p32 << 32 for p in range(40))
    assert 0 < rollout.covered <= share
    assert rollout.phase is PlanState.HOLD
    assert not rollout.overdue
    waits = limited(rollout, course.fleet.now_ms)
    assert waits is not None
    assert waits.until_s is None
    assert limit.ceiling_2p32 < waits.promote_2p32 <= SHARE_ONE
    assert "promotion to" in rollout.sentence
    digest = rollout.spec.candidate.sha256
    body = {"digest": digest, "ceiling_2p32": SHARE_ONE}
    course.fleet.fold(Act(at_ms=course.fleet.now_ms, what="release_promoted", who="test", why="", body=body))
    course.fleet.look()
    assert rollout.phase is PlanState.OPEN
    run(course, 2000)
    assert rollout.phase is PlanState.CLOSED
    assert not rollout.overdue


def test_a_release_past_its_last_day_opens_no_ring_and_says_so() -> None:
    course = begin(20, limit_of((0, 0.3), (300, 1.0), clock_slack_s=0, not_after=BEGIN_S + 200), max_harmed=4)
    run(course, 400)
    waits = limited(course.rollout, course.fleet.now_ms)
    assert waits is not None
    assert (waits.until_s, waits.promote_2p32) == (None, 0)
    assert "last day" in waits.sentence
    assert 0 < course.rollout.covered < 20


def test_without_a_limit_nothing_changes() -> None:
    fleet = Fleet(40)
    course = fleet.start(spec_of(40, max_harmed=10))
    assert course.rollout.rings.drawn[0].treated == 10
    run_good(course)
    assert limited(course.rollout, fleet.now_ms) is None


def test_a_signed_dwell_holds_a_ring_back_and_nobody_is_late_for_it() -> None:
    fleet = Fleet(20)
    first = fleet.start(spec_of(20, max_harmed=20, rollout="one"))
    run_good(first)
    limit = limit_of((0, 1.0), dwell_s=600, clock_slack_s=0)
    second = fleet.start(spec_of(20, max_harmed=20, rollout="two", speed=limit))
    assert second.rollout.ring_open == 0
    waits = limited(second.rollout, fleet.now_ms)
    assert waits is not None
    assert waits.until_s is not None
    assert "dwell" in waits.sentence
    fleet.pass_s(waits.until_s - fleet.now_ms // 1000 - 1)
    assert second.rollout.ring_open == 0
    run(second, 700)
    assert second.rollout.phase is PlanState.CLOSED
    assert not second.rollout.overdue


def test_a_device_under_dwell_in_an_open_ring_counts_as_late_only_from_when_it_may_begin() -> None:
    fleet = Fleet(20)
    few = tuple(range(4))
    run_good(fleet.start(spec_of(4, max_harmed=4, rollout="one", roster=few)))
    limit = limit_of((0, 1.0), dwell_s=600, clock_slack_s=0)
    second = fleet.start(spec_of(20, max_harmed=20, rollout="two", speed=limit))
    assert second.rollout.ring_open == 1, "sixteen devices may begin at once"
    run(second, 700)
    assert second.rollout.phase is PlanState.CLOSED
    assert not second.rollout.overdue


@pytest.mark.parametrize("away", [(), (3, 7)])
def test_who_stays_away_though_it_may_begin_is_late_all_the_same(away: Sequence[int]) -> None:
    course = begin(20, limit_of((0, 0.0), (100, 1.0)), max_harmed=20)
    for _ in range(400):
        for position in ask_all(course):
            if position not in away:
                course.report(position, Outcome.CONFIRMED)
        course.fleet.pass_s(1)
    assert course.rollout.covered == 20 - len(away)


def test_scouts_are_waited_for_from_when_they_may_begin() -> None:
    course = begin(20, limit_of((0, 0.0), (100, 1.0)), max_harmed=5, scouts=(2, 9))
    course.fleet.pass_s(200)
    assert course.rollout.ring_open == 0
    course.fleet.pass_s(20)
    for position in ask_all(course):
        assert position in (2, 9)
        course.report(position, Outcome.CONFIRMED)
    course.fleet.pass_s(1)
    assert course.rollout.ring_open == 1


def test_a_scout_that_may_begin_much_later_holds_nobody_up() -> None:
    probe = begin(40, limit_of((0, 1.0), clock_slack_s=0), max_harmed=5)
    last = max(range(40), key=probe.rollout.rings.rank_of)
    course = begin(40, limit_of((0, 0.5), (DAY_S, 1.0), clock_slack_s=0), max_harmed=5, scouts=(last,))
    course.fleet.pass_s(11)
    assert course.rollout.ring_open == 1


def test_a_wait_for_the_limit_is_a_verdict_on_record_once() -> None:
    course = begin(5, limit_of((0, 0.2), (900, 1.0)))
    for _ in range(50):
        course.fleet.pass_s(1)
    holds = [verdict for verdict in course.verdicts if verdict.kind is VerdictKind.HOLD]
    assert len(holds) == 1
    assert holds[0].sentence.startswith("ring 1 waits: the speed limit allows")


def test_every_share_that_is_exposed_lies_within_the_limit_of_that_moment() -> None:
    limit = limit_of((0, 0.02), (60, 0.1), (120, 0.35), (300, 0.8), (400, 1.0), clock_slack_s=30)
    course = begin(150, limit, max_harmed=8, placebo_per_treated=2.0)
    rollout = course.rollout
    for _ in range(900):
        now_s = course.fleet.now_ms // 1000
        for ring in range(1, rollout.ring_open + 1):
            if rollout.opened_ms[ring] == course.fleet.now_ms:
                rank = rollout.rings.last_rank(0)
                assert speed_permits(replace(limit, not_after=10**9), rank, now_s, 0).permitted
        for position in ask_all(course):
            course.report(position, Outcome.CONFIRMED)
        course.fleet.pass_s(1)
        assert not rollout.overdue
        if rollout.phase is PlanState.CLOSED:
            break
    assert rollout.phase is PlanState.CLOSED


def test_a_timetable_says_for_each_ring_which_of_the_two_opens_it() -> None:
    limit = limit_of((0, 0.1), (3600, 0.5), (7200, 1.0), ceiling=0.5, clock_slack_s=0)
    shares = [round(share * SHARE_ONE) for share in (0.05, 0.1, 0.3, 0.9)]
    found = timetable(limit, BEGIN_S, 600, shares)
    assert [one.binds for one in found] == ["statistics", "statistics", "speed limit", "speed limit"]
    assert [one.statistics_s for one in found] == [BEGIN_S, BEGIN_S + 600, BEGIN_S + 1200, BEGIN_S + 3600 + 600]
    assert [one.limit_s for one in found] == [BEGIN_S, BEGIN_S, BEGIN_S + 3600, None]
    assert [one.opens_s for one in found] == [BEGIN_S, BEGIN_S + 600, BEGIN_S + 3600, None]
    assert all(one.binds == "statistics" for one in timetable(None, BEGIN_S, 600, shares))


def test_the_rings_to_come_of_a_rollout_end_with_its_last_device() -> None:
    course = begin(60, limit_of((0, 0.1), (3600, 1.0), clock_slack_s=0), max_harmed=10)
    found = rings_to_come(course.rollout, course.fleet.now_ms)
    first = course.rollout.ring_open + 1
    assert [one.ring for one in found] == list(range(first, first + len(found)))
    assert found[-1].limit_s == BEGIN_S + 3600
    assert [one.share_2p32 for one in found] == sorted(one.share_2p32 for one in found)
    assert rings_to_come(Fleet(9).start(spec_of(9)).rollout, 10**9) == ()


@pytest.mark.parametrize("what", ["dwell_s", "clock_slack_s", "least_devices"])
def test_a_limit_with_numbers_beyond_all_measure_breaks_nothing(what: str) -> None:
    fleet = Fleet(6)
    run_good(fleet.start(spec_of(6, max_harmed=6, rollout="one")))
    limit = limit_of((0, 1.0), **{"clock_slack_s": 0, "not_after": MOST_INT, what: MOST_INT})
    second = fleet.start(spec_of(6, max_harmed=6, rollout="two", speed=limit))
    fleet.pass_s(100)
    assert second.rollout.ring_open == (1 if what == "least_devices" else 0)
    rings_to_come(second.rollout, fleet.now_ms)


def test_rollouts_that_ended_before_the_dwell_are_not_looked_through() -> None:
    fleet = Fleet(6)
    run_good(fleet.start(spec_of(6, max_harmed=6, rollout="one")))
    fleet.pass_s(5000)
    limit = limit_of((0, 1.0), clock_slack_s=0, dwell_s=60)
    second = fleet.start(spec_of(6, max_harmed=6, rollout="two", speed=limit))
    assert second.rollout.dwells_ms is None
    assert second.rollout.ring_open == 1
