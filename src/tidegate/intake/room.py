"""Room at a full port: whoever has held a place longest without asking for anything whole makes way for who comes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

GRACE_S = 1.0
"""So long nobody has to make way: a request over a bad line takes as long."""
SLOW_GRACE_S = 10.0
"""The same for an answer that is read too slowly, or a body that comes so."""
LOOK_EVERY_S = 0.5
"""All places are looked at no more often, whatever comes."""


class Seat(Protocol):
    """A place at a port that is taken."""

    @property
    def who(self) -> str | None:
        """The address, as its share counts; "" has none; None: the place is given up already."""

    def idle_since(self, now_s: float) -> float | None:
        """Say since when it has been held for nothing that is ours to do; None: it is in use, or too new to say."""

    def give_up(self) -> None:
        """Leave the place at once."""


class Room:
    """The places of one port.

    Args:
        seats: gives all that are taken.
        clock: seconds that never go back.
    """

    def __init__(self, seats: Callable[[], Iterable[Seat]], clock: Callable[[], float] = time.monotonic) -> None:
        self._seats, self._clock = seats, clock
        self._waiting: dict[str | None, deque[Seat]] = {}
        self._look_at_s = 0.0

    def make(self, who: str | None = None) -> bool:
        """Free a place of anybody, or of one address; say whether there was one to free."""
        now_s = self._clock()
        seat = self._oldest(who, now_s)
        if seat is None and now_s >= self._look_at_s:
            self._look(now_s)
            seat = self._oldest(who, now_s)
        if seat is None:
            return False
        seat.give_up()
        return True

    def _oldest(self, who: str | None, now_s: float) -> Seat | None:
        waiting = self._waiting.get(who)
        while waiting:
            seat = waiting.popleft()
            # Meanwhile it may have gone, or asked for something.
            if seat.who is not None and _may_go(seat, now_s) is not None:
                return seat
        return None

    def _look(self, now_s: float) -> None:
        self._look_at_s = now_s + LOOK_EVERY_S
        found = [(since_s, seat) for seat in self._seats() if (since_s := _may_go(seat, now_s)) is not None]
        found.sort(key=lambda pair: pair[0])
        self._waiting = {None: deque(seat for _, seat in found)}
        for _, seat in found:
            if seat.who:
                self._waiting.setdefault(seat.who, deque()).append(seat)


def _may_go(seat: Seat, now_s: float) -> float | None:
    since_s = seat.idle_since(now_s)
    return since_s if since_s is not None and now_s - since_s >= GRACE_S else None
