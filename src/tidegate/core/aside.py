"""Reports that an operator has set aside: they are evidence for nothing any more, neither for advancing nor to halt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tidegate.core.evidence import LeaseState

if TYPE_CHECKING:
    from tidegate.core.rollout import ClosedRing, Rollout


@dataclass(slots=True)
class Aside:
    """Of one frozen ring, the leases whose reports were set aside, as they were counted in it."""

    treated: int = 0
    treated_failed: int = 0
    treated_reverted: int = 0
    placebo: int = 0
    placebo_failed: int = 0
    placebo_reverted: int = 0


def set_aside(rollout: Rollout, position: int) -> bool:
    """Fold the setting aside of all that a device has reported in a rollout, and will; give whether it was news.

    Who is set aside is chosen by people who have seen the outcomes. So nothing may be gained by it: for the window a
    treated device counts as failed and a placebo device as fine, whatever they said; in halting neither counts.
    """
    evidence, rings = rollout.evidence, rollout.rings
    if position in evidence.aside or not evidence.ring_at_lease[position]:
        return False
    entered, newest = int(rings.enter[position]), int(evidence.ring_at_lease[position])
    treated_in = newest if evidence.treated_lease[position] and not evidence.late[position] else 0
    for ring in range(entered, newest + 1) if entered else ():
        late = ring == newest and bool(evidence.late[position])
        if ring in rollout.closed and not late:
            _count(rollout, ring, position, treated=ring == treated_in)
    evidence.set_aside(position, [ring for ring in range(entered, newest + 1) if ring not in rollout.closed])
    return True


def without(rollout: Rollout, ring: ClosedRing) -> tuple[int, int, int, int]:
    """Give a frozen ring as halting reads it, without what was set aside: treated, placebo, the failures of both."""
    out = rollout.aside.get(ring.ring, Aside())
    treated, placebo = ring.treated - out.treated, ring.placebo - out.placebo
    failed, beside = ring.treated_failed - out.treated_failed, ring.placebo_failed - out.placebo_failed
    return treated, placebo, min(failed, treated), min(beside, placebo)


def _count(rollout: Rollout, ring: int, position: int, *, treated: bool) -> None:
    out = rollout.aside.setdefault(ring, Aside())
    reverted = int(position in rollout.evidence.reverted_in.get(ring, ()))
    failed = int(reverted or position in rollout.silent_in.get(ring, ()))
    if treated:
        out.treated += 1
        out.treated_failed += failed
        out.treated_reverted += reverted
    else:
        out.placebo += 1
        out.placebo_failed += failed
        out.placebo_reverted += reverted


def silent_members(rollout: Rollout, ring: int) -> frozenset[int]:
    """Name the members of a ring that is being frozen from which nothing has come: they cannot have moved on."""
    evidence = rollout.evidence
    pending = (evidence.ring_at_lease == ring) & (evidence.state == LeaseState.PENDING) & ~evidence.late
    return frozenset(map(int, pending.nonzero()[0]))
