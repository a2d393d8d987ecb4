"""Devices whose ring closed before they had a lease: a byte each, since a whole fleet may be late at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tidegate.core.roster import Roster

_BLOCK = 1 << 18
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Overdue:
    """Who is late, by roster position, and how many of them have had no treated lease yet.

    Args:
        devices: the roster's size.
    """

    def __init__(self, devices: int) -> None:
        self._late = np.zeros(devices, dtype=np.bool_)
        self._any = False
        self.absent = 0

    def __bool__(self) -> bool:
        return self._any

    def __contains__(self, position: int) -> bool:
        return self._any and bool(self._late[position])

    def __iter__(self) -> Iterator[int]:
        return map(int, np.flatnonzero(self._late))

    def add(self, positions: Roster) -> None:
        """Note devices that have had no treated lease yet."""
        where = positions.array
        for at in range(0, len(where), _BLOCK):
            some = where[at : at + _BLOCK]
            self.absent += int(np.count_nonzero(~self._late[some]))
            self._late[some] = True
            self._any = True

    def leased(self, position: int) -> None:
        """Note a device's first treated lease."""
        self.absent -= position in self

    def leased_many(self, positions: Ints, first: Bools) -> None:
        """Note treated leases, each the first of its device where `first` says so. Arrays of shape (n,)."""
        if self._any:
            self.absent -= int(np.count_nonzero(self._late[positions] & first))
