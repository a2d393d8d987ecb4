"""Leases: whatever devices, operators and time do, the certain rule holds and nothing is granted twice."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rollouts import Course, Fleet, run_good, spec_of

from tidegate.control.acts import Who, retire_device, signal_device
from tidegate.core.admission import Grant, Never, NotYet
from tidegate.core.caps import Cap
from tidegate.core.looks import plan_looks
from tidegate.core.model import Arm, Outcome, PlanState

SITES = ("ATL", "CDG", "NRT")
WORDS = ("announce", "announce", "rush", "report", "report", "good", "good", "again", "tick", "tick", "long", "revert")
REPORTS = {"report": Outcome.CONFIRMED, "revert": Outcome.REVERTED}
STEERING = ("pause", "resume", "abort")
acts = st.lists(st.tuples(st.sampled_from(WORDS + STEERING[:2]), st.integers(0, 1 << 20)), min_size=20, max_size=150)


def play(course: Course, word: str, number: int) -> None:
    """One thing that can happen to a rollout; `number` says to whom, or how long."""
    fleet, position = course.fleet, number % course.rollout.devices
    if word == "announce":
        course.announce(position)
    elif word == "rush":  # everybody at once, the last first
        for each in reversed(range(course.rollout.devices)):
            course.announce(each)
    elif word in REPORTS:
        course.report(position, REPORTS[word])
    elif word == "good":  # all but every so-many-th confirm
        for each in range(course.rollout.devices):
            if each % (2 + number % 7):
                course.report(each, Outcome.CONFIRMED)
    elif word == "again":  # an old report, once more
        for ring in course.leases(position):
            course.report(position, Outcome.CONFIRMED, ring)
    elif word == "tick":
        fleet.pass_s(number % 5)
    elif word == "long":
        fleet.pass_s(5 + number % 20)
    else:
        course.steer(word)
        fleet.look()


@settings(max_examples=60)
@given(
    acts,
    st.integers(4, 30),
    st.integers(1, 6),
    st.integers(0, 3),
    st.sampled_from([0.0, 1.0, 4.0]),
    st.sampled_from([0, 4]),
)
def test_the_certain_rule_holds_at_every_moment(
    acts: list[tuple[str, int]], devices: int, max_harmed: int, canary: int, ratio: float, spread_s: int
) -> None:
    terms: dict[str, Any] = {"canary": min(canary, max_harmed), "placebo_per_treated": ratio, "spread_s": spread_s}
    course = Fleet(devices).start(spec_of(devices, max_harmed=max_harmed, **terms))
    for word, number in acts:
        play(course, word, number)


@pytest.mark.parametrize("seed", range(6))
def test_long_histories_with_silent_late_and_reverted_devices(seed: int) -> None:
    """Most devices confirm, so the rollout gets far: rings close, late devices come, holds come and go."""
    chance = random.Random(seed)
    course = Fleet(40, seed=seed).start(spec_of(40, max_harmed=4, canary=2))
    silent = set(chance.sample(range(40), 3))
    for _ in range(400):
        word = chance.choice(WORDS + STEERING[:2])
        position = chance.randrange(40)
        if (word == "revert" and chance.random() < 0.98) or word == "good":
            word = "report"
        if word == "report" and position in silent and chance.random() < 0.9:
            continue
        play(course, word, position)
    assert len(course.good) > 4, "the history was no test: hardly anybody confirmed"


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(WORDS + STEERING), st.integers(0, 1 << 20)),
        min_size=20,
        max_size=150,
    ),
    st.integers(1, 4),
)
def test_caps_hold_over_two_rollouts_at_once(acts: list[tuple[int, str, int]], at_most: int) -> None:
    """Two components on the same devices; a device that is exposed to both leaves its group when both are confirmed."""
    labels = {index: {"site": SITES[index % 3], "kind": "x"} for index in range(18)}
    fleet, caps = Fleet(18, labels), (Cap("site", at_most),)
    both = [
        fleet.start(spec_of(18, rollout=name, component=name, max_harmed=9, caps=caps, order_salt=salt * 32))
        for name, salt in (("one", "1"), ("two", "2"))
    ]
    for which, word, number in acts:
        play(both[which], word, number)


def test_a_device_exposed_to_two_components_is_in_flight_until_both_are_confirmed() -> None:
    fleet = Fleet(1, {0: {"site": "ATL"}})
    one, two = (fleet.start(spec_of(1, rollout=name, component=name, caps=(Cap("site", 2),))) for name in ("a", "b"))
    assert isinstance(one.announce(0), Grant)
    assert isinstance(two.announce(0), Grant)
    one.report(0, Outcome.CONFIRMED)
    assert fleet.state.in_flight.count(("site", "ATL")) == 1, "it still runs an unconfirmed release of b"
    two.report(0, Outcome.CONFIRMED)
    assert fleet.state.in_flight.count(("site", "ATL")) == 0


def test_a_full_cap_is_said_and_is_free_again_after_a_confirmation() -> None:
    fleet = Fleet(6, {index: {"site": "ATL"} for index in range(6)})
    course = fleet.start(spec_of(6, max_harmed=6, placebo_per_treated=0.0, caps=(Cap("site", 2),)))
    answers = [course.announce(position) for position in range(6)]
    assert [isinstance(answer, Grant) for answer in answers] == [True, True, False, False, False, False]
    refused = answers[2]
    assert isinstance(refused, NotYet)
    assert (refused.reason, refused.sentence) == ("cap", "the cap on site=ATL is used up")
    course.report(0, Outcome.CONFIRMED)
    assert isinstance(course.announce(5), Grant)
    assert isinstance(course.announce(4), NotYet)


def test_late_devices_and_those_in_time_share_one_budget_under_the_certain_rule() -> None:
    """Two of three miss ring 1 and come back late while ring 2 is open: the budget of 3 is counted once."""
    course = Fleet(12).start(spec_of(12, max_harmed=3, placebo_per_treated=0.0))
    first = [p for p in range(12) if course.rollout.rings.treated[p] == 1]
    course.announce(first[0])
    course.report(first[0], Outcome.CONFIRMED)
    course.fleet.pass_s(11)
    assert set(course.rollout.overdue) == set(first[1:])
    assert course.rollout.ring_open == 2
    for late in first[1:]:
        answer = course.announce(late)
        assert isinstance(answer, Grant)
        assert answer.late
    second = [p for p in range(12) if course.rollout.rings.treated[p] == 2]
    granted = [p for p in second if isinstance(course.announce(p), Grant)]
    assert len(granted) == 1, "two late ones and one more are three"


def test_under_the_statistical_rule_late_devices_have_a_share_of_their_own() -> None:
    devices, budget = 2000, 60
    looks = plan_looks(devices, 48, 0.95, 1.0, 0.0, 0.05, 48)
    assert looks.feasible
    course = Fleet(devices).start(spec_of(devices, max_harmed=budget, confidence=0.95, looks=looks))
    first = [p for p in range(devices) if course.rollout.rings.treated[p] == 1]
    away = first[:20]
    for position in range(devices):
        if position not in away and isinstance(course.announce(position), Grant):
            course.report(position, Outcome.CONFIRMED)
    course.fleet.pass_s(11)
    assert set(course.rollout.overdue) == set(away)
    late = [p for p in away if isinstance(course.announce(p), Grant)]
    assert len(late) == 12, "a fifth of the budget of 60"


def test_an_announcement_that_is_repeated_gets_the_same_lease() -> None:
    course = Fleet(8).start(spec_of(8))
    given = {p: course.announce(p) for p in range(8)}
    course.fleet.pass_s(30)
    course.steer("pause")
    for position, first in given.items():
        again = course.announce(position)
        if isinstance(first, Grant) and first.arm is Arm.TREATED:
            assert isinstance(again, Grant)
            assert again == Grant(first.ring, first.arm, repeated=True)


@pytest.mark.parametrize(("verb", "answer", "words"), [("pause", NotYet, "paused"), ("abort", Never, "halted")])
def test_a_rollout_that_does_not_run_grants_nothing(verb: str, answer: type, words: str) -> None:
    course = Fleet(8).start(spec_of(8, placebo_per_treated=0.0))
    course.steer(verb)
    for position in range(8):
        said = course.announce(position)
        assert isinstance(said, answer)
        assert words in said.sentence  # type: ignore[union-attr]
    assert course.rollout.evidence.exposed == 0


def test_a_device_whose_ring_is_not_open_waits_and_one_that_has_had_its_lease_is_done() -> None:
    course = Fleet(30).start(spec_of(30))
    later = next(p for p in range(30) if course.rollout.rings.enter[p] == 0)
    answer = course.announce(later)
    assert isinstance(answer, NotYet)
    assert answer.reason == "rank"
    assert 0 < answer.retry_after_s <= 300
    first = next(p for p in range(30) if course.rollout.rings.treated[p] == 1)
    course.announce(first)
    course.report(first, Outcome.REVERTED)
    done = course.announce(first)
    assert isinstance(done, Never)
    assert "reverted" in done.sentence


def test_a_confirmed_device_that_people_say_is_down_uses_its_groups_cap_again() -> None:
    fleet = Fleet(6, {index: {"site": "ATL"} for index in range(6)})
    course = fleet.start(spec_of(6, max_harmed=6, placebo_per_treated=0.0, caps=(Cap("site", 1),)))
    first = next(p for p in range(6) if isinstance(course.announce(p), Grant))
    course.report(first, Outcome.CONFIRMED)
    assert fleet.state.in_flight.count(("site", "ATL")) == 0
    row = fleet.state.devices[first]
    fleet.fold(*signal_device(fleet.state, fleet.now_ms, Who("helpdesk", "it does not boot"), row)[0])
    assert fleet.state.in_flight.count(("site", "ATL")) == 1
    assert course.rollout.evidence.confirmed == 0
    fleet.fold(*retire_device(fleet.state, fleet.now_ms, Who("helpdesk", "replaced"), row)[0])
    assert fleet.state.in_flight.count(("site", "ATL")) == 0


@pytest.mark.parametrize("ratio", [0.0, 1.0, 4.0])
def test_a_good_update_reaches_everyone(ratio: float) -> None:
    course = Fleet(50).start(spec_of(50, max_harmed=4, canary=2, placebo_per_treated=ratio))
    run_good(course)
    assert course.rollout.phase is PlanState.CLOSED
    assert course.good == set(range(50))
