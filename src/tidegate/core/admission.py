"""May this device act now? The one place that says yes to a lease, or when to ask again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.core.caps import InFlight
from tidegate.core.evidence import LeaseState
from tidegate.core.model import Arm, PlanState
from tidegate.core.rollout import ENDED, Rollout
from tidegate.core.room import late_room, main_room

LEAST_RETRY_S = 0.5
MOST_RETRY_S = 300.0


@dataclass(frozen=True, slots=True)
class Grant:
    """The device may act. `repeated` says that this very lease was given before."""

    ring: int
    arm: Arm
    late: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class NotYet:
    """The device must wait. `reason` is one of cap, lane, window, paused, rank."""

    reason: str
    retry_after_s: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Never:
    """This rollout has nothing (more) for the device."""

    sentence: str


def accepts(rollout: Rollout, ring: int, now_ms: int) -> bool:
    """Say whether a ring still takes its members: from its opening, for the spread and one observation time.

    Where caps or lanes hold members back, as long as there is a lease in each observation time, and for so many of
    them as the slowest group needs: who waits for a cap is not away.
    """
    if ring not in rollout.opened_ms or ring in rollout.closed:
        return False
    spec, opened_ms = rollout.spec, rollout.opened_ms[ring]
    takes_ms = (spec.spread_s + spec.observe_s) * 1000
    moves = rollout.granted_ms.get(ring, opened_ms) + takes_ms
    return now_ms < max(opened_ms + takes_ms, min(moves, opened_ms + takes_ms * spec.cap_rounds))


def admit(
    rollout: Rollout, position: int, labels: Mapping[str, str], in_flight: InFlight, window: int, now_ms: int
) -> Grant | NotYet | Never:
    """Decide on one announcement. Pure: the caller appends the lease durably before it answers.

    Args:
        rollout: the state that the log folds into.
        position: the device's row in the roster.
        labels: the device's labels at this moment.
        in_flight: exposed and unconfirmed devices over all rollouts.
        window: treated devices that the statistical rule lets be exposed, in the order of the rings.
        now_ms: the moment, in the time that the log's events carry.
    """
    if rollout.phase in ENDED:
        return Never(f"the rollout is {rollout.phase.value}: {rollout.sentence}")
    standing = _standing_lease(rollout, position)
    if standing is not None:
        return standing
    if rollout.phase is PlanState.PAUSED:
        return NotYet("paused", _wait(rollout), "the rollout is paused")
    if position in rollout.overdue or position in rollout.spec.scouts:
        return _admit_late(rollout, position, labels, in_flight)
    ring = _next_ring(rollout, position, now_ms)
    if ring is None:
        return NotYet("rank", _wait(rollout), "its turn has not come: its ring is not open yet")
    if rollout.rings.treated[position] != ring or rollout.spec.shadow:
        return Grant(ring, Arm.PLACEBO)
    if rollout.treated_through(ring) > window and main_room(rollout) < 1:
        return NotYet("window", _wait(rollout), "the window is full until exposed devices confirm")
    return _capped(rollout, labels, in_flight, Grant(ring, Arm.TREATED))


def _standing_lease(rollout: Rollout, position: int) -> Grant | Never | None:
    evidence = rollout.evidence
    state = LeaseState(int(evidence.state[position]))
    ring = int(evidence.ring_at_lease[position])
    treated = bool(evidence.treated_lease[position])
    if treated and state is not LeaseState.PENDING:
        return Never(f"this device has had its treated lease; it ended {state.name.lower()}")
    if state is LeaseState.PENDING and (treated or ring not in rollout.closed):
        arm = Arm.TREATED if treated else Arm.PLACEBO
        return Grant(ring, arm, late=bool(evidence.late[position]), repeated=True)
    return None


def _next_ring(rollout: Rollout, position: int, now_ms: int) -> int | None:
    """Find the first open ring that the device belongs to and has had no lease in."""
    enter = int(rollout.rings.enter[position])
    if enter == 0:
        return None
    first = max(enter, int(rollout.evidence.ring_at_lease[position]) + 1)
    last = int(rollout.rings.treated[position]) or rollout.ring_open
    for ring in range(first, last + 1):
        if accepts(rollout, ring, now_ms):
            return ring
    return None


def _admit_late(rollout: Rollout, position: int, labels: Mapping[str, str], in_flight: InFlight) -> Grant | NotYet:
    room = late_room(rollout)
    if room < 1:
        return NotYet("window", _wait(rollout), "late devices wait for the certain rule's next free place")
    ring = 0 if position in rollout.spec.scouts else rollout.ring_open
    return _capped(rollout, labels, in_flight, Grant(ring, Arm.TREATED, late=True))


def _capped(rollout: Rollout, labels: Mapping[str, str], in_flight: InFlight, grant: Grant) -> Grant | NotYet:
    lane = in_flight.other_lane(labels)
    if lane is not None:
        return NotYet("lane", _wait(rollout), f"lane {lane} of the service {labels['service']} is in flight")
    refusal = in_flight.standing.refuses(labels, in_flight)
    if refusal is not None:
        return NotYet(refusal.reason, _wait(rollout), refusal.sentence)
    group = in_flight.refuses(rollout.spec.caps, labels)
    if group is None:
        return grant
    return NotYet("cap", _wait(rollout), f"the cap on {group[0]}={group[1]} is used up")


def _wait(rollout: Rollout) -> float:
    """Give the time to ask again: about when the next confirmation can free a place."""
    return min(max(rollout.spec.soak_s / 2, LEAST_RETRY_S), MOST_RETRY_S)
