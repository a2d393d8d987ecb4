"""Scouts, lanes, severities, signals, shadows and budgets that outlive a rollout: each sentence can be broken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.rollouts import Course, Fleet, run_good, spec_of

from tidegate.control.acts import Who, set_budget, signal_device
from tidegate.core.admission import Grant, Never, NotYet
from tidegate.core.errors import BadInput, Refused
from tidegate.core.looks_budget import Account
from tidegate.core.model import Arm, Outcome, PlanState
from tidegate.core.scouts import choose_scouts, pairs_of
from tidegate.core.verdict import VerdictKind

SITES = ("ATL", "CDG", "NRT")
OS = ("win10", "win11")


def labelled(devices: int) -> dict[int, dict[str, str]]:
    return {i: {"site": SITES[i % 3], "os": OS[i % 2]} for i in range(devices)}


def scouting(devices: int = 24, **changes: Any) -> Course:
    fleet = Fleet(devices, labelled(devices))
    ranks = Fleet(devices, labelled(devices)).start(spec_of(devices)).rollout.rings.ranks
    scouts = choose_scouts([labelled(devices)[i] for i in range(devices)], ranks, ("site", "os"))
    return fleet.start(spec_of(devices, scouts=scouts, **changes))


def test_scouts_are_the_lowest_ranked_holders_of_each_pair() -> None:
    labels = [{"a": "1", "b": "x"}, {"a": "1", "b": "y"}, {"a": "1", "b": "x"}, {"c": "alone"}]
    ranks = np.array([30, 20, 10, 5], dtype=np.uint64)
    assert choose_scouts(labels, ranks, ("a", "b")) == (2, 1)
    assert choose_scouts(labels, ranks, ("a", "c")) == (3, 2)
    assert pairs_of({"a": "1", "b": "x", "c": "z"}, ("a", "b", "c")) == [
        (("a", "1"), ("b", "x")), (("a", "1"), ("c", "z")), (("b", "x"), ("c", "z")),
    ]  # fmt: skip


def test_scouts_go_first_on_the_certain_rule_and_are_in_no_ring() -> None:
    course = scouting()
    assert len(course.spec.scouts) == 6 and course.rollout.ring_open == 0
    other = next(p for p in range(24) if p not in course.spec.scouts)
    assert isinstance(course.announce(other), NotYet)
    granted = [p for p in course.spec.scouts if isinstance(course.announce(p), Grant)]
    assert len(granted) == 3, "no more than max_harmed at once"
    run_good(course)
    assert course.rollout.phase is PlanState.CLOSED
    assert all(course.rollout.rings.treated[p] == 0 for p in course.spec.scouts)
    assert sum(ring.treated for ring in course.frozen.values()) == 24 - 6, "scouts are evidence in no ring"


def test_harmed_scouts_count_as_harm_and_halt() -> None:
    course = scouting()
    for scout in course.spec.scouts[:2]:
        course.announce(scout)
        course.report(scout, Outcome.REVERTED)
    course.fleet.look()
    assert course.rollout.phase is PlanState.HALTED
    assert course.rollout.evidence.exposed == 2 and not course.rollout.rings.drawn


def test_a_scout_that_is_away_holds_nobody_up_and_may_come_later() -> None:
    course = scouting()
    away = course.spec.scouts[-1]
    for _ in range(60):
        for position in range(24):
            if position != away and isinstance(course.announce(position), Grant):
                course.report(position, Outcome.CONFIRMED)
        course.fleet.pass_s(2)
    assert course.rollout.covered == 23
    assert course.rollout.phase is PlanState.OPEN, "on hold nobody would announce, and it could never come"
    assert isinstance(course.announce(away), Grant)
    course.report(away, Outcome.CONFIRMED)
    course.fleet.look()
    assert course.rollout.phase is PlanState.CLOSED


def test_two_lanes_of_a_service_are_never_in_flight_together() -> None:
    labels = {i: {"service": "check-in", "lane": "AB"[i % 2]} for i in range(12)}
    course = Fleet(12, labels).start(spec_of(12, max_harmed=6, placebo_per_treated=0.0))
    lanes_seen: set[str] = set()
    for _ in range(200):
        for position in range(12):
            course.announce(position)
        flying = {labels[p]["lane"] for p in course.treated if p not in course.good}
        assert len(flying) <= 1, f"lanes {flying} are in flight together"
        lanes_seen |= flying
        for position in list(course.treated):
            course.report(position, Outcome.CONFIRMED)
        course.fleet.pass_s(1)
        if course.rollout.phase is PlanState.CLOSED:
            break
    assert course.rollout.phase is PlanState.CLOSED and lanes_seen == {"A", "B"}


def test_the_smaller_budget_for_silent_devices_binds() -> None:
    course = Fleet(40).start(spec_of(40, max_harmed=10, max_silent=2, placebo_per_treated=0.0))
    granted = sum(isinstance(course.announce(p), Grant) for p in range(40))
    assert granted == 2, "all of them may fall silent"
    first, second = course.treated
    course.report(first, Outcome.CONFIRMED)
    everyone_asks(course)
    assert len(course.treated) == 3, "two are open, and both may fall silent"
    course.report(second, Outcome.REVERTED)
    everyone_asks(course)
    assert len(course.treated) == 4, "a device that came back by itself is not silent: one more may go"


def everyone_asks(course: Course) -> None:
    course.fleet.look()
    for position in range(course.rollout.devices):
        course.announce(position)
    course.fleet.look()
    for position in range(course.rollout.devices):
        course.announce(position)


def test_signals_of_two_devices_halt_and_of_one_do_not() -> None:
    course = Fleet(20).start(spec_of(20))
    granted = [p for p in range(20) if isinstance(course.announce(p), Grant) and p in course.treated]
    for position in granted[:2]:
        course.report(position, Outcome.CONFIRMED)
    state = course.fleet.state
    for number, position in enumerate(granted[:2]):
        row = state.devices[position]
        events, counted = signal_device(state, course.fleet.now_ms, Who("ada", "the helpdesk says it is down"), row)
        assert counted == ["r1"]
        course.fleet.fold(*events)
        course.good.discard(position)
        course.fleet.look()
        assert (course.rollout.phase is PlanState.HALTED) == (number == 1)
    assert course.verdicts[-1].kind is VerdictKind.HALT and "called down" in course.verdicts[-1].sentence
    with pytest.raises(BadInput, match="say why"):
        signal_device(state, 0, Who("ada"), state.devices[0])


def test_a_signalled_device_uses_its_groups_cap_again() -> None:
    fleet = Fleet(4, {i: {"site": "ATL"} for i in range(4)})
    course = fleet.start(spec_of(4, max_harmed=2, placebo_per_treated=0.0))
    position = next(p for p in range(4) if isinstance(course.announce(p), Grant))
    before = fleet.state.in_flight.count(("site", "ATL"))
    course.report(position, Outcome.CONFIRMED)
    assert fleet.state.in_flight.count(("site", "ATL")) == before - 1
    events, _ = signal_device(fleet.state, fleet.now_ms, Who("ada", "down"), fleet.state.devices[position])
    fleet.fold(*events)
    assert fleet.state.in_flight.count(("site", "ATL")) == before


def test_a_shadow_rollout_changes_nothing_and_measures_the_background() -> None:
    course = Fleet(200).start(spec_of(200, shadow=True, placebo_per_treated=0.0))
    for position in range(200):
        grant = course.announce(position)
        assert isinstance(grant, Grant) and grant.arm is Arm.PLACEBO
        if position % 50:
            course.report(position, Outcome.CONFIRMED)
    course.fleet.pass_s(12)
    assert course.rollout.phase is PlanState.CLOSED and course.rollout.evidence.exposed == 0
    assert "4 of 200 devices failed" in course.rollout.sentence and "0.02" in course.rollout.sentence
    assert not course.fleet.state.accounts, "a shadow spends no budget"


def test_a_restart_of_the_same_candidate_inherits_what_is_left_of_its_budget() -> None:
    account = Account("a" * 64, 3, 0.999).closed(exposed=5, confirmed=3)
    assert account.max_harmed_left == 1
    with pytest.raises(Refused, match="never raise it"):
        account.renewed("a" * 64, 4, 0.999)
    course = Fleet(20).start(spec_of(20))
    granted = [p for p in range(20) if isinstance(course.announce(p), Grant) and p in course.treated]
    course.report(granted[0], Outcome.CONFIRMED)
    course.steer("abort")
    kept = course.fleet.state.accounts[course.spec.candidate.sha256]
    assert (kept.exposed, kept.confirmed, kept.max_harmed_left) == (3, 1, 1)
    assert isinstance(course.announce(granted[1]), Never)


def test_a_components_month_is_reserved_and_settled() -> None:
    fleet = Fleet(20)
    events, _ = set_budget(fleet.now_ms, Who("ada"), component="edr-rules", max_harmed_30d=4)
    fleet.fold(*events)
    course = fleet.start(spec_of(20))
    rolling = fleet.state.rolling["edr-rules"]
    assert rolling.left(fleet.now_ms / 1000) == 1
    with pytest.raises(Refused, match="max_harmed_30d"):
        rolling.reserved(fleet.now_ms / 1000, "b" * 64, 2)
    run_good(course)
    assert fleet.state.rolling["edr-rules"].left(fleet.now_ms / 1000) == 4, "a good rollout gives all of it back"
