"""When a refused device may ask again: turns in a line, kept by whoever comes too early, slower where they are vain."""

from __future__ import annotations

import pytest
from tests.rollouts import Course, Fleet, spec_of

from tidegate.control.plans import plan_of
from tidegate.core.admission import Grant, NotYet
from tidegate.core.caps import Cap
from tidegate.core.model import Outcome
from tidegate.core.spread import REQUESTS_PER_S, ring_spread_s
from tidegate.core.turns import MOST_STRETCH, Turns, hold_ms, turn_ms

HOLD_MS = hold_ms(10)


def test_a_place_is_held_for_a_soak_and_a_little_more() -> None:
    assert HOLD_MS == 12_200
    assert turn_ms(0, 5000, HOLD_MS / 2, HOLD_MS) == 17_200
    assert turn_ms(17_200, 5000, HOLD_MS / 2, HOLD_MS) == 17_200 + HOLD_MS / 2
    assert turn_ms(0, 5000, HOLD_MS / 2, HOLD_MS, nth=3) == 17_200 + 3 * HOLD_MS / 2


def test_turns_follow_each_other_at_the_pace_of_the_places() -> None:
    turns = Turns(100, 0)
    waits = [turns.again_s(position, 0, "a cap", 10, HOLD_MS) for position in range(100)]
    assert waits == pytest.approx([12.2 + 1.22 * nth for nth in range(100)], abs=0.1)
    assert turns.again_s(0, 0, "another", 10, HOLD_MS) == pytest.approx(12.2, abs=0.1), "it has its turn already"


def test_asking_early_changes_nothing() -> None:
    turns = Turns(3, 0)
    assert turns.again_s(0, 0, "cap", 1, HOLD_MS) == pytest.approx(12.2)
    second = turns.again_s(1, 0, "cap", 1, HOLD_MS)
    for now_ms in range(0, 12_000, 100):
        assert turns.again_s(1, now_ms, "cap", 1, HOLD_MS) == pytest.approx(second - now_ms / 1000, abs=0.11)
    assert turns.again_s(2, 0, "cap", 1, HOLD_MS) == pytest.approx(second + 12.2, abs=0.11)


def test_a_line_whose_turns_are_vain_becomes_slower_and_quicker_again() -> None:
    turns = Turns(2, 0)
    now_ms, waits = 0, []
    for _ in range(100):
        waits.append(turns.again_s(0, now_ms, "cap", 1, HOLD_MS))
        now_ms += int(waits[-1] * 1000) + 200
    assert waits == sorted(waits) or max(waits) == pytest.approx(12.2 * MOST_STRETCH, rel=0.05)
    turns.kept(0)
    after = turns.again_s(0, now_ms, "cap", 1, HOLD_MS)
    assert after <= max(waits)


def test_newcomers_leave_a_tenth_of_the_places_to_those_who_wait() -> None:
    turns = Turns(200, 0)
    assert turns.keeps(5, 0, "cap", 40) == 0
    for position in range(3):
        turns.again_s(position, 0, "cap", 40, HOLD_MS)
    assert turns.keeps(5, 0, "cap", 40) == 3 and turns.keeps(0, 0, "cap", 40) == 0
    for position in range(10, 110):
        turns.again_s(position, 0, "cap", 40, HOLD_MS)
    assert turns.keeps(5, 0, "cap", 40) == 4
    turns.kept(0)
    assert turns.keeps(0, 0, "cap", 40) == 4, "its turn is spent"
    assert turns.keeps(5, 10_000_000, "cap", 40) == 0, "whoever has not come by then does not come"


def test_what_has_no_known_end_is_asked_for_after_as_long_as_it_lasts() -> None:
    turns = Turns(1, 0)
    asked, now_ms = 0, 0
    while now_ms < 100 * HOLD_MS:
        now_ms += int(turns.doubling_s(0, now_ms, "lane", HOLD_MS) * 1000) + 200
        asked += 1
    assert asked <= 9


@pytest.mark.parametrize(("members", "rounds", "expected"), [(5000, 0, 0), (8_500_000, 0, 1416), (4000, 20, 2310)])
def test_a_ring_is_spread_by_what_the_server_and_the_caps_can_take(members: int, rounds: float, expected: int) -> None:
    assert ring_spread_s(members, rounds, soak_s=60) == expected
    assert ring_spread_s(members, rounds, soak_s=60, least_s=9000) == 9000
    assert members * 2 / max(expected, 1) <= max(REQUESTS_PER_S * 1.001, 2 * members)


def capped(devices: int, most: int) -> Course:
    fleet = Fleet(devices, {index: {"site": "A"} for index in range(devices)})
    caps, rounds = (Cap("site", most),), devices // most
    spec = spec_of(devices, max_harmed=devices, placebo_per_treated=0.0, caps=caps, cap_rounds=rounds,
                   usual_rounds=float(rounds))  # fmt: skip
    return fleet.start(spec)


def test_the_plan_spreads_a_ring_under_caps_and_its_refusals_are_kept() -> None:
    """Whoever comes when told finds a place: in vain comes less than a tenth."""
    course = capped(40, 4)
    assert plan_of(course.rollout, 1).spread_s == ring_spread_s(40, 10, 2) > 0
    due = dict.fromkeys(range(40), course.fleet.now_ms)
    told: set[int] = set()
    vain = 0
    while due:
        position = min(due, key=lambda one: (due[one], one))
        course.fleet.pass_s(max(0, due[position] - course.fleet.now_ms) / 1000)
        for other in [p for p, grant in course.treated.items() if p not in course.good]:
            if course.fleet.now_ms >= course.rollout.evidence.leased_ms[other] + 2000:
                course.report(other, Outcome.CONFIRMED)
        answer = course.announce(position)
        if isinstance(answer, Grant):
            del due[position]
            continue
        assert isinstance(answer, NotYet) and answer.reason == "cap"
        vain += position in told
        told.add(position)
        due[position] = course.fleet.now_ms + round(answer.retry_after_s * 1000)
    assert len(course.treated) == 40 and len(told) >= 30 and vain <= 4
