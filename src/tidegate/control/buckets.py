"""How often somebody may ask: token buckets by key, a bounded number of them."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

MOST_KEYS = 100_000


class Buckets:
    """A bucket for each key, filled at `per_s` up to `burst`; the longest unused makes room for a new one."""

    def __init__(
        self, per_s: float, burst: int, most: int = MOST_KEYS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_s, self._burst, self._most, self._clock = per_s, burst, most, clock
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def wait_s(self, key: Hashable) -> int:
        """Take one from the key's bucket; give 0, or the whole seconds after which there will be one."""
        if self._per_s <= 0:
            return 0
        now = self._clock()
        left, at = self._buckets.pop(key, (float(self._burst), now))
        left = min(float(self._burst), left + max(0.0, now - at) * self._per_s)
        allowed = left >= 1.0
        self._buckets[key] = (left - 1.0 if allowed else left, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1.0 - left) / self._per_s))
