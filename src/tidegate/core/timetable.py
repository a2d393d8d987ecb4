"""When the rings of a rollout open: by the statistics, by the signed speed limit, and which of the two binds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.core.model import SpeedLimit
from tidegate.core.speed import opens_at_s

STATISTICS, LIMIT = "statistics", "speed limit"


@dataclass(frozen=True, slots=True)
class RingTime:
    """One planned ring. Times are unix seconds; None: not without a promotion (or before its last day).

    `share_2p32` is the part of the fleet that its members, placebo included, and those of all rings before reach into.
    """

    ring: int
    share_2p32: int
    statistics_s: float | None
    limit_s: int | None
    opens_s: float | None
    binds: str


def timetable(
    limit: SpeedLimit | None, begin_s: float, round_s: float, shares_2p32: Sequence[int], first: int = 1
) -> tuple[RingTime, ...]:
    """Lay out the rings to come, for a good update whose devices are all there.

    A ring opens one round after the one before by the statistics, and not before the limit allows its last member:
    what it allows earlier is begun in smaller rings meanwhile, which need no time of their own.

    Args:
        limit: the signed one, or None.
        begin_s: when the first of them opens by the statistics, unix seconds.
        round_s: from a ring's opening to its last confirmation.
        shares_2p32: for each ring the share of the fleet that it reaches to, in parts of 2**32, not falling.
        first: the first ring's number.
    """
    found: list[RingTime] = []
    by_statistics: float | None = begin_s
    for ring, share in enumerate(shares_2p32, start=first):
        allowed_s = int(begin_s) if limit is None else opens_at_s(limit, max((share << 32) - 1, 0))
        opens_s = None if by_statistics is None or allowed_s is None else max(by_statistics, allowed_s)
        late = allowed_s is None or (by_statistics is not None and allowed_s > by_statistics)
        binds = LIMIT if limit is not None and late else STATISTICS
        found.append(RingTime(ring, share, by_statistics, None if limit is None else allowed_s, opens_s, binds))
        by_statistics = None if opens_s is None else opens_s + round_s
    return tuple(found)
