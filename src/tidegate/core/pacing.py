"""What the signed speed limit and its dwell leave of a rollout's next ring: the server counts nobody late too early.

Devices enforce both by themselves, from their rank and the steps that release keys signed; the server knows these as
well, and opens no ring whose members would only be told to wait.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.core.assign import SHARE_ONE
from tidegate.core.model import SpeedLimit
from tidegate.core.rollout import Rollout
from tidegate.core.speed import age_s, allowed_share, next_step_s, opens_at_s, percent, promoted
from tidegate.core.timetable import RingTime, timetable

MOST_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Limited:
    """The next ring waits for the speed limit, or for its dwell.

    `until_s` is the unix second at which it may open, None if time alone opens nothing; `promote_2p32` the ceiling that
    would, 0 where no promotion does.
    """

    ring: int
    until_s: int | None
    promote_2p32: int
    sentence: str


def fitted(rollout: Rollout, treated: int, placebo: int, now_ms: int) -> tuple[int, int] | Limited | None:
    """Cut a ring of (treated, placebo) devices to those that the speed limit lets begin now, or say what it waits for.

    The whole ring, if it is allowed now or within one observation time (that is waited for); else as much of it as is
    allowed now, in its own proportion, so that the time until the next step is used. That begins when the ring before
    has closed, or devices would be wanted in many small rings at once: None until then.
    """
    limit, now_s = rollout.speed, now_ms // 1000
    if limit is None:
        return treated, placebo
    ring, rings = rollout.ring_open + 1, rollout.rings
    open_still = rollout.ring_open > 0 and rollout.ring_open not in rollout.closed
    if open_still and _was_cut(rollout, treated + placebo, allowed_share(limit, age_s(limit, now_s))):
        return None
    if now_s > limit.not_after:
        return Limited(ring, None, 0, "the release is past its last day, and nobody may begin with it; sign a new one")
    whole_s = opens_at_s(limit, rings.last_rank(treated + placebo))
    if whole_s is not None and whole_s <= now_s:
        return _dwelt(rollout, treated, placebo, now_ms)
    if whole_s is not None and whole_s - now_s <= rollout.spec.observe_s:
        return Limited(ring, whole_s, 0, f"the speed limit allows it in {whole_s - now_s} s")
    if open_still:
        return None
    room, step_s = rings.within(allowed_share(limit, age_s(limit, now_s))), next_step_s(limit, now_s)
    if room == rings.within(0) and step_s is not None and step_s - now_s <= rollout.spec.observe_s:
        return _beyond(rollout, limit, ring, treated + placebo, now_s)  # nobody new yet: it would be in the way
    cut = _cut(treated, placebo, min(room, treated + placebo), alone=not rollout.statistical)
    if cut is None:
        return _beyond(rollout, limit, ring, treated + placebo, now_s)
    return _dwelt(rollout, *cut, now_ms)


def _was_cut(rollout: Rollout, members: int, share_2p32: int) -> bool:
    """Say whether the newest ring was cut: it ends before its look, or the next would have its placebos alone."""
    looks = rollout.spec.looks
    if looks is not None:
        return rollout.treated_through(rollout.ring_open) not in looks.sizes
    return share_2p32 < SHARE_ONE and members <= rollout.rings.within(0)


def _cut(treated: int, placebo: int, room: int, *, alone: bool) -> tuple[int, int] | None:
    """Scale a ring to `room` devices; None if not one can be treated, or one only without the placebo it needs."""
    most = treated * room // (treated + placebo)
    if most == 0 and alone and room > 0:
        most = 1  # the certain rule needs no placebo
    beside = room - most
    return (most, beside) if most > 0 and (beside > 0 or placebo == 0 or alone) else None


def _beyond(rollout: Rollout, limit: SpeedLimit, ring: int, members: int, now_s: int) -> Limited:
    share, at_s = allowed_share(limit, age_s(limit, now_s)), next_step_s(limit, now_s)
    so_far = f"the speed limit allows {percent(share)} of devices now"
    if at_s is not None:
        more = percent(allowed_share(limit, age_s(limit, at_s)))
        return Limited(ring, at_s, 0, f"{so_far}, and {more} in {at_s - now_s} s")
    steps = allowed_share(promoted(limit, SHARE_ONE), age_s(limit, limit.not_after))
    needed = min(_rounded_up(rollout.rings.last_rank(members) >> 32), steps)
    if limit.ceiling_2p32 < needed:
        sentence = f"{so_far}, its ceiling: a promotion to {percent(needed)} lifts it (tidegate release promote)"
        return Limited(ring, None, needed, sentence)
    return Limited(ring, None, 0, f"{so_far}, and never more before its last day; the rest takes another release")


def _rounded_up(share_2p32: int) -> int:
    """Give the next whole percent above a share, in parts of 2**32, as people say it."""
    percents = min(100, share_2p32 * 100 // SHARE_ONE + 1)
    return -(-percents * SHARE_ONE // 100)


def _dwelt(rollout: Rollout, treated: int, placebo: int, now_ms: int) -> tuple[int, int] | Limited:
    """Wait while the signed dwell holds back every member of the ring."""
    if rollout.dwells_ms is None:
        return treated, placebo
    first_ms = int(rollout.dwells_ms[rollout.rings.coming(treated + placebo)].min())
    if first_ms <= now_ms:
        return treated, placebo
    until_s = -(-first_ms // 1000)
    sentence = f"its devices have changed lately: {until_s - now_ms // 1000} s of the signed dwell are left"
    return Limited(rollout.ring_open + 1, until_s, 0, sentence)


def may_begin_ms(rollout: Rollout, position: int) -> int | None:
    """Give the moment from which the limit and the dwell let one device of the roster begin; None if never."""
    limit, dwells_ms = rollout.speed, rollout.dwells_ms
    if limit is None:
        return rollout.started_ms
    at_s = opens_at_s(limit, rollout.rings.rank_of(position))
    return (
        None if at_s is None else max(rollout.started_ms, at_s * 1000, 0 if dwells_ms is None else dwells_ms[position])
    )


def scouts_until_ms(rollout: Rollout) -> int:
    """Give the moment until which the first ring waits for scouts: one observation time from when they may begin.

    One that the speed limit lets begin only later than that after the very first device is not waited for: it is a rare
    kind of device far down the order, and comes as it may.
    """
    takes_ms = (rollout.spread_s(0) + rollout.spec.observe_s) * 1000
    first_s = opens_at_s(rollout.speed, 0) if rollout.speed is not None else None
    begins_ms = max(rollout.started_ms, (first_s or 0) * 1000)
    moments = [may_begin_ms(rollout, scout) for scout in rollout.spec.scouts]
    return max((at for at in moments if at is not None and at <= begins_ms + takes_ms), default=begins_ms) + takes_ms


def rings_to_come(rollout: Rollout, now_ms: int) -> tuple[RingTime, ...]:
    """Lay out the planned rings that are not open yet, as they come if all goes well: at most MOST_SHOWN of them."""
    spec, rings, so_far = rollout.spec, rollout.rings, rollout.treated_through(rollout.ring_open)
    looks, budget = spec.looks, spec.budget
    if rollout.speed is None or rings.left == 0 or spec.shadow:
        return ()
    sizes = looks.sizes if looks is not None else _certain_sizes(rollout, so_far)
    shares: list[int] = []
    for ring, size in enumerate(sizes):
        if size > so_far and len(shares) < MOST_SHOWN:
            before = max(so_far, sizes[ring - 1] if ring else 0)
            beside = looks.placebo[ring] if looks is not None else round(budget.placebo_per_treated * (size - before))
            last = min(size + beside, so_far + rings.left)
            shares.append((rings.rank_at(last) >> 32) + 1)
    opened_ms = rollout.opened_ms.get(rollout.ring_open)
    begin_ms = now_ms if opened_ms is None else max(now_ms, opened_ms + rollout.observe_ms)
    return timetable(rollout.speed, begin_ms / 1000, spec.observe_s, shares, rollout.ring_open + 1)


def _certain_sizes(rollout: Rollout, so_far: int) -> list[int]:
    """Treated devices after each ring to come by the certain rule, where everyone confirms."""
    budget, everyone, sizes = rollout.spec.budget, so_far + rollout.rings.left, list[int]()
    while so_far < everyone and len(sizes) < MOST_SHOWN:
        so_far = min(everyone, so_far + min(budget.max_harmed, budget.first_ring + so_far))
        sizes.append(so_far)
    return sizes
