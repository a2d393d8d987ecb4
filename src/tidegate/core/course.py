"""What a rollout's evidence makes due at this moment: a ring to close, a ring to open, a halt, a hold, the end."""

from __future__ import annotations

import math

import numpy as np

from tidegate.core.admission import accepts, main_room
from tidegate.core.bounds import halts, log_halting
from tidegate.core.evidence import ArmCounts
from tidegate.core.model import Arm, PlanState
from tidegate.core.rollout import ENDED, ClosedRing, Rollout
from tidegate.core.verdict import Figures, Verdict, advance, complete, halt, hold
from tidegate.core.window import RingCounts, placebo_gate, statistical_window

LOG_CEILING = 600.0
"""Evidence above e**600 is cut here, so that a sentence can print it."""


def next_due(rollout: Rollout, now_ms: int) -> ClosedRing | Verdict | None:
    """Give the one thing that is due first, or None. Call it again after folding what it gave, until it gives None."""
    if rollout.phase in ENDED:
        return None
    evidence_of_harm = log_evidence_of_harm(rollout, now_ms)
    if bool(halts(evidence_of_harm, rollout.spec.budget.false_halt)):
        found = figures(rollout, now_ms, evidence_of_harm)
        return halt(rollout.ring_open, math.exp(min(evidence_of_harm, LOG_CEILING)), found)
    if rollout.covered == rollout.devices:
        return complete(rollout.ring_open, figures(rollout, now_ms, evidence_of_harm))
    for ring in range(1, rollout.ring_open + 1):
        if ring not in rollout.closed and _closes(rollout, ring, now_ms):
            return _frozen(rollout, ring, now_ms)
    if rollout.phase is PlanState.PAUSED:
        return None
    return _opening(rollout, now_ms, evidence_of_harm) or _stuck(rollout, now_ms, evidence_of_harm)


def window(rollout: Rollout) -> int:
    """Count the treated devices, in the order of the rings, that the statistical rule lets be exposed.

    Pending treated leases count as failed and pending placebo leases as fine, so looking early is only too careful.
    """
    looks = rollout.spec.looks
    return 0 if looks is None else int(statistical_window(looks, _rings(rollout)))


def figures(rollout: Rollout, now_ms: int, evidence_of_harm: float) -> Figures:
    """Gather the counts that a verdict is taken on."""
    evidence = rollout.evidence
    placebo = [_counts(rollout, ring, Arm.PLACEBO, now_ms) for ring in range(1, rollout.ring_open + 1)]
    return Figures(
        exposed=evidence.exposed,
        confirmed=evidence.confirmed,
        reverted=evidence.reverted,
        silent=evidence.silent(now_ms, rollout.observe_ms),
        placebo=sum(arm.leased for arm in placebo),
        placebo_failed=sum(arm.reverted + arm.silent for arm in placebo),
        max_harmed=rollout.spec.budget.max_harmed,
        devices=rollout.devices,
        log_evidence_of_harm=round(min(evidence_of_harm, LOG_CEILING), 6),
    )


def log_evidence_of_harm(rollout: Rollout, now_ms: int) -> float:
    """Weigh the rings whose leases have all ended or run out of time, both arms at once; the reverted beside them."""
    blocks: list[tuple[int, int, int, int]] = []
    for ring in range(1, rollout.ring_open + 1):
        frozen = rollout.closed.get(ring)
        if frozen is not None:
            blocks.append((frozen.treated, frozen.placebo, frozen.treated_failed, frozen.placebo_failed))
            continue
        treated = _counts(rollout, ring, Arm.TREATED, now_ms)
        placebo = _counts(rollout, ring, Arm.PLACEBO, now_ms)
        if _whole(rollout, ring, treated, placebo):
            blocks.append(
                (treated.leased, placebo.leased, treated.reverted + treated.silent, placebo.reverted + placebo.silent)
            )
    table = np.array(blocks or [(0, 0, 0, 0)], dtype=np.float64)
    value = log_halting(
        table[:, 0],
        table[:, 1],
        table[:, 2],
        table[:, 3],
        exposed=rollout.evidence.exposed,
        treated_reverted=rollout.evidence.reverted,
        reverted_bound=rollout.spec.budget.reverted_bound,
    )
    return float(value)


def _counts(rollout: Rollout, ring: int, arm: Arm, now_ms: int) -> ArmCounts:
    frozen = rollout.closed.get(ring)
    if frozen is None:
        return rollout.evidence.arm(ring, arm, now_ms, rollout.observe_ms)
    leased = frozen.treated if arm is Arm.TREATED else frozen.placebo
    failed = frozen.treated_failed if arm is Arm.TREATED else frozen.placebo_failed
    return ArmCounts(leased, leased - failed, failed, 0)


def _whole(rollout: Rollout, ring: int, treated: ArmCounts, placebo: ArmCounts) -> bool:
    """Say whether every member of a ring has had its lease, and every lease has ended or run out of time."""
    drawn = rollout.rings.drawn[ring - 1]
    all_leased = treated.leased == drawn.treated and placebo.leased == drawn.placebo
    return all_leased and treated.resolved and placebo.resolved


def _closes(rollout: Rollout, ring: int, now_ms: int) -> bool:
    """A ring closes when all its members are resolved, or, past its time, at the first moment within the gate."""
    treated = _counts(rollout, ring, Arm.TREATED, now_ms)
    placebo = _counts(rollout, ring, Arm.PLACEBO, now_ms)
    if not (treated.resolved and placebo.resolved):
        return False
    if not _whole(rollout, ring, treated, placebo) and accepts(rollout, ring, now_ms):
        return False
    return placebo.silent <= placebo_gate(rollout.spec.budget.q_gate, placebo.leased)


def _frozen(rollout: Rollout, ring: int, now_ms: int) -> ClosedRing:
    treated = _counts(rollout, ring, Arm.TREATED, now_ms)
    placebo = _counts(rollout, ring, Arm.PLACEBO, now_ms)
    without_lease = (rollout.rings.treated == ring) & ~rollout.evidence.treated_lease
    return ClosedRing(
        ring=ring,
        treated=treated.leased,
        treated_failed=treated.leased - treated.confirmed,
        placebo=placebo.leased,
        placebo_failed=placebo.leased - placebo.confirmed,
        late=tuple(int(position) for position in np.flatnonzero(without_lease)),
    )


def _rings(rollout: Rollout) -> list[RingCounts]:
    found: list[RingCounts] = []
    for ring in range(1, rollout.ring_open + 1):
        frozen = rollout.closed.get(ring)
        if frozen is not None:
            found.append(RingCounts(frozen.treated, frozen.placebo, frozen.treated_failed, frozen.placebo_failed))
            continue
        treated = rollout.evidence.arm(ring, Arm.TREATED, 0, rollout.observe_ms)
        placebo = rollout.evidence.arm(ring, Arm.PLACEBO, 0, rollout.observe_ms)
        size = rollout.rings.drawn[ring - 1].treated
        # Devices that have not come yet count like pending treated leases: as failed.
        found.append(RingCounts(size, placebo.leased, size - treated.confirmed, placebo.reverted))
    return found


def _opening(rollout: Rollout, now_ms: int, evidence_of_harm: float) -> Verdict | None:
    """Open the next ring if either rule lets it begin; its size is fixed here, before anyone in it has answered."""
    current, left = rollout.ring_open, rollout.rings.left
    if left == 0:
        return None
    budget = rollout.spec.budget
    so_far = rollout.treated_through(current)
    allowed = min(window(rollout) - so_far, left)
    if current == 0:
        size = min(allowed if rollout.statistical else budget.first_ring, left)
        by = f"at most {budget.first_ring:,} may be harmed before anyone has confirmed"
    elif allowed > 0:
        size, by = allowed, f"the statistical rule at confidence {budget.confidence:g}"
    elif _begun(rollout, current, now_ms) and main_room(rollout) > 0:
        size = min(budget.max_harmed, budget.first_ring + so_far, left)
        by = f"by the certain rule at most {budget.max_harmed:,} are exposed without a confirmation"
    else:
        return None
    treated, placebo = rollout.rings.sizes(size)
    return advance(current + 1, treated, placebo, by, figures(rollout, now_ms, evidence_of_harm))


def _begun(rollout: Rollout, ring: int, now_ms: int) -> bool:
    """Say whether every treated device of a ring has its lease, or has missed it."""
    leased = rollout.evidence.arm(ring, Arm.TREATED, now_ms, rollout.observe_ms).leased
    return ring in rollout.closed or leased == rollout.rings.drawn[ring - 1].treated


def _stuck(rollout: Rollout, now_ms: int, evidence_of_harm: float) -> Verdict | None:
    if rollout.phase is not PlanState.OPEN or rollout.evidence.waiting(now_ms, rollout.observe_ms):
        return None
    if any(ring not in rollout.closed and accepts(rollout, ring, now_ms) for ring in range(1, rollout.ring_open + 1)):
        leasable = main_room(rollout) > 0 or window(rollout) >= rollout.treated_through(rollout.ring_open)
        if leasable:
            return None
    late = sum(1 for position in rollout.overdue if not rollout.evidence.treated_lease[position])
    return hold(rollout.ring_open, late, figures(rollout, now_ms, evidence_of_harm))
