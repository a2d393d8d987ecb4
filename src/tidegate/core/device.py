"""The device's way through one update, as a table. The agent and the simulator run this very table."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class State(Enum):
    """Where a device stands; the text is what `device why` and the docs say."""

    IDLE = "runs its release; nothing is pending"
    FETCHING = "fetches and verifies the candidate into an inactive slot"
    READY = "holds the verified candidate; nothing has changed"
    ANNOUNCED = "has asked for a lease; nothing has changed"
    APPLYING = "holds a treated lease; the pointer is about to move"
    PROBING = "runs the candidate, unconfirmed; the last known good is untouched"
    CONFIRMED = "has proven the candidate healthy; it becomes the last known good"
    REVERTING = "is returning to the last known good"
    REVERTED = "runs the last known good again; if the candidate was sick, its digest is condemned"
    SHAMMING = "holds a placebo lease; goes through the motions and changes nothing"
    WATCHING = "placebo: probes what it ran before through the same soak"
    WATCHED = "placebo: the soak has ended; the outcome is to be reported"


class Event(Enum):
    """What can happen to a device."""

    ELIGIBLE = "the signed plan reaches this device's rank, and the speed limit allows it"
    FETCHED = "the candidate stands in its slot, verified and synced"
    UNFIT = "the candidate could not be fetched or verified, or the device says 'not now'"
    ASK = "the device asks for its lease"
    LEASE_TREATED = "the server granted a lease to apply"
    LEASE_PLACEBO = "the server granted a lease to go through the motions"
    NOT_YET = "the server said when to ask again"
    WITHDRAWN = "the rollout was halted, or its plan names another candidate"
    ACTIVATED = "the pointer names the candidate and its driver has started it"
    HEALTHY = "all probes passed for the whole soak"
    SICK = "a probe failed, or the guard gave up on a start"
    SETTLED = "the outcome is in the outbox, synced"
    RETURNED = "the last known good runs again"
    SHAMMED = "the motions are done"


class Effect(Enum):
    """What the device must do, in the order in which it must become durable."""

    FETCH = "fetch, verify and sync the candidate into an inactive slot"
    ANNOUNCE = "send 'ready to apply' and wait for the server's durable word"
    ACTIVATE = "arm the guard, move the pointer, start the candidate"
    SHAM = "wait and restart as an activation would, and change nothing"
    PROBE = "probe health through the soak"
    CONFIRM = "make the candidate the last known good and put 'confirmed' into the outbox"
    REVERT = "move the pointer back and start the last known good"
    CONDEMN = "condemn the digest, unless it was withdrawn, and put 'reverted' into the outbox"
    REPORT_PLACEBO = "put the placebo's outcome into the outbox"
    CLEAN = "remove what is neither active nor the last known good"


class Step(NamedTuple):
    """A row's right-hand side."""

    state: State
    effects: tuple[Effect, ...]


S, E, F = State, Event, Effect

STEPS: dict[tuple[State, Event], Step] = {
    (S.IDLE, E.ELIGIBLE): Step(S.FETCHING, (F.FETCH,)),
    (S.FETCHING, E.FETCHED): Step(S.READY, ()),
    (S.FETCHING, E.UNFIT): Step(S.IDLE, (F.CLEAN,)),
    (S.FETCHING, E.WITHDRAWN): Step(S.IDLE, (F.CLEAN,)),
    (S.READY, E.ASK): Step(S.ANNOUNCED, (F.ANNOUNCE,)),
    (S.READY, E.UNFIT): Step(S.IDLE, (F.CLEAN,)),
    (S.READY, E.WITHDRAWN): Step(S.IDLE, (F.CLEAN,)),
    (S.ANNOUNCED, E.NOT_YET): Step(S.READY, ()),
    (S.ANNOUNCED, E.WITHDRAWN): Step(S.IDLE, (F.CLEAN,)),
    (S.ANNOUNCED, E.LEASE_TREATED): Step(S.APPLYING, (F.ACTIVATE,)),
    (S.ANNOUNCED, E.LEASE_PLACEBO): Step(S.SHAMMING, (F.SHAM,)),
    (S.APPLYING, E.ACTIVATED): Step(S.PROBING, (F.PROBE,)),
    (S.APPLYING, E.SICK): Step(S.REVERTING, (F.REVERT,)),
    (S.APPLYING, E.WITHDRAWN): Step(S.REVERTING, (F.REVERT,)),
    (S.PROBING, E.HEALTHY): Step(S.CONFIRMED, (F.CONFIRM,)),
    (S.PROBING, E.SICK): Step(S.REVERTING, (F.REVERT,)),
    (S.PROBING, E.WITHDRAWN): Step(S.REVERTING, (F.REVERT,)),
    (S.CONFIRMED, E.SETTLED): Step(S.IDLE, (F.CLEAN,)),
    (S.REVERTING, E.RETURNED): Step(S.REVERTED, (F.CONDEMN,)),
    (S.REVERTED, E.SETTLED): Step(S.IDLE, (F.CLEAN,)),
    (S.SHAMMING, E.SHAMMED): Step(S.WATCHING, (F.PROBE,)),
    (S.SHAMMING, E.WITHDRAWN): Step(S.IDLE, (F.CLEAN,)),
    (S.WATCHING, E.HEALTHY): Step(S.WATCHED, (F.REPORT_PLACEBO,)),
    (S.WATCHING, E.SICK): Step(S.WATCHED, (F.REPORT_PLACEBO,)),
    (S.WATCHING, E.WITHDRAWN): Step(S.IDLE, (F.CLEAN,)),
    (S.WATCHED, E.SETTLED): Step(S.IDLE, ()),
}

RESUME: dict[State, tuple[Effect, ...]] = {
    S.IDLE: (F.CLEAN,),
    S.FETCHING: (F.FETCH,),
    S.READY: (),
    S.ANNOUNCED: (F.ANNOUNCE,),
    S.APPLYING: (F.ACTIVATE,),
    S.PROBING: (F.PROBE,),
    S.CONFIRMED: (F.CONFIRM,),
    S.REVERTING: (F.REVERT,),
    S.REVERTED: (F.CONDEMN,),
    S.SHAMMING: (F.SHAM,),
    S.WATCHING: (F.PROBE,),
    S.WATCHED: (F.REPORT_PLACEBO,),
}
"""What a device does first after a power cut, by the state in its journal. Every effect can be done twice."""

UNCONFIRMED = frozenset({S.APPLYING, S.PROBING})
"""States in which a device may run what nobody has confirmed: a halt takes these back at once."""


def step(state: State, event: Event) -> Step:
    """Give the next state and what to do; an event that has no place in a state changes nothing.

    Args:
        state: where the device is.
        event: what has happened to it.

    Returns:
        The next state and its effects, in the order in which they must become durable.
    """
    return STEPS.get((state, event), Step(state, ()))


def diagram() -> str:
    """Draw the table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", "    [*] --> idle"]
    for (state, event), (after, _) in STEPS.items():
        lines.append(f"    {state.name.lower()} --> {after.name.lower()}: {event.name.lower()}")
    return "\n".join(lines) + "\n"
