"""Until when a signed dwell holds devices back: they take one change of a component at a time, and let it settle."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tidegate.core.rollout import Rollout, RolloutSpec

LONGEST_S = 100 * 366 * 86_400
"""A signed dwell may be any number; times beyond this do not fit where they are kept."""


def dwells_ms(before: Iterable[Rollout], spec: RolloutSpec, at_ms: int) -> npt.NDArray[np.int64] | None:
    """Give until when each device of a roster will say no for the dwell, or None if none will.

    A device counts from its last change, to a release or back from it. The server does not see that moment; it takes
    one observation time after the lease for it. (A device that was started anew since counts from its start.)

    Args:
        before: earlier rollouts; those of other components count for nothing.
        spec: the rollout that begins.
        at_ms: when it begins.

    Returns:
        Milliseconds, shape (devices,).
    """
    if spec.speed is None or spec.speed.dwell_s == 0:
        return None
    mine, dwell_ms = spec.roster.array, min(spec.speed.dwell_s, LONGEST_S) * 1000
    until = np.zeros(len(mine), dtype=np.int64)
    for rollout in before:
        over_ms = at_ms if rollout.ended_ms is None else rollout.ended_ms + rollout.observe_ms + dwell_ms
        if rollout.spec.component != spec.component or over_ms < at_ms:
            continue  # the many of years ago are not looked through
        _, here, there = np.intersect1d(mine, rollout.spec.roster.array, assume_unique=True, return_indices=True)
        leased = rollout.evidence.treated_lease[there]
        ends_ms = rollout.evidence.leased_ms[there[leased]] + rollout.observe_ms + dwell_ms
        until[here[leased]] = np.maximum(until[here[leased]], ends_ms)
    return until if until.max(initial=0) > at_ms else None
