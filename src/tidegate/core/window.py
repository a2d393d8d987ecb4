"""How many devices may be exposed at this moment: the wider of the certain and the statistical rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

import numpy as np
import numpy.typing as npt

from tidegate.core.bounds import THETAS, upper_bound
from tidegate.core.looks import LookPlan
from tidegate.core.looks_design import PLANNED_SHARE
from tidegate.core.looks_exact import ExactTest, shared_kappa

Counts = npt.NDArray[np.int64]
Count = int | Counts


@dataclass(frozen=True, slots=True)
class RingCounts:
    """What is known of one ring. A pending treated lease counts as FAILED, a pending placebo lease as FINE.

    So a look before the ring is resolved is only ever too careful: it spends no alpha.

    Attributes:
        treated: m, devices given a treated lease.
        placebo: c, devices given a placebo lease beside them.
        treated_failed: y, silent, reverted or still pending; an int, or an int64 array of shape (replicates,).
        placebo_failed: x, silent or reverted; an int, or an int64 array of shape (replicates,).

    `treated` and `placebo` may be arrays as well; replicates with equal ring sizes are computed together.
    """

    treated: Count
    placebo: Count
    treated_failed: Count
    placebo_failed: Count


def tally(treated: int, treated_fine: Count, placebo: int, placebo_failed: Count) -> RingCounts:
    """Count a ring at any moment: whatever of the treated is not known to be fine counts as failed.

    Args:
        treated: treated leases of the ring.
        treated_fine: how many of them are confirmed.
        placebo: placebo leases of the ring.
        placebo_failed: how many of them are known to be silent past the observation time, or reverted.
    """
    return RingCounts(treated, placebo, treated - treated_fine, placebo_failed)


@overload
def certain_room(exposed: int, confirmed: int, max_harmed: int, canary: int) -> int: ...
@overload
def certain_room(exposed: Counts, confirmed: Counts, max_harmed: int, canary: int) -> Counts: ...
def certain_room(exposed: Count, confirmed: Count, max_harmed: int, canary: int) -> Count:
    """Count the leases that may be granted now by the certain rule: exposed - confirmed < min(B, canary + confirmed).

    Args:
        exposed: devices given a treated lease so far; an int or an int64 array.
        confirmed: how many of them confirmed; same kind. Reverted and silent devices stay unconfirmed for good.
        max_harmed: the budget B, in devices.
        canary: devices that may be exposed while nobody has confirmed.

    Returns:
        Leases, never negative; same kind. Granting that many at once keeps the rule.

    Raises:
        ValueError: if more are confirmed than exposed, or a count is negative.
    """
    if max_harmed < 0 or canary < 0:
        raise ValueError("max_harmed and canary must not be negative")
    many = isinstance(exposed, np.ndarray) or isinstance(confirmed, np.ndarray)
    if np.any((confirmed < 0) | (confirmed > exposed)) if many else not 0 <= confirmed <= exposed:
        raise ValueError("confirmed must be 0 to exposed")
    if many:
        room = np.minimum(max_harmed, canary + confirmed) - (exposed - confirmed)
        return np.maximum(room, 0)
    return max(0, min(max_harmed, canary + confirmed) - (exposed - confirmed))


def statistical_window(plan: LookPlan, rings: Sequence[RingCounts], ends: Sequence[int] | None = None) -> Count:
    """Say up to which place in the order of exposure devices may be exposed by the statistical rule.

    The look at the end of ring k may open ring k + 1 and nothing beyond (no skipping), so every look may spend all of
    alpha. It may be repeated at any moment before the ring is frozen: pending leases only make it narrower.

    Args:
        plan: the looks, fixed when the rollout started.
        rings: counts of the rings exposed so far, in order; none for a rollout that has not begun. While a ring is
            open give its planned sizes, members without a lease counted like pending ones (treated failed, placebo
            fine). A frozen ring gives its leases; it may hold fewer than planned (the absent are late).
        ends: for each planned size in turn, how many rings end there, as far as rings have come; None where ring k
            ends at the k-th size. Where the certain rule carries a rollout on past a look that failed, in rings of
            its own, there is no look before they reach the next planned size: one between would spend more alpha.

    Returns:
        A place in the order, one of the plan's sizes: an int, or an int64 array of shape (replicates,) if any count
        is an array. The rings of a plan that is not feasible end before the roster does.

    Raises:
        ValueError: for counts that cannot be.
    """
    if not rings:
        return plan.sizes[0]
    every = range(1, len(rings) + 1) if ends is None else ends
    whole = tuple(tuple(count for count in _counts(ring) if isinstance(count, int)) for ring in rings)
    if all(len(ring) == 4 for ring in whole):
        return _one_window(plan, whole, every)
    arrays = [_as_array(ring) for ring in rings]
    stacked = np.stack(np.broadcast_arrays(*[a for ring in arrays for a in ring]))
    table = stacked.reshape(len(rings), 4, -1)
    _check_counts(table)
    found = np.full(table.shape[2], plan.sizes[0], dtype=np.int64)
    for look, end in enumerate(every[: len(plan.sizes) - 1]):
        found = np.maximum(found, _look(plan, look, table[:end]))
    shape = stacked.shape[1:]
    return found.reshape(shape) if shape else int(found[0])


def _one_window(plan: LookPlan, rings: tuple[tuple[int, ...], ...], ends: Sequence[int]) -> int:
    """One rollout's window: asked at every announcement, so looks that are known or hopeless cost nothing."""
    _check_counts(np.array([[[count] for count in ring] for ring in rings], dtype=np.int64))
    found = plan.sizes[0]
    for look, end in enumerate(ends[: len(plan.sizes) - 1]):
        seen = rings[:end]
        hopeless = sum(y for _, _, y, _ in seen) >= plan.max_harmed and not any(x for _, _, _, x in seen)
        if not hopeless and _opens(plan, look, seen):
            found = max(found, plan.sizes[look + 1])
    return found


@lru_cache(maxsize=4096)
def _opens(plan: LookPlan, look: int, rings: tuple[tuple[int, ...], ...]) -> bool:
    table = np.array(rings, dtype=np.int64)
    sizes = np.concatenate([table[:, 0], table[:, 1]])
    return bool(_passes(plan, look, sizes, table[:, 2:3], table[:, 3:4])[0])


def window(
    plan: LookPlan, rings: Sequence[RingCounts], exposed: int, confirmed: int, max_harmed: int | None = None
) -> int:
    """Count the devices that may be exposed in total: the wider of the certain and the statistical rule.

    Args:
        plan: the looks; its `max_harmed` is what the main part of the budget is.
        rings: as for `statistical_window`.
        exposed: devices given a treated lease so far.
        confirmed: how many of them confirmed.
        max_harmed: the budget for the certain rule, if it is not the plan's.

    Returns:
        Devices in total, at least `exposed`, at most the roster.
    """
    budget = plan.max_harmed if max_harmed is None else max_harmed
    certain = exposed + certain_room(exposed, confirmed, budget, plan.canary)
    return min(max(certain, int(statistical_window(plan, rings)), exposed), max(plan.devices, exposed))


def _look(plan: LookPlan, ring: int, table: Counts) -> Counts:
    """What the look at the end of planned `ring` opens; `table` has shape (rings, 4, replicates).

    A look that fails opens nothing: its ring may have been opened by the certain rule, which has a room of its own.
    """
    m, c, y, x = (table[:, i, :] for i in range(4))
    sizes = np.concatenate([m, c])
    result = np.full(sizes.shape[1], plan.sizes[0], dtype=np.int64)
    if np.all(sizes == sizes[:, :1]):
        groups, member = sizes[:, :1], np.zeros(sizes.shape[1], dtype=np.int64)
    else:
        groups, member = np.unique(sizes, axis=1, return_inverse=True)
        member = np.asarray(member.reshape(-1), dtype=np.int64)
    for number in range(groups.shape[1]):
        mine = np.flatnonzero(member == number)
        passed = _passes(plan, ring, groups[:, number], y[:, mine], x[:, mine])
        result[mine] = np.where(passed, plan.sizes[ring + 1], plan.sizes[0])
    return result


def _passes(plan: LookPlan, ring: int, sizes: Counts, y: Counts, x: Counts) -> npt.NDArray[np.bool_]:
    """Whether the look at the end of `ring` opens the next one: all of it, and every member of it might come."""
    m, c = (tuple(int(count) for count in half) for half in np.split(sizes, 2))
    target = sum(m) + plan.treated(ring + 1)
    if plan.tests[ring] == "chernoff":
        thetas = (plan.thetas[ring], *THETAS)
        weights = (PLANNED_SHARE, *[(1.0 - PLANNED_SHARE) / len(THETAS)] * len(THETAS))
        bound = upper_bound(m, c, y.T, x.T, plan.look_alpha, thetas, weights)
        reach = np.floor((1.0 - plan.q_gate) * plan.max_harmed / bound)
        return np.asarray(reach >= target, dtype=np.bool_)
    kappa, used = shared_kappa(m, c)
    rule = ExactTest(plan.max_harmed, sum(m), target, kappa, plan.look_alpha, plan.q_gate)
    return rule.passes(y.sum(axis=0), x[list(used)].sum(axis=0))


def _counts(ring: RingCounts) -> tuple[Count, ...]:
    return ring.treated, ring.placebo, ring.treated_failed, ring.placebo_failed


def _as_array(ring: RingCounts) -> tuple[Counts, ...]:
    return tuple(np.asarray(value, dtype=np.int64) for value in _counts(ring))


def _check_counts(table: Counts) -> None:
    if np.any(table < 0) or np.any(table[:, 2] > table[:, 0]) or np.any(table[:, 3] > table[:, 1]):
        raise ValueError("counts must not be negative, and no arm can have more failures than devices")
