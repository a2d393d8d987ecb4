"""The line of questions before the controller: who comes is taken in order, and as many at once as have come."""

from __future__ import annotations

import asyncio
from collections import deque

from tidegate.control.questions import Asked


class Line:
    """Questions that wait. One taker; any number may join."""

    def __init__(self) -> None:
        self._asked: deque[Asked] = deque()
        self._taker: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._asked)

    def join(self, asked: Asked) -> None:
        """Stand at the end."""
        self._asked.append(asked)
        if self._taker is not None:
            self._wake(self._taker)

    @staticmethod
    def _wake(taker: asyncio.Future[None]) -> None:
        if not taker.done():
            taker.set_result(None)

    async def take(self, most: int, wait_s: float) -> list[Asked]:
        """Take up to `most`, as soon as there is one; none if nobody has come within `wait_s`.

        While others come with every turn of the loop it waits for them: an append costs the same for one as for many,
        and after it answers went out, whoever had an answer asks again, one after the other.
        """
        if not self._asked:
            await self._somebody(wait_s)
        seen = 0
        while seen < len(self._asked) < most:
            seen = len(self._asked)
            await asyncio.sleep(0)
        return self.take_now(most)

    async def _somebody(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        self._taker = taker = loop.create_future()
        timer = loop.call_later(wait_s, self._wake, taker)
        try:
            await taker
        finally:
            timer.cancel()
            self._taker = None

    def take_now(self, most: int) -> list[Asked]:
        """Take up to `most` of those who are there."""
        return [self._asked.popleft() for _ in range(min(most, len(self._asked)))]
