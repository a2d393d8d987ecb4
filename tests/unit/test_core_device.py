"""The device's table: every state is reached, every state has a way out, and what a power cut leaves can go on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.device import RESUME, STEPS, UNCONFIRMED, Effect, Event, State, diagram, step

S, E, F = State, Event, Effect
WORK: dict[Effect, set[Event]] = {
    F.FETCH: {E.FETCHED, E.UNFIT},
    F.ANNOUNCE: {E.LEASE_TREATED, E.LEASE_PLACEBO, E.NOT_YET, E.WITHDRAWN},
    F.ACTIVATE: {E.ACTIVATED, E.SICK, E.WITHDRAWN},
    F.SHAM: {E.SHAMMED, E.WITHDRAWN},
    F.PROBE: {E.HEALTHY, E.SICK, E.WITHDRAWN},
    F.CONFIRM: {E.SETTLED},
    F.REVERT: {E.RETURNED},
    F.CONDEMN: {E.SETTLED},
    F.REPORT_PLACEBO: {E.SETTLED},
}
"""What each piece of work can come to; CLEAN comes to nothing."""


def reach(start: State, without: frozenset[Event] = frozenset()) -> set[State]:
    reached, new = set[State](), {start}
    while new:
        reached |= new
        new = {after.state for (state, event), after in STEPS.items() if state in reached and event not in without}
        new -= reached
    return reached


def test_every_state_is_reached_and_leads_back_to_idle() -> None:
    assert reach(S.IDLE) == set(State)
    assert all(S.IDLE in reach(state) for state in State)


def test_a_device_without_a_lease_changes_nothing() -> None:
    """Without a lease no state is reached that runs or writes the candidate where it acts."""
    without = reach(S.IDLE, frozenset({E.LEASE_TREATED, E.LEASE_PLACEBO}))
    assert without == {S.IDLE, S.FETCHING, S.READY, S.ANNOUNCED}
    placebo = reach(S.IDLE, frozenset({E.LEASE_TREATED}))
    changing = {F.ACTIVATE, F.CONFIRM, F.REVERT, F.CONDEMN}
    assert not {effect for (state, _), after in STEPS.items() if state in placebo for effect in after.effects} & (
        changing
    ) - {effect for (_, event), after in STEPS.items() if event is E.LEASE_TREATED for effect in after.effects}
    assert placebo.isdisjoint(UNCONFIRMED | {S.CONFIRMED, S.REVERTING, S.REVERTED})


def test_an_exposed_device_ends_confirmed_or_reverted_and_in_no_other_way() -> None:
    for state in UNCONFIRMED:
        exits = {after.state for (before, _), after in STEPS.items() if before is state}
        assert exits <= {S.PROBING, S.CONFIRMED, S.REVERTING}
        assert step(state, E.WITHDRAWN).state is S.REVERTING, "a halt takes it back at once"
        assert step(state, E.SICK).state is S.REVERTING
    assert {state for (state, event), after in STEPS.items() if F.CONFIRM in after.effects} == {S.PROBING}


@pytest.mark.parametrize("state", State)
def test_what_a_power_cut_leaves_can_go_on(state: State) -> None:
    """The work that is resumed is the one that led into the state, and whatever it comes to has a place there."""
    assert state in RESUME
    for effect in RESUME[state]:
        assert not WORK.get(effect) or any((state, event) in STEPS for event in WORK[effect])
        came_by = {effect for after in STEPS.values() if after.state is state for effect in after.effects}
        assert effect in came_by
        for event in WORK.get(effect, set()) - {E.WITHDRAWN}:
            assert (state, event) in STEPS, f"{effect.name} can come to {event.name} in {state.name}"


def test_every_state_that_waits_for_nobody_has_work() -> None:
    idle = {state for state, effects in RESUME.items() if not set(effects) - {F.CLEAN}}
    assert idle == {S.IDLE, S.READY}


@given(st.sampled_from(State), st.sampled_from(Event))
def test_an_event_without_a_place_changes_nothing(state: State, event: Event) -> None:
    if (state, event) not in STEPS:
        assert step(state, event) == (state, ())


def test_every_event_and_every_effect_is_used() -> None:
    assert {event for _, event in STEPS} == set(Event)
    assert {effect for after in STEPS.values() for effect in after.effects} == set(Effect)


def test_the_diagram_draws_the_table() -> None:
    assert len(diagram().splitlines()) == 2 + len(STEPS)
    assert "    probing --> reverting: sick" in diagram()
