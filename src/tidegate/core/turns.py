"""When a device that had to wait may ask again: its turn in the line for the places that a cap or window frees.

Places are freed at a known pace: each is held for about a soak. So whoever is refused is given the next free turn, and
asks about when a place is there for it, instead of asking again and again. Turns are advice and no event: the fold does
not hold them, a restart begins the lines anew, and whoever comes at another time is decided on as ever.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

HOLD_SHARE, HOLD_MORE_S = 1.2, 0.2
"""A place is held for a soak, a fifth more, and the time of a request."""
VAIN_STRETCH, KEPT_STRETCH, MOST_STRETCH = 1.1, 0.992, 8.0
"""A turn that came in vain makes its line slower, one that was kept makes it quicker. Where as much goes up as down
there are log(1/0.992) / log(1.1) = 0.08 vain ones for one that was kept: below a tenth, whatever the reason."""
KEPT_PART = 10
"""While somebody has a turn, newcomers leave a tenth of the places free, and one at least."""
SOON_S = 0.5
LONGEST_WAIT_S = 7 * 86_400
_TENTH_MS = 100


def hold_ms(soak_s: float) -> float:
    """Give how long one device holds a place, in milliseconds: from its lease to its confirmation, on the safe side."""
    return (HOLD_SHARE * soak_s + HOLD_MORE_S) * 1000


def turn_ms(newest_ms: Any, now_ms: Any, spacing_ms: Any, held_ms: Any, nth: Any = 0) -> Any:
    """Give the moment of the next free turn in a line, or of the nth after it. Numbers, or arrays of shape (lines,).

    Args:
        newest_ms: the newest turn that was given in this line; 0 for none.
        now_ms: the moment of the refusal. Every place was taken then, so none is free before `held_ms` have passed.
        spacing_ms: the pace at which places become free: `held_ms` by the places there are.
        held_ms: how long one place is held.
        nth: how many others are given a turn at this same moment before it.
    """
    return np.maximum(newest_ms + spacing_ms, now_ms + held_ms) + nth * spacing_ms


def kept_places(waiting: Any, places: Any) -> Any:
    """Give the free places that newcomers leave to those with a turn; few, since some of them will not come.

    Args:
        waiting: how many have a turn that is still to come; a number, or an array of shape (lines,).
        places: how many places of this kind there are.
    """
    return np.minimum(waiting, np.maximum(places // KEPT_PART, 1))


@dataclass(slots=True)
class Line:
    """One line: the newest turn that was given, how much slower than thought places become free, who is to come."""

    began_ms: int
    newest_ms: float = 0.0
    stretch: float = 1.0
    waiting: int = 0


class Turns:
    """The lines of one rollout, and each refused device's turn: 8 bytes a device, from the first refusal on.

    Args:
        devices: the roster's size.
        started_ms: when the rollout started.
    """

    def __init__(self, devices: int, started_ms: int) -> None:
        self._devices, self._started_ms = devices, started_ms
        self._due = np.zeros(0, dtype=np.uint32)
        """Position -> tenths of a second after the start at which its turn is; 0: it has none."""
        self._stands_in = np.zeros(0, dtype=np.int32)
        self._lines: list[Line] = []
        self._numbers: dict[Hashable, int] = {}

    def again_s(self, position: int, now_ms: int, line: Hashable, places: int, held_ms: float) -> float:
        """Give a refused device the seconds until it should ask again.

        One that comes before its turn keeps it, so that asking often gains nothing and costs nobody else.

        Args:
            position: the device's row in the roster.
            now_ms: the moment.
            line: what it waits for: a group's cap, the window.
            places: how many devices hold a place of this kind at a time.
            held_ms: for how long one of them does.
        """
        turn_at = self._turn_of(position)
        if turn_at > now_ms:
            return self._wait_s(turn_at, now_ms)
        found, number = self._line(line, now_ms)
        if turn_at:
            self._leave(position)
            found.stretch = min(found.stretch * VAIN_STRETCH, MOST_STRETCH)
        if found.newest_ms <= now_ms:
            found.waiting = 0  # whoever has not come by now does not come
        spacing_ms = held_ms * found.stretch / max(places, 1)
        found.newest_ms = float(turn_ms(found.newest_ms, now_ms, spacing_ms, held_ms))
        found.waiting += 1
        self._set(position, found.newest_ms, number)
        return self._wait_s(found.newest_ms, now_ms)

    def doubling_s(self, position: int, now_ms: int, line: Hashable, held_ms: float) -> float:
        """Give the wait for something whose end nobody knows: as long as it has lasted, and a place's time at least."""
        turn_at = self._turn_of(position)
        if turn_at > now_ms:
            return self._wait_s(turn_at, now_ms)
        found, number = self._line(line, now_ms)
        until_ms = now_ms + max(held_ms, now_ms - found.began_ms)
        self._set(position, until_ms, number)
        return self._wait_s(until_ms, now_ms)

    def keeps(self, position: int, now_ms: int, line: Hashable, places: int) -> int:
        """Count the free places of a line that this device must leave to others; none if it has a turn itself."""
        number = self._numbers.get(line)
        if number is None or self._turn_of(position):
            return 0
        found = self._lines[number]
        if not found.waiting or found.newest_ms <= now_ms:
            return 0
        return int(kept_places(found.waiting, places))

    def kept(self, position: int) -> None:
        """Note that a device has its lease: if it had a turn, its line goes a little quicker."""
        if self._turn_of(position):
            line = self._leave(position)
            line.stretch = max(1.0, line.stretch * KEPT_STRETCH)
            self._due[position] = 0

    def _leave(self, position: int) -> Line:
        line = self._lines[int(self._stands_in[position])]
        line.waiting = max(0, line.waiting - 1)
        return line

    def _line(self, name: Hashable, now_ms: int) -> tuple[Line, int]:
        number = self._numbers.setdefault(name, len(self._lines))
        if number == len(self._lines):
            self._lines.append(Line(now_ms))
        return self._lines[number], number

    def _turn_of(self, position: int) -> int:
        tenths = int(self._due[position]) if position < len(self._due) else 0
        return self._started_ms + tenths * _TENTH_MS if tenths else 0

    def _set(self, position: int, at_ms: float, line: int) -> None:
        if not len(self._due):
            self._due = np.zeros(self._devices, dtype=np.uint32)
            self._stands_in = np.zeros(self._devices, dtype=np.int32)
        self._due[position] = max(1, min(int((at_ms - self._started_ms) / _TENTH_MS), (1 << 32) - 1))
        self._stands_in[position] = line

    @staticmethod
    def _wait_s(at_ms: float, now_ms: int) -> float:
        return min(max((at_ms - now_ms) / 1000, SOON_S), LONGEST_WAIT_S)
