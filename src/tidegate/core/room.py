"""How many leases the certain rule allows at this moment, to devices in time and to late ones."""

from __future__ import annotations

from tidegate.core.looks_budget import severity_room
from tidegate.core.rollout import Rollout


def main_room(rollout: Rollout) -> int:
    """Count the leases that the certain rule allows now to devices that are in time."""
    if not rollout.statistical:
        return _whole_room(rollout)
    budget, evidence = rollout.spec.budget, rollout.evidence
    most = budget.max_harmed - budget.late_part
    return severity_room(
        evidence.exposed - evidence.late_exposed,
        evidence.confirmed - evidence.late_confirmed,
        evidence.reverted - evidence.late_reverted,
        most,
        min(budget.max_silent or most, most),
        min(budget.first_ring, most),
    )


def late_room(rollout: Rollout) -> int:
    """Count the leases that the certain rule allows now to late devices and scouts: they have a share of their own.

    A fleet too small for the statistical rule runs on the certain rule as a whole, which asks for no order of arrival:
    there they share one budget with the others.
    """
    if not rollout.statistical:
        return _whole_room(rollout)
    budget, evidence = rollout.spec.budget, rollout.evidence
    most = budget.late_part
    if most == 0:
        return 0
    return severity_room(
        evidence.late_exposed,
        evidence.late_confirmed,
        evidence.late_reverted,
        most,
        min(budget.max_silent or most, most),
        most,
    )


def _whole_room(rollout: Rollout) -> int:
    budget, evidence = rollout.spec.budget, rollout.evidence
    return severity_room(
        evidence.exposed,
        evidence.confirmed,
        evidence.reverted,
        budget.max_harmed,
        budget.max_silent or budget.max_harmed,
        budget.first_ring,
    )
