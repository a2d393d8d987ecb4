"""What time has made due in every active rollout: rings that close, verdicts; as events, folded as they are made."""

from __future__ import annotations

from typing import Any

from tidegate.control.state import ServerState
from tidegate.core.assign import ring_arm_salt
from tidegate.core.course import next_due
from tidegate.core.rollout import ClosedRing, Rollout
from tidegate.log.events import Event, VerdictTaken, ring_closed


def fold_due(state: ServerState, now_ms: int) -> list[Event]:
    """Fold all that is due and give its events; they are not durable yet."""
    made: list[Event] = []
    for name in list(state.active.values()):
        rollout = state.rollouts[name]
        while (due := next_due(rollout, now_ms)) is not None:
            event = _event_of(rollout, due, now_ms)
            state.apply(event)
            made.append(event)
    return made


def _event_of(rollout: Rollout, due: Any, now_ms: int) -> Event:
    spec = rollout.spec
    if isinstance(due, ClosedRing):
        salt = ring_arm_salt(bytes.fromhex(spec.arm_secret), spec.rollout, due.ring)
        return ring_closed(now_ms, spec.rollout, due, salt.hex())
    return VerdictTaken(at_ms=now_ms, rollout=spec.rollout, verdict=due)
