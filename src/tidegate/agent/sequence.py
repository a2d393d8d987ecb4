"""Numbers that this device uses once and never again, also across a power cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tidegate.core.wire import canonical
from tidegate.trust.durable import write_durably

MOST = 10**17
"""Numbers above this are taken for a lie: a device that followed one could never count on."""
BLOCK = 1000
"""Numbers reserved with one write: a restart leaves a gap of at most this."""


class Sequence:
    """Counts up for ever. The end of a block is on disk before its first number is given out.

    Args:
        path: the file; without one, or with a damaged one, numbers go on from the milliseconds of the wall clock,
            which no device counts up to by itself: repeating a number would be worse than a gap.
        wall: gives seconds since 1970.
    """

    def __init__(self, path: Path, wall: Callable[[], float]) -> None:
        self._path = path
        self._next = self._end = self._floor(wall)

    def take(self) -> int:
        """Give the next number. Raises DiskFull if a new block cannot be reserved."""
        if self._next >= self._end:
            end = self._next + BLOCK
            write_durably(self._path, canonical({"reserved": end}), mode=0o600)
            self._end = end
        self._next += 1
        return self._next - 1

    def go_past(self, last: int) -> None:
        """Go on above a number that the server has seen: this device lost its count, and its clock stood earlier."""
        if MOST > last >= self._next:
            self._next = self._end = last + 1

    def _floor(self, wall: Callable[[], float]) -> int:
        try:
            reserved = json.loads(self._path.read_bytes())["reserved"]
            if type(reserved) is int and reserved > 0:
                return reserved
        except (OSError, ValueError, LookupError, TypeError):
            pass
        return max(1, int(wall() * 1000))
