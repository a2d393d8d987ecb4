"""A rollout's state, read: the counts of each ring, the window they open, and the weight of evidence for harm."""

from __future__ import annotations

import math

import numpy as np

from tidegate.core.aside import without
from tidegate.core.bounds import log_count_channel, log_halting
from tidegate.core.evidence import ArmCounts
from tidegate.core.looks import LookPlan
from tidegate.core.looks_budget import severity_window
from tidegate.core.model import Arm
from tidegate.core.rollout import Rollout
from tidegate.core.verdict import Figures
from tidegate.core.window import RingCounts, statistical_window

LOG_CEILING = 600.0
"""Evidence above e**600 is cut here, so that a sentence can print it."""


def window(rollout: Rollout) -> int:
    """Count the treated devices, in the order of the rings, that the statistical rule lets be exposed.

    Pending treated leases count as failed and pending placebo leases as fine, so looking early is only too careful.
    """
    failed, silent = rollout.spec.looks, rollout.spec.looks_silent
    if failed is None:
        return 0
    ends = _ends(rollout, failed)
    if silent is None:
        return int(statistical_window(failed, _rings(rollout), ends))
    return int(severity_window((silent, failed), _rings(rollout, silent_only=True), _rings(rollout), ends))


def _ends(rollout: Rollout, looks: LookPlan) -> list[int]:
    """Count the rings up to each planned size that rings end at; a ring never crosses one."""
    ends: list[int] = []
    through = 0
    for ring, drawn in enumerate(rollout.rings.drawn, start=1):
        through += drawn.treated
        if len(ends) < looks.rings and through == looks.sizes[len(ends)]:
            ends.append(ring)
    return ends


def _rings(rollout: Rollout, *, silent_only: bool = False) -> list[RingCounts]:
    """Count the rings as the window wants them; with `silent_only` a reverted device counts as fine, in both arms."""
    found: list[RingCounts] = []
    for ring, drawn in enumerate(rollout.rings.drawn, start=1):
        frozen = rollout.closed.get(ring)
        if frozen is not None:
            m, c, y, x = frozen.treated, frozen.placebo, frozen.treated_failed, frozen.placebo_failed
            back, back_placebo = frozen.treated_reverted, frozen.placebo_reverted
            if (out := rollout.aside.get(ring)) is not None:
                y, x = min(y + out.treated - out.treated_failed, m), max(x - out.placebo_failed, 0)
                back, back_placebo = back - out.treated_reverted, back_placebo - out.placebo_reverted
        else:
            treated = rollout.evidence.arm(ring, Arm.TREATED, 0, rollout.observe_ms)
            placebo = rollout.evidence.arm(ring, Arm.PLACEBO, 0, rollout.observe_ms)
            # Who has not come yet counts like a pending lease: as failed if treated, as fine if placebo.
            m, c, y, x = drawn.treated, drawn.placebo, drawn.treated - treated.confirmed, placebo.reverted
            back, back_placebo = treated.reverted, placebo.reverted
        found.append(RingCounts(m, c, y - back, x - back_placebo) if silent_only else RingCounts(m, c, y, x))
    return found


def arm_counts(rollout: Rollout, ring: int, arm: Arm, now_ms: int) -> ArmCounts:
    """Count one arm of one ring as it stands, or as it was frozen."""
    frozen = rollout.closed.get(ring)
    if frozen is None:
        return rollout.evidence.arm(ring, arm, now_ms, rollout.observe_ms)
    leased = frozen.treated if arm is Arm.TREATED else frozen.placebo
    failed = frozen.treated_failed if arm is Arm.TREATED else frozen.placebo_failed
    return ArmCounts(leased, leased - failed, failed, 0)


def figures(rollout: Rollout, now_ms: int, evidence_of_harm: float) -> Figures:
    """Gather the counts that a verdict is taken on."""
    evidence = rollout.evidence
    placebo = [arm_counts(rollout, ring, Arm.PLACEBO, now_ms) for ring in range(1, rollout.ring_open + 1)]
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
        signalled=len(evidence.signalled),
    )


def log_evidence_of_harm(rollout: Rollout) -> float:
    """Weigh the three channels of harm: closed rings with both arms, self-reverted devices, and people's signals.

    Only frozen rings are read, each once: a ring that is read while it may still change, or one arm before the other,
    would make an outage look like harm. The mean of three e-processes is one.
    """
    evidence, budget = rollout.evidence, rollout.spec.budget
    exposed = evidence.exposed - (rollout.devices - rollout.countable)
    blocks = [without(rollout, ring) for ring in rollout.closed.values()]
    table = np.array(blocks or [(0, 0, 0, 0)], dtype=np.float64)
    two = log_halting(
        table[:, 0],
        table[:, 1],
        table[:, 2],
        table[:, 3],
        exposed=exposed,
        treated_reverted=evidence.reverted,
        reverted_bound=budget.reverted_bound,
    )
    signals = log_count_channel(exposed, len(evidence.signalled), budget.signalled_bound)
    return float(np.logaddexp(math.log(2 / 3) + two, math.log(1 / 3) + signals))
