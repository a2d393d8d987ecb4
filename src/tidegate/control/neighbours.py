"""Interference: do placebo devices that share a site with treated ones fail more often than those that do not?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tidegate.core.clusters import Spill, spill_over
from tidegate.core.evidence import LeaseState

if TYPE_CHECKING:
    from tidegate.control.state import ServerState
    from tidegate.core.rollout import Rollout

SITE = "site"
"""The label that says where a device stands."""
NAMED_BELOW = 1e-3
MOST_LOOKED_AT = 200_000


def spill_of(state: ServerState, rollout: Rollout, now_ms: int) -> Spill | None:
    """Compare by the newest lease of each device; None where there is nothing to compare.

    Once every site has a treated device nobody is apart: it is seen in the first rings or not at all.
    """
    evidence, roster = rollout.evidence, rollout.spec.roster
    treated = np.flatnonzero(evidence.treated_lease)
    if not len(treated) or len(treated) > MOST_LOOKED_AT:
        return None
    sites = {state.devices.labels_of(roster[position]).get(SITE) for position in treated.tolist()} - {None}
    if not sites:
        return None
    over = evidence.leased_ms <= now_ms - rollout.observe_ms
    placebo = (evidence.ring_at_lease > 0) & ~evidence.treated_lease & (evidence.state != LeaseState.NONE)
    ended = placebo & (over | (evidence.state != LeaseState.PENDING))
    counts = [[0, 0], [0, 0]]
    for position in np.flatnonzero(ended)[:MOST_LOOKED_AT].tolist():
        site = state.devices.labels_of(roster[position]).get(SITE)
        if site is not None:
            row = counts[site in sites]
            row[0] += 1
            row[1] += int(evidence.state[position] != LeaseState.CONFIRMED)
    (apart, apart_failed), (beside, beside_failed) = counts
    return spill_over(beside, beside_failed, apart, apart_failed) if apart and beside else None
