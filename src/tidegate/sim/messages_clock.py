"""Virtual time: what happens when, one thing after another, the same again for the same seed."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

Act = Callable[..., None]


class Timeline:
    """A queue of acts. Two acts of the same millisecond run in the order in which they were put in."""

    def __init__(self, start_ms: int) -> None:
        self.now_ms = start_ms
        self.done = 0
        self._queue: list[tuple[int, int, Act, tuple[Any, ...]]] = []
        self._count = 0

    def at(self, at_ms: int, act: Act, *args: Any) -> None:
        """Let `act(*args)` run at this time; a time that has passed means now."""
        self._count += 1
        heapq.heappush(self._queue, (max(at_ms, self.now_ms), self._count, act, args))

    def after(self, wait_s: float, act: Act, *args: Any) -> None:
        """Let `act(*args)` run `wait_s` seconds from now."""
        self.at(self.now_ms + round(wait_s * 1000), act, *args)

    def run(self, until_ms: int, ended: Callable[[], bool]) -> None:
        """Go on until nothing is left, `ended` says so, or the next act lies after `until_ms`; then it is that late."""
        queue = self._queue
        while queue and queue[0][0] <= until_ms:
            self.now_ms, _, act, args = heapq.heappop(queue)
            act(*args)
            self.done += 1
            if ended():
                return
        self.now_ms = max(self.now_ms, until_ms)
