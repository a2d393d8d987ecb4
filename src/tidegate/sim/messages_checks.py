"""What must hold at every event of a simulated rollout, counted apart from the code that decides."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.control.devices import lease_id
from tidegate.control.state import ServerState
from tidegate.core.looks import LookPlan
from tidegate.core.model import Arm, Outcome, PlanState
from tidegate.core.phases import step
from tidegate.core.rollout import Rollout, RolloutSpec
from tidegate.core.window import RingCounts, certain_room, statistical_window
from tidegate.log.events import Event, Leased, PlanPublished, Reported, RingClosed, VerdictTaken


class Broken(AssertionError):
    """Something that must always hold did not. The message says what, when, and how to see it again."""


@dataclass(slots=True)
class RingTally:
    """One ring as its events tell it."""

    treated: int
    leased: int = 0
    confirmed: int = 0
    placebo: int = 0
    placebo_reverted: int = 0
    closed: RingCounts | None = None

    def counts(self) -> RingCounts:
        """Count pending treated leases as failed and pending placebo leases as fine."""
        if self.closed is not None:
            return self.closed
        return RingCounts(self.treated, self.placebo, self.treated - self.confirmed, self.placebo_reverted)


class Checks:
    """Counts events by itself, and raises Broken where a limit of the promise does not hold.

    Args:
        spec: what the rollout was started with.
        ranks: the devices' ranks, uint64, shape (devices,).
        harmed: whom the candidate harms, bool, shape (devices,).
        replay: the command that plays this very run again.
    """

    def __init__(
        self, spec: RolloutSpec, ranks: npt.NDArray[np.uint64], harmed: npt.NDArray[np.bool_], replay: str
    ) -> None:
        self.spec, self.replay = spec, replay
        self.rings: list[RingTally] = []
        self.phase = PlanState.OPEN
        self.exposed = self.confirmed = self.harmed = 0
        self.late_exposed = self.late_confirmed = 0
        self.events = self.leases = 0
        self.last_confirmed_ms = 0
        self.window = 0
        self._ranks, self._is_harmed = ranks, harmed
        self._pending: dict[int, Leased] = {}
        self._granted: dict[str, tuple[int, Arm]] = {}
        self._treated: set[int] = set()
        self._confirmed: set[int] = set()
        self._in_flight: Counter[tuple[str, str]] = Counter()
        self._plan: PlanPublished | None = None

    def event(self, event: Event) -> None:
        """Fold one durable event."""
        self.events += 1
        match event:
            case Leased():
                self._leased(event)
            case Reported():
                self._reported(event)
            case RingClosed():
                ring = event.closed
                counts = RingCounts(ring.treated, ring.placebo, ring.treated_failed, ring.placebo_failed)
                self._that(self.rings[ring.ring - 1].closed is None, event, f"ring {ring.ring} closed twice")
                self.rings[ring.ring - 1].closed = counts
            case VerdictTaken():
                after = step(self.phase, event.verdict.happening)
                self._that(after is not None, event, f"a verdict has no place in phase {self.phase.value}")
                self.phase = after.phase if after else self.phase
                if event.verdict.opens:
                    self.rings.append(RingTally(event.verdict.opens))
            case PlanPublished():
                self._plan = event
            case _:
                pass

    def acted(self, index: int, arm: Arm, lease: str, at_ms: int) -> None:
        """A device carries a lease out: the log must hold it, for this device and this arm."""
        if self._granted.get(lease) != (index, arm):
            raise Broken(f"device {index} acts at {at_ms} ms on lease {lease}, which no log holds; {self.replay}")

    def same(self, state: ServerState) -> None:
        """A fold of the log must know what the events said: no acknowledged report lost, no lease granted twice."""
        rollout: Rollout = state.rollouts[self.spec.rollout]
        folded = (rollout.evidence.exposed, rollout.evidence.confirmed, rollout.phase, rollout.ring_open)
        counted = (self.exposed, self.confirmed, self.phase, len(self.rings))
        if folded != counted:
            raise Broken(f"the log folds to {folded}, its events count to {counted}; {self.replay}")

    def _leased(self, event: Leased) -> None:
        self.leases += 1
        self._under_plan(event)
        before = self._pending.get(event.index)
        open_still = before is not None and self.rings[before.ring - 1].closed is None
        self._that(not open_still, event, "a second lease while the first is pending in an open ring")
        self._that(event.index not in self._treated, event, "a lease after a treated one")
        self._pending[event.index] = event
        self._granted[lease_id(event.rollout, event.ring, event.position)] = (event.index, event.arm)
        if event.arm is Arm.PLACEBO:
            self.rings[event.ring - 1].placebo += 1
            return
        self._within_window(event)
        self._treated.add(event.index)
        self.exposed += 1
        self.harmed += int(self._is_harmed[event.index])
        self.late_exposed += int(event.late)
        if not event.late:
            self.rings[event.ring - 1].leased += 1
        self._within_caps(event)
        if self.spec.looks is None:
            open_risk, most = self.exposed - self.confirmed, self.spec.budget.max_harmed
            self._that(open_risk <= most, event, f"{open_risk} exposed without a confirmation, {most} allowed")

    def _under_plan(self, event: Leased) -> None:
        plan = self._plan
        self._that(self.phase in (PlanState.OPEN, PlanState.HOLD), event, f"a lease while {self.phase.value}")
        self._that(plan is not None, event, "a lease before any plan")
        assert plan is not None
        self._that(event.at_ms < plan.plan["expires"] * 1000, event, "a lease when the newest plan has expired")
        self._that(plan.plan["state"] in ("open", "hold"), event, f"a lease under a plan that is {plan.plan['state']}")
        reach = int(plan.plan["announce_rank"], 16)
        self._that(int(self._ranks[event.index]) <= reach, event, "a lease beyond the announced rank")

    def _within_window(self, event: Leased) -> None:
        """The certain rule has room, or the statistical window reaches past everyone exposed."""
        budget, looks = self.spec.budget, self.spec.looks
        if looks is None:
            room = certain_room(self.exposed, self.confirmed, budget.max_harmed, budget.first_ring)
        elif event.late:
            room = certain_room(self.late_exposed, self.late_confirmed, budget.late_part, budget.late_part)
        else:
            most = budget.max_harmed - budget.late_part
            exposed, confirmed = self.exposed - self.late_exposed, self.confirmed - self.late_confirmed
            room = certain_room(exposed, confirmed, most, min(budget.first_ring, most))
            if room == 0 and exposed + 1 > self.window:
                self.window = int(statistical_window(looks, [ring.counts() for ring in self.rings], self._ends(looks)))
                self._that(exposed + 1 <= self.window, event, f"{exposed + 1} exposed, window {self.window}")
                return
            room = max(room, 1)
        self._that(room > 0, event, "a treated lease where the certain rule has no room")

    def _ends(self, looks: LookPlan) -> list[int]:
        """Count the rings that end by each planned size."""
        through = np.cumsum([ring.treated for ring in self.rings]).tolist()
        reached = [size for size in looks.sizes if size <= through[-1]]
        if any(size not in through for size in reached):
            raise Broken(f"rings end at {through}, across a planned look of {looks.sizes}; {self.replay}")
        return [through.index(size) + 1 for size in reached]

    def _within_caps(self, event: Leased) -> None:
        self._in_flight.update(event.labels.items())
        for cap in self.spec.caps:
            group = (cap.label, event.labels.get(cap.label, ""))
            count = self._in_flight[group]
            self._that(count <= cap.at_most, event, f"{count} of {group} in flight, cap {cap.at_most}")

    def _reported(self, event: Reported) -> None:
        lease = self._pending.get(event.index)
        if lease is None or lease.ring != event.ring:
            return
        del self._pending[event.index]
        ring, fine = self.rings[event.ring - 1], event.outcome is Outcome.CONFIRMED
        if lease.arm is Arm.PLACEBO:
            ring.placebo_reverted += int(not fine)
        elif fine:
            self._that(event.index not in self._confirmed, event, "confirmed twice")
            self._confirmed.add(event.index)
            self.confirmed += 1
            self.late_confirmed += int(lease.late)
            ring.confirmed += int(not lease.late)
            self._in_flight.subtract(lease.labels.items())
            self.last_confirmed_ms = event.at_ms

    def _that(self, holds: bool, event: Event, what: str) -> None:
        if not holds:
            raise Broken(f"{what}: {type(event).__name__} at {event.at_ms} ms; {self.replay}")
