"""What was declared for a rollout, and who is at risk at one moment: for the history checker."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Allowed:
    """What was declared. No more may be at risk at any moment."""

    max_harmed: int
    canary: int
    cap: int
    """Devices of one site."""
    site_of: Mapping[int, str]
    lane_of: Mapping[int, tuple[str, str]] = field(default_factory=lambda: {})
    """Service and lane of the devices that have one: two lanes of a service are never at risk together."""
    alpha: float = 0.0
    """What the statistical rule may spend; with 0 the certain rule stands alone."""

    def proves(self, reached: int, looked_at: int, failed: int) -> bool:
        """Say whether `failed` failures among the first `looked_at` devices let exposure reach `reached` devices.

        It breaks the promise only if the first `reached` - 1 hold `max_harmed` harmed devices or more; those would lie
        in a random order, so that so few among the first come about with a known (hypergeometric) probability.
        """
        if not self.alpha or looked_at >= reached:
            return False
        others, ways = reached - 1 - looked_at, math.comb(reached - 1, self.max_harmed)
        few = sum(
            math.comb(looked_at, harmed) * math.comb(others, self.max_harmed - harmed)
            for harmed in range(min(failed, self.max_harmed) + 1)
        )
        return ways == 0 or few / ways <= self.alpha


class AtRisk:
    """Who is at risk at one moment; complains when there are too many."""

    def __init__(self, allowed: Allowed, of_ring: Counter[int]) -> None:
        self.allowed, self.of_ring = allowed, of_ring
        self.now: dict[int, str] = {}
        self.sites: Counter[str] = Counter()
        self.lanes: Counter[tuple[str, str]] = Counter()
        self.exposed_of: Counter[int] = Counter()
        self.good_of: Counter[int] = Counter()
        self.good: set[int] = set()
        self.most = 0

    def begin(self, device: int, lease: str, ring: int) -> None:
        """Take in a treated lease; the same one may come again."""
        if device in self.good or device in self.now:
            assert self.now.get(device, lease) == lease, f"device {device} was exposed by two leases"
            return
        self.now[device] = lease
        self.exposed_of[ring] += 1
        self.most = max(self.most, len(self.now))
        allowed = min(self.allowed.max_harmed, self.allowed.canary + len(self.good))
        assert len(self.now) <= allowed or self._opened(ring), f"{len(self.now)} at risk, {allowed} allowed"
        site = self.allowed.site_of[device]
        self.sites[site] += 1
        assert self.sites[site] <= self.allowed.cap, f"{self.sites[site]} of {site} at risk, cap {self.allowed.cap}"
        if (own := self.allowed.lane_of.get(device)) is not None:
            self.lanes[own] += 1
            beside = [lane for lane, count in self.lanes.items() if count and lane[0] == own[0] and lane != own]
            assert not beside, f"lanes {own[1]} and {beside[0][1]} of {own[0]} at risk together"

    def _opened(self, ring: int) -> bool:
        """Whether the rings before this one, as far as they have confirmed, allow the statistical rule to open it."""
        looked_at = sum(count for number, count in self.of_ring.items() if number < ring)
        good = sum(count for number, count in self.good_of.items() if number < ring)
        reached = sum(count for number, count in self.exposed_of.items() if number <= ring)
        return self.allowed.proves(reached, looked_at, looked_at - good)

    def end(self, device: int, ring: int) -> None:
        """Take in a confirmation of a treated lease."""
        if device in self.good:
            return
        self.good.add(device)
        self.good_of[ring] += 1
        if self.now.pop(device, None) is not None:
            self.sites[self.allowed.site_of[device]] -= 1
            if (own := self.allowed.lane_of.get(device)) is not None:
                self.lanes[own] -= 1
