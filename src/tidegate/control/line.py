"""The line of questions before the controller: who comes is taken in order, and as many at once as have come."""

from __future__ import annotations

import asyncio
from collections import deque

from tidegate.control.questions import Asked


class Line:
    """Questions that wait. One taker; any number may join. Its length is for how many they ask (`Asked.count`)."""

    def __init__(self) -> None:
        self._asked: deque[Asked] = deque()
        self._count = 0
        self._taker: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return self._count

    def join(self, asked: Asked) -> None:
        """Stand at the end."""
        self._count += asked.count
        self._asked.append(asked)
        if self._taker is not None:
            self._wake(self._taker)

    @staticmethod
    def _wake(taker: asyncio.Future[None]) -> None:
        if not taker.done():
            taker.set_result(None)

    async def take(self, most: int, wait_s: float) -> list[Asked]:
        """Take those of up to `most`, as soon as there is one; none if nobody has come within `wait_s`.

        While others come with every turn of the loop it waits for them: an append costs the same for one as for many,
        and after it answers went out, whoever had an answer asks again, one after the other.
        """
        if not self._asked:
            await self._somebody(wait_s)
        seen = 0
        while seen < len(self) < most:
            seen = len(self)
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
        """Take those of up to `most` who are there, and one question in any case if there is one."""
        taken: list[Asked] = []
        room = most
        while self._asked and (not taken or self._asked[0].count <= room):
            taken.append(self._asked.popleft())
            room -= taken[-1].count
        self._count -= most - room
        return taken
