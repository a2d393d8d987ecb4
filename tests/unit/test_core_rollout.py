"""The rollout's table: every phase is reached, all but the final ones have a way out, the unknown changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rollouts import keys_of, spec_of

from tidegate.core.model import PlanState
from tidegate.core.phases import ENDED, STEPS, Effect, Happening, diagram, step
from tidegate.core.rollout import Rollout


def rollout_of(devices: int = 6) -> Rollout:
    return Rollout(spec_of(devices), keys_of(devices), 1000)


def test_every_phase_is_reached_from_open() -> None:
    reached, new = set(), {PlanState.OPEN}
    while new:
        reached |= new
        new = {after.phase for (phase, _), after in STEPS.items() if phase in reached} - reached
    assert reached == set(PlanState)


def test_final_phases_are_left_by_nothing_and_the_others_can_all_end() -> None:
    assert {phase for phase, _ in STEPS}.isdisjoint(ENDED)
    for phase in set(PlanState) - ENDED:
        for happening, end in ((Happening.ABORT, PlanState.HALTED), (Happening.HARM, PlanState.HALTED)):
            after = step(phase, happening)
            assert after is not None
            assert after.phase is end
        complete = step(phase, Happening.COMPLETE)
        assert complete is not None
        assert complete.phase is PlanState.CLOSED


def test_what_stops_a_rollout_can_be_undone() -> None:
    """A hold and a pause lead back to open; both tell devices."""
    assert {after.phase for (phase, _), after in STEPS.items() if phase is PlanState.HOLD} > {PlanState.OPEN}
    assert {after.phase for (phase, _), after in STEPS.items() if phase is PlanState.PAUSED} > {PlanState.OPEN}
    assert all(Effect.PUBLISH in after.effects for after in STEPS.values())
    opened_incidents = {happening for (_, happening), after in STEPS.items() if Effect.INCIDENT in after.effects}
    assert opened_incidents == {Happening.HARM}


def test_every_happening_has_a_place() -> None:
    assert {happening for _, happening in STEPS} == set(Happening)


@given(st.lists(st.sampled_from(Happening), max_size=20))
def test_a_happening_without_a_place_changes_nothing(happenings: list[Happening]) -> None:
    rollout = rollout_of()
    for number, happening in enumerate(happenings):
        before = (rollout.phase, rollout.sentence, rollout.ended_ms)
        effects = rollout.move(happening, f"sentence {number}", 2000 + number)
        if (before[0], happening) in STEPS:
            assert effects == STEPS[before[0], happening].effects
            assert rollout.phase is STEPS[before[0], happening].phase
            assert rollout.sentence == f"sentence {number}"
        else:
            assert effects == ()
            assert (rollout.phase, rollout.sentence, rollout.ended_ms) == before
    assert (rollout.ended_ms is not None) == (rollout.phase in ENDED)


def test_the_diagram_draws_the_table() -> None:
    lines = diagram().splitlines()
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> open"]
    assert len(lines) == 2 + len(STEPS)
    assert "    open --> halted: harm" in lines


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"roster": ()}, "at least one device"),
        ({"observe_s": 2, "soak_s": 2}, "longer than the soak"),
        ({"observe_s": 0}, "longer than the soak"),
        ({"observe_s": 10**30}, "within 90 days"),
        ({"spread_s": -1}, "within 90 days"),
        ({"spread_s": 10**12}, "within 90 days"),
    ],
)
def test_a_rollout_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec_of(5, **changes)
