"""The controller's line to its log: appends with an eye on the time, and a look at whether the log is still its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from tidegate.log.events import Event
from tidegate.log.port import Fenced, Log, LogError

LATE_S = 3.0
"""While an append has been under way for so long, whoever comes is turned away at once."""
PATIENCE_S = 8.0
"""Whoever waits is told then that it is not known; devices do not wait much longer."""
LOOK_EVERY_S = 2.0
AGAIN_S = 0.5
LONGEST_WAIT_S = 16.0
"""A log that refuses again right after it seemed to take events is left alone for longer each time."""
T = TypeVar("T")


class Appending:
    """One append at a time, in a thread of its own."""

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._began: float | None = None
        self._sure_at = clock()
        self.away = False
        """Whether the log did not answer when it was last asked, or takes nothing."""
        self._refusals = 0

    @property
    def late(self) -> bool:
        """Whether an append takes so long that more should not be begun."""
        return self.away or (self._began is not None and self._clock() - self._began >= LATE_S)

    async def append(self, events: Sequence[Event], impatient: Callable[[], None]) -> int:
        """Append; give the number of the last event. `impatient` is called while it takes longer than people wait.

        Raises:
            LogError, Fenced: as the log does.
        """
        self._began = self._clock()
        work = asyncio.ensure_future(asyncio.to_thread(self._log.append, events))
        try:
            while not (await asyncio.wait({work}, timeout=PATIENCE_S))[0]:
                impatient()
            last, self.away, self._refusals = work.result(), False, 0
        except LogError:
            self.away = True
            raise
        finally:
            self._began, self._sure_at = None, self._clock()
        return last

    async def until_it_answers(self, ask: Callable[[], T], waiting: Callable[[str], None]) -> T:
        """Ask something of the log until it answers; `waiting` is called with what it says instead, again and again.

        Raises:
            Fenced: if another writer has taken over.
        """
        while True:
            try:
                return await asyncio.to_thread(ask)
            except Fenced:
                raise
            except LogError as error:
                self.away = True
                waiting(str(error))
                await asyncio.sleep(AGAIN_S)

    async def until_it_takes(self, waiting: Callable[[str], None]) -> None:
        """After an append that failed: wait until the log would take it. Raises Fenced."""
        self._refusals += 1
        until = self._clock() + (min(AGAIN_S * 2 ** (self._refusals - 2), LONGEST_WAIT_S) if self._refusals > 1 else 0)
        while self._clock() < until:
            self.away = True
            waiting("")
            await asyncio.sleep(AGAIN_S)
        await self.until_it_answers(self._log.check, waiting)
        self.away = False

    async def look(self) -> str | None:
        """See after a time without appends whether the log is there and nobody else has taken it over.

        A controller that was paused learns so that it has been replaced, before anybody asks it anything.

        Returns:
            What is wrong, "" if that has passed, or None if there is nothing new.

        Raises:
            Fenced: if another writer has taken over.
        """
        if self._clock() - self._sure_at < LOOK_EVERY_S:
            return None
        try:
            await asyncio.to_thread(self._log.check)
        except Fenced:
            raise
        except LogError as error:
            self.away = True
            return str(error)
        finally:
            self._sure_at = self._clock()
        passed, self.away = self.away, False
        return "" if passed else None
