"""A rollout's phases, as a table: what can happen in each, what comes after it, and what is to be done about it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from tidegate.core.model import PlanState


class Happening(str, Enum):
    """What can happen to a rollout."""

    OPENED = "opened"
    """The evidence lets the next ring begin."""
    STUCK = "stuck"
    """Nothing is under way, and the evidence does not let the next ring begin."""
    EASED = "eased"
    """After a hold, leases can be granted again without a new ring."""
    HARM = "harm"
    """The evidence says that the candidate harms devices."""
    PAUSE = "pause"
    """An operator pauses it."""
    RESUME = "resume"
    """An operator resumes it."""
    ABORT = "abort"
    """An operator ends it; unconfirmed devices return."""
    COMPLETE = "complete"
    """Every device of the roster has confirmed."""


class Effect(Enum):
    """What the controller must do about it."""

    PUBLISH = "publish a plan that says so"
    INCIDENT = "open an incident"


class Step(NamedTuple):
    """A row's right-hand side."""

    phase: PlanState
    effects: tuple[Effect, ...]


P, H, F = PlanState, Happening, Effect

STEPS: dict[tuple[PlanState, Happening], Step] = {
    (P.OPEN, H.OPENED): Step(P.OPEN, (F.PUBLISH,)),
    (P.OPEN, H.STUCK): Step(P.HOLD, (F.PUBLISH,)),
    (P.OPEN, H.HARM): Step(P.HALTED, (F.PUBLISH, F.INCIDENT)),
    (P.OPEN, H.PAUSE): Step(P.PAUSED, (F.PUBLISH,)),
    (P.OPEN, H.ABORT): Step(P.HALTED, (F.PUBLISH,)),
    (P.OPEN, H.COMPLETE): Step(P.CLOSED, (F.PUBLISH,)),
    (P.HOLD, H.OPENED): Step(P.OPEN, (F.PUBLISH,)),
    (P.HOLD, H.EASED): Step(P.OPEN, (F.PUBLISH,)),
    (P.HOLD, H.HARM): Step(P.HALTED, (F.PUBLISH, F.INCIDENT)),
    (P.HOLD, H.PAUSE): Step(P.PAUSED, (F.PUBLISH,)),
    (P.HOLD, H.ABORT): Step(P.HALTED, (F.PUBLISH,)),
    (P.HOLD, H.COMPLETE): Step(P.CLOSED, (F.PUBLISH,)),
    (P.PAUSED, H.RESUME): Step(P.OPEN, (F.PUBLISH,)),
    (P.PAUSED, H.HARM): Step(P.HALTED, (F.PUBLISH, F.INCIDENT)),
    (P.PAUSED, H.ABORT): Step(P.HALTED, (F.PUBLISH,)),
    (P.PAUSED, H.COMPLETE): Step(P.CLOSED, (F.PUBLISH,)),
}
"""Halted and closed are final: the same candidate goes on only in a new rollout, with what is left of its budget."""

ENDED = frozenset({P.HALTED, P.CLOSED})


def step(phase: PlanState, happening: Happening) -> Step | None:
    """Give the next phase and what to do, or None where the happening has no place in the phase."""
    return STEPS.get((phase, happening))


def diagram() -> str:
    """Draw the table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", "    [*] --> open"]
    for (phase, happening), (after, _) in STEPS.items():
        lines.append(f"    {phase.value} --> {after.value}: {happening.name.lower()}")
    return "\n".join(lines) + "\n"
