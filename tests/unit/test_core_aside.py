"""Liars: groups whose reports cluster are named, and what was set aside is evidence for nothing, in no direction."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from tests.rollouts import Course, Fleet, spec_of

from tidegate.control.acts import Who
from tidegate.control.quarantine import clusters_of, quarantine
from tidegate.core.admission import Grant
from tidegate.core.bounds import halts
from tidegate.core.clusters import clusters, spill_over
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.core.looks import plan_looks
from tidegate.core.model import Arm, Outcome, PlanState
from tidegate.core.reading import log_evidence_of_harm, window

WHO = Who("ada", "they all enrolled last night")


def test_a_group_that_stands_out_is_named_and_one_that_does_not_is_not() -> None:
    exposed = {("token", "t1"): 400, ("token", "t2"): 20, ("site", "ATL"): 210}
    failed = {("token", "t1"): 2, ("token", "t2"): 8, ("site", "ATL"): 5}
    (found,) = clusters(exposed, failed, 420, 10)
    assert found.group == ("token", "t2")
    assert found.chance == pytest.approx(3 * hypergeom.sf(7, 420, 10, 20), rel=1e-6)
    assert "8 of 10 failures are devices of token=t2" in found.sentence and "or they lie" in found.sentence


def test_what_holds_everyone_or_failed_once_tells_nothing() -> None:
    assert clusters({("os", "win11"): 100}, {("os", "win11"): 10}, 100, 10) == ()
    assert clusters({("site", "A"): 2}, {("site", "A"): 1}, 1_000_000, 1) == ()
    with pytest.raises(ValueError, match="exposed"):
        clusters({("site", "A"): 2}, {("site", "A"): 3}, 10, 3)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 400), st.data())
def test_by_chance_alone_a_group_is_named_no_more_often_than_said(exposed: int, data: st.DataObject) -> None:
    size, failed = data.draw(st.integers(1, exposed - 1)), data.draw(st.integers(0, exposed))
    named = sum(
        float(hypergeom.pmf(count, exposed, failed, size))
        for count in range(max(0, size + failed - exposed), min(size, failed) + 1)
        if clusters({("site", "A"): size}, {("site", "A"): count}, exposed, failed, 0.05)
    )
    assert named <= 0.05 + 1e-9


def test_placebos_beside_treated_devices_are_compared_with_those_apart() -> None:
    found = spill_over(40, 16, 40, 0)
    assert found.chance == pytest.approx(hypergeom.sf(15, 80, 16, 40), rel=1e-6) and "pause and look" in found.sentence
    assert spill_over(40, 0, 40, 3).chance == spill_over(40, 3, 0, 0).chance == 1.0
    with pytest.raises(ValueError, match="failed"):
        spill_over(1, 2, 0, 0)


def ring_of(outcome: Callable[[int, Arm], Outcome], devices: int = 40, max_harmed: int = 10) -> Course:
    """A fleet of two sites whose first ring has reported and closed."""
    fleet = Fleet(devices, {i: {"site": "A" if i % 2 else "B"} for i in range(devices)})
    course = fleet.start(spec_of(devices, max_harmed=max_harmed, placebo_per_treated=2.0))
    for position in range(devices):
        grant = course.announce(position)
        if isinstance(grant, Grant):
            course.report(position, outcome(position, grant.arm))
    course.good = {p for p in course.good if p in course.treated}
    return course


def set_all_aside(course: Course, group: str) -> list[int]:
    events, found = quarantine(course.fleet.state, course.fleet.now_ms, WHO, group=group, devices=[])
    course.fleet.fold(*events)
    course.good -= set(found)
    return found


def test_a_halt_by_liars_is_seen_to_cluster_and_falls_when_they_are_set_aside() -> None:
    course = ring_of(lambda p, arm: Outcome.REVERTED if p % 2 and arm is Arm.TREATED else Outcome.CONFIRMED, 60, 20)
    course.fleet.look()
    assert course.rollout.phase is PlanState.HALTED
    found = clusters_of(course.fleet.state, course.rollout, course.fleet.now_ms)
    assert found and found[0].group == ("site", "A")
    set_all_aside(course, "site=A")
    assert not halts(log_evidence_of_harm(course.rollout), course.spec.budget.false_halt)
    assert clusters_of(course.fleet.state, course.rollout, course.fleet.now_ms) == ()


def test_who_is_set_aside_frees_no_place_and_is_not_heard_again() -> None:
    course = ring_of(lambda _p, _arm: Outcome.CONFIRMED)
    confirmed = course.rollout.evidence.confirmed
    aside = set_all_aside(course, "site=A")
    treated = sum(p in course.treated for p in aside)
    assert treated and course.rollout.evidence.confirmed == confirmed - treated, "their word is worth nothing"
    assert not any(course.rollout.report(p, course.leases(p)[-1], Outcome.CONFIRMED) for p in aside if course.leases(p))
    assert course.rollout.evidence.confirmed == confirmed - treated
    assert set(course.fleet.state.identities.quarantined) == set(aside)


@pytest.mark.parametrize("word", [Outcome.CONFIRMED, Outcome.REVERTED])
@pytest.mark.parametrize("frozen", [False, True])
def test_setting_aside_never_widens_the_window_nor_adds_evidence_of_harm(word: Outcome, frozen: bool) -> None:
    looks = plan_looks(600, 48, 0.95, 1.0, 1e-2, 0.05, 48)
    course = Fleet(600).start(spec_of(600, max_harmed=60, confidence=0.95, looks=looks))
    members = [p for p in range(course.rollout.devices) if isinstance(course.announce(p), Grant)]
    for number, position in enumerate(members):
        course.report(position, word if number % 9 == 0 else Outcome.CONFIRMED)
    if frozen:
        course.fleet.pass_s(30)
    before, harm = window(course.rollout), log_evidence_of_harm(course.rollout)
    for position in members[:40]:
        body = quarantine(course.fleet.state, 0, WHO, group="", devices=[position])[0]
        course.good.discard(position)
        course.fleet.fold(*body)
        assert window(course.rollout) <= before
        before = window(course.rollout)
    if word is Outcome.REVERTED:
        assert log_evidence_of_harm(course.rollout) <= harm + 1e-9


def test_quarantine_wants_a_reason_a_group_and_news() -> None:
    state = Fleet(4, {0: {"site": "A"}}).state
    with pytest.raises(BadInput, match="say why"):
        quarantine(state, 0, Who("ada"), group="site=A", devices=[])
    with pytest.raises(BadInput, match="group"):
        quarantine(state, 0, WHO, group="site", devices=[])
    with pytest.raises(NotFound):
        quarantine(state, 0, WHO, group="site=B", devices=[])
    events, found = quarantine(state, 0, WHO, group="site=A", devices=[2])
    assert found == [0, 2] and len(quarantine(state, 0, WHO, group="token=t", devices=[])[1]) == 4
    state.apply(events[0])
    with pytest.raises(Refused):
        quarantine(state, 0, WHO, group="site=A", devices=[])
