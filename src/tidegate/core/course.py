"""What a rollout's evidence makes due at this moment: a ring to close, a ring to open, a halt, a hold, the end."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tidegate.core.admission import accepts
from tidegate.core.bounds import halts
from tidegate.core.evidence import ArmCounts, LeaseState
from tidegate.core.gating import placebo_gate
from tidegate.core.model import Arm, PlanState
from tidegate.core.pacing import Limited, fitted, may_begin_ms, scouts_until_ms
from tidegate.core.phases import ENDED
from tidegate.core.reading import LOG_CEILING, arm_counts, figures, log_evidence_of_harm, window
from tidegate.core.rollout import ClosedRing, Rollout
from tidegate.core.room import late_room, main_room
from tidegate.core.roster import Roster
from tidegate.core.shadow import measured
from tidegate.core.verdict import Figures, Verdict, advance, complete, ease, halt, held_back, hold


def next_due(rollout: Rollout, now_ms: int) -> ClosedRing | Verdict | None:
    """Give the one thing that is due first, or None. Call it again after folding what it gave, until it gives None."""
    if rollout.phase in ENDED:
        return None
    for ring in range(1, rollout.ring_open + 1):
        if ring not in rollout.closed and _closes(rollout, ring, now_ms):
            return _frozen(rollout, ring, now_ms)
    evidence_of_harm = log_evidence_of_harm(rollout)
    found = figures(rollout, now_ms, evidence_of_harm)
    if bool(halts(evidence_of_harm, rollout.spec.budget.false_halt)):
        return halt(rollout.ring_open, math.exp(min(evidence_of_harm, LOG_CEILING)), found)
    if rollout.spec.shadow and rollout.closed:
        return measured(rollout, found)
    if rollout.covered == rollout.countable:
        return complete(rollout.ring_open, found)
    if rollout.phase is PlanState.PAUSED:
        return None
    opening = _opening(rollout, now_ms)
    if isinstance(opening, Opening):
        return advance(rollout.ring_open + 1, opening.treated, opening.placebo, opening.by, found)
    return _flow(rollout, now_ms, found, opening)


def limited(rollout: Rollout, now_ms: int) -> Limited | None:
    """Say what of the signed speed limit the next ring waits for, where the evidence would let it begin."""
    if rollout.phase in ENDED or rollout.speed is None:
        return None
    opening = _opening(rollout, now_ms)
    return opening if isinstance(opening, Limited) else None


def _whole(rollout: Rollout, ring: int, treated: ArmCounts, placebo: ArmCounts) -> bool:
    """Say whether every member of a ring has had its lease, and every lease has ended or run out of time."""
    drawn = rollout.rings.drawn[ring - 1]
    all_leased = treated.leased == drawn.treated and placebo.leased == drawn.placebo
    return all_leased and treated.resolved and placebo.resolved


def _closes(rollout: Rollout, ring: int, now_ms: int) -> bool:
    """A ring closes when all its members are resolved, or, past its time, at the first moment within the gate."""
    treated = arm_counts(rollout, ring, Arm.TREATED, now_ms)
    placebo = arm_counts(rollout, ring, Arm.PLACEBO, now_ms)
    if not (treated.resolved and placebo.resolved):
        return False
    if not _whole(rollout, ring, treated, placebo) and accepts(rollout, ring, now_ms):
        return False
    if rollout.spec.shadow:
        return True  # it measures the background, so no background is too much
    return placebo.silent <= placebo_gate(rollout.spec.budget.q_gate, placebo.leased)


def _frozen(rollout: Rollout, ring: int, now_ms: int) -> ClosedRing:
    treated = arm_counts(rollout, ring, Arm.TREATED, now_ms)
    placebo = arm_counts(rollout, ring, Arm.PLACEBO, now_ms)
    without_lease = (rollout.rings.treated == ring) & ~rollout.evidence.treated_lease
    return ClosedRing(
        ring=ring,
        treated=treated.leased,
        treated_failed=treated.leased - treated.confirmed,
        placebo=placebo.leased,
        placebo_failed=placebo.leased - placebo.confirmed,
        late=Roster(np.flatnonzero(without_lease)),
        treated_reverted=treated.reverted,
        placebo_reverted=placebo.reverted,
    )


class Opening(NamedTuple):
    """A ring that may begin: its treated and placebo devices, and the rule that lets it."""

    treated: int
    placebo: int
    by: str


def _opening(rollout: Rollout, now_ms: int) -> Opening | Limited | None:
    """Open the next ring if either rule lets it begin; its size is fixed here, before anyone in it has answered."""
    current, left = rollout.ring_open, rollout.rings.left
    if left == 0 or (current == 0 and not _scouted(rollout, now_ms)):
        return None
    budget = rollout.spec.budget
    so_far = rollout.treated_through(current)
    allowed = min(window(rollout) - so_far, left)
    if rollout.spec.shadow:
        size, by = left, "shadow: every lease is a placebo"
    elif current == 0:
        size = min(allowed if rollout.statistical else budget.first_ring, left)
        by = f"at most {budget.first_ring:,} may be harmed before anyone has confirmed"
    elif allowed > 0:
        size, by = allowed, f"the statistical rule at confidence {budget.confidence:g}"
    else:
        size = min(_certain_size(rollout, now_ms), left)
        by = f"by the certain rule at most {budget.max_harmed:,} are exposed without a confirmation"
    if size < 1:
        return None
    treated, placebo = rollout.rings.sizes(size, _placebo(rollout, so_far, size))
    fits = fitted(rollout, treated, placebo, now_ms)
    if fits is None or isinstance(fits, Limited):
        return fits
    cut = "" if fits == (treated, placebo) else f", of {treated:,} as many as the speed limit allows"
    return Opening(*fits, by + cut)


def _certain_size(rollout: Rollout, now_ms: int) -> int:
    """Size the next ring by the certain rule; 0 if it must wait.

    Where looks are planned it only carries on past a look that has failed for good, its ring frozen: in rings that fit
    into the room there is, up to the next planned size, so that the looks stay where they were planned.
    """
    current, budget, room = rollout.ring_open, rollout.spec.budget, main_room(rollout)
    so_far, looks = rollout.treated_through(current), rollout.spec.looks
    if looks is not None:
        ahead = [size - so_far for size in looks.sizes if size > so_far]
        return min(room, *ahead[:1], rollout.rings.left) if current in rollout.closed else 0
    return min(budget.max_harmed, budget.first_ring + so_far) if room > 0 and _begun(rollout, current, now_ms) else 0


def _placebo(rollout: Rollout, so_far: int, size: int) -> int | None:
    """Give the placebo devices planned beside a ring of `size`: their share, where it is part of a planned ring.

    The last planned ring has none: nobody is left. Where the certain rule carries it in small rings there are some.
    """
    looks = rollout.spec.looks
    ring = next((k for k, end in enumerate(looks.sizes) if end > so_far), None) if looks is not None else None
    if looks is None or ring is None or not looks.placebo[ring]:
        return None
    return round(looks.placebo[ring] * size / looks.treated(ring))


def _scouted(rollout: Rollout, now_ms: int) -> bool:
    """Say whether the scouts have gone ahead: each has answered, or one observation time has passed."""
    evidence = rollout.evidence
    if not rollout.spec.scouts or now_ms >= scouts_until_ms(rollout):
        return True
    return all(evidence.state[scout] > LeaseState.PENDING for scout in rollout.spec.scouts)


def _begun(rollout: Rollout, ring: int, now_ms: int) -> bool:
    """Say whether every treated device of a ring has its lease, or has missed it."""
    leased = rollout.evidence.arm(ring, Arm.TREATED, now_ms, rollout.observe_ms).leased
    return ring in rollout.closed or leased == rollout.rings.drawn[ring - 1].treated


def _flow(rollout: Rollout, now_ms: int, found: Figures, waits: Limited | None) -> Verdict | None:
    """Hold where nothing is under way and no lease can be granted; let a rollout on hold go on where one can be.

    Devices announce while a plan is open alone: a hold while late devices have room would keep them out for ever.
    """
    if _leasable(rollout, now_ms):
        return ease(rollout.ring_open, found) if rollout.phase is PlanState.HOLD else None
    if rollout.phase is not PlanState.OPEN or rollout.evidence.waiting(now_ms, rollout.observe_ms):
        return None
    if waits is not None:
        return held_back(waits.ring, waits.sentence, found)
    if rollout.ring_open == 0:
        return None
    return hold(rollout.ring_open, _absent(rollout, now_ms), late_room(rollout), found)


def _leasable(rollout: Rollout, now_ms: int) -> bool:
    """Say whether a device that asks now could be granted a lease: one of an open ring, or a late one."""
    if late_room(rollout) > 0 and _absent(rollout, now_ms):
        return True
    room = main_room(rollout)
    return any(
        room > 0 or window(rollout) >= rollout.treated_through(ring)
        for ring in range(1, rollout.ring_open + 1)
        if ring not in rollout.closed and accepts(rollout, ring, now_ms)
    )


def _absent(rollout: Rollout, now_ms: int) -> int:
    """Count the late devices, and the scouts that may begin, that have not come yet."""
    away = (scout for scout in rollout.spec.scouts if not rollout.evidence.treated_lease[scout])
    return rollout.overdue.absent + sum(_may_begin(rollout, scout, now_ms) for scout in away)


def _may_begin(rollout: Rollout, position: int, now_ms: int) -> bool:
    at_ms = may_begin_ms(rollout, position)
    return at_ms is not None and at_ms <= now_ms
