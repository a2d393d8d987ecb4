"""Liars: which groups' reports cluster in a rollout, and the act that sets a group's reports aside."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.core.clusters import LEAST_FAILED, TOKEN, Cluster, clusters
from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.core.evidence import LeaseState
from tidegate.core.model import PlanState
from tidegate.log.events import Act, Event

if TYPE_CHECKING:
    from tidegate.control.acts import Who
    from tidegate.control.fleet import Fleet
    from tidegate.control.state import ServerState
    from tidegate.core.rollout import Rollout

LEVEL, AFTER_A_HALT = 1e-3, 0.1
"""The chance up to which a group is named. A halt rests on few reports, and who looks into it asks what they share."""
MOST_LOOKED_AT = 200_000
"""Exposed devices that are counted by group; of more, every so many-th, and all that failed."""


def clusters_of(state: ServerState, rollout: Rollout, now_ms: int) -> tuple[Cluster, ...]:
    """Name the groups (by label, and by enrolment token) whose devices failed more often than chance explains."""
    evidence = rollout.evidence
    overdue = evidence.leased_ms <= now_ms - rollout.observe_ms
    failed = evidence.treated_lease & (
        (evidence.state == LeaseState.REVERTED) | ((evidence.state == LeaseState.PENDING) & overdue)
    )
    aside = np.fromiter(evidence.aside, dtype=np.int64)
    failed[aside] = False
    bad = np.flatnonzero(failed)
    if len(bad) < LEAST_FAILED:
        return ()
    fine = evidence.treated_lease & ~failed
    fine[aside] = False
    others = np.flatnonzero(fine)
    every = max(1, len(others) // MOST_LOOKED_AT)  # a share of the fine, so that a look stays quick
    exposed, reported = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for position in bad.tolist():
        reported.update(groups_of(state.devices, rollout.spec.roster[position]))
    for position in others[::every].tolist():
        mine = groups_of(state.devices, rollout.spec.roster[position])
        exposed.update(group for group in mine if group in reported)
    whole = {group: min(exposed[group] * every, len(others)) + count for group, count in reported.items()}
    halted = rollout.phase is PlanState.HALTED and rollout.verdict == "halt"
    level = AFTER_A_HALT if halted else LEVEL
    return clusters(whole, reported, len(others) + len(bad), len(bad), level)


def groups_of(fleet: Fleet, index: int) -> list[tuple[str, str]]:
    """Give the groups that a device belongs to."""
    return [*fleet.labels_of(index).items(), (TOKEN, fleet.token_of(index))]


def quarantine(
    state: ServerState, now_ms: int, by: Who, *, group: str, devices: list[int]
) -> tuple[list[Event], list[int]]:
    """Set aside what a group of devices has reported and will report: it is evidence of nothing, and they get no lease.

    Args:
        state, now_ms, by: as for every act.
        group: NAME=VALUE of a label, or token=ID; empty for `devices` alone.
        devices: indexes besides.

    Raises:
        BadInput: without a reason, or for a group that is none.
        NotFound: if it has no devices.
        Refused: if all of them are quarantined already.
    """
    if not by.why:
        raise BadInput("say why: what these devices report is no evidence any more")
    name, equals, value = group.partition("=")
    if group and not (name and equals and value):
        raise BadInput(f"group: must be NAME=VALUE of a label, or token=ID, not {group!r}")
    indexes = set(devices)
    if group:
        indexes |= {index for index in range(len(state.devices)) if (name, value) in groups_of(state.devices, index)}
    if not indexes:
        raise NotFound(f"no device is in the group {group!r}" if group else "name a device or a group")
    news = sorted(indexes - set(state.identities.quarantined))
    if not news:
        raise Refused("these devices are quarantined already")
    body: dict[str, Any] = {"indexes": news, "group": group}
    return [Act(at_ms=now_ms, what="devices_quarantined", who=by.who, why=by.why, body=body)], news
