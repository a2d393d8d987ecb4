"""May this device act now? The one place that says yes to a lease, or when to ask again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from tidegate.core.caps import InFlight
from tidegate.core.evidence import LeaseState
from tidegate.core.model import Arm, PlanState
from tidegate.core.phases import ENDED
from tidegate.core.rollout import Rollout
from tidegate.core.room import late_room, main_room
from tidegate.core.turns import hold_ms

MAIN, LATE = "the window", "late devices"
"""The lines of a rollout that are no group's."""
LEAST_RETRY_S = 0.5
MOST_RETRY_S = 300.0
NO_PLAN_RETRY_S = 30.0


@dataclass(frozen=True, slots=True)
class Grant:
    """The device may act. `repeated` says that this very lease was given before."""

    ring: int
    arm: Arm
    late: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class NotYet:
    """The device must wait. `reason` is one of cap, lane, window, paused, rank; what the time rests on: turns.py."""

    reason: str
    retry_after_s: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Never:
    """This rollout has nothing (more) for the device."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Asked:
    """One announcement: of which device (its row in the roster, its labels), and when."""

    rollout: Rollout
    position: int
    labels: Mapping[str, str]
    now_ms: int

    def in_line(self, reason: str, sentence: str, line: Hashable, places: int) -> NotYet:
        """Refuse with a turn in the line for places of one kind."""
        rollout, held_ms = self.rollout, hold_ms(self.rollout.spec.soak_s)
        wait_s = rollout.turns.again_s(self.position, self.now_ms, line, places, held_ms)
        return NotYet(reason, round(wait_s, 1), sentence)

    def behind_lane(self, sentence: str, line: Hashable) -> NotYet:
        """Refuse until another lane is through: nobody knows when that is."""
        rollout = self.rollout
        held_ms = hold_ms(rollout.spec.soak_s) + rollout.spread_s(rollout.ring_open) * 1000
        wait_s = rollout.turns.doubling_s(self.position, self.now_ms, ("lane", line), held_ms)
        return NotYet("lane", round(wait_s, 1), sentence)


def accepts(rollout: Rollout, ring: int, now_ms: int) -> bool:
    """Say whether a ring still takes its members: from its opening, for the spread and one observation time.

    That time begins when the signed speed limit, or its dwell, allows the ring's last member to begin: nobody is late
    for being told to wait.

    Where caps or lanes hold members back, as long as there is a lease in each observation time, and for so many of
    them as the slowest group needs: who waits for a cap is not away.
    """
    if ring not in rollout.opened_ms or ring in rollout.closed:
        return False
    spec, opened_ms = rollout.spec, rollout.allowed_ms[ring]
    takes_ms = _takes_ms(rollout, ring)
    moves = rollout.granted_ms.get(ring, opened_ms) + takes_ms
    return now_ms < max(opened_ms + takes_ms, min(moves, opened_ms + takes_ms * spec.cap_rounds))


def admit(
    rollout: Rollout, position: int, labels: Mapping[str, str], in_flight: InFlight, window: int, now_ms: int
) -> Grant | NotYet | Never:
    """Decide on one announcement. The caller appends the lease durably before it answers.

    It changes nothing but the rollout's turns, which are advice: when a refused device may ask again.

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
    asked = Asked(rollout, position, labels, now_ms)
    if position in rollout.overdue or position in rollout.spec.scouts:
        return _admit_late(asked, in_flight)
    ring = _next_ring(rollout, position, now_ms)
    if ring is None:
        return NotYet("rank", _until_next_ring(rollout, now_ms), "its turn has not come: its ring is not open yet")
    if rollout.rings.treated[position] != ring or rollout.spec.shadow:
        return Grant(ring, Arm.PLACEBO)
    if rollout.treated_through(ring) > window and main_room(rollout) < 1:
        sentence = "the window is full until exposed devices confirm"
        return asked.in_line("window", sentence, MAIN, rollout.at_risk)
    return _capped(asked, in_flight, Grant(ring, Arm.TREATED))


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


def _admit_late(asked: Asked, in_flight: InFlight) -> Grant | NotYet:
    rollout = asked.rollout
    room = late_room(rollout)
    if room < 1:
        places = rollout.late_at_risk if rollout.statistical else rollout.at_risk
        return asked.in_line("window", "late devices wait for the certain rule's next free place", LATE, places)
    ring = 0 if asked.position in rollout.spec.scouts else rollout.ring_open
    return _capped(asked, in_flight, Grant(ring, Arm.TREATED, late=True))


def _capped(asked: Asked, in_flight: InFlight, grant: Grant) -> Grant | NotYet:
    labels = asked.labels
    lane = in_flight.other_lane(labels)
    if lane is not None:
        return asked.behind_lane(f"lane {lane} of the service {labels['service']} is in flight", labels["service"])
    refusal = in_flight.standing.refuses(labels, in_flight)
    if refusal is not None and refusal.reason == "lane":
        return asked.behind_lane(refusal.sentence, refusal.line)
    if refusal is not None:
        return asked.in_line("cap", refusal.sentence, refusal.line, refusal.places)
    return _under_caps(asked, in_flight) or grant


def _under_caps(asked: Asked, in_flight: InFlight) -> NotYet | None:
    """Refuse where a cap is used up, or its last places are kept for those who have waited for them."""
    rollout, labels = asked.rollout, asked.labels
    full = in_flight.refuses(rollout.spec.caps, labels)
    for cap in rollout.spec.caps:
        group = (cap.label, labels.get(cap.label, ""))
        if group == full:
            return asked.in_line("cap", f"the cap on {cap.label}={group[1]} is used up", group, cap.at_most)
        keeps = rollout.turns.keeps(asked.position, asked.now_ms, group, cap.at_most)
        if keeps and cap.at_most - in_flight.count(group) <= keeps:
            sentence = f"the places left under the cap on {cap.label}={group[1]} are for others, who have waited"
            return asked.in_line("cap", sentence, group, cap.at_most)
    rollout.turns.kept(asked.position)
    return None


def _takes_ms(rollout: Rollout, ring: int) -> int:
    """Give how long a ring takes its members where nothing holds them back."""
    return (rollout.spread_s(ring) + rollout.spec.observe_s) * 1000


def _until_next_ring(rollout: Rollout, now_ms: int) -> float:
    """Give the time to ask again where a ring must open first: devices see that in the plan, and come sooner."""
    ring = rollout.ring_open
    closes_ms = rollout.allowed_ms.get(ring, rollout.started_ms) + _takes_ms(rollout, ring)
    return max((closes_ms - now_ms) / 1000, _wait(rollout))


def _wait(rollout: Rollout) -> float:
    """Give the time to ask again where nobody can know it."""
    return min(max(rollout.spec.soak_s, LEAST_RETRY_S), MOST_RETRY_S)
