"""A long sorted list that takes others in, a slice at a time: nobody waits until millions of entries are moved."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tidegate.control.scratch import relax, room

Words = npt.NDArray[np.uint64]
SLICE = 1 << 18
"""So many entries of each list are moved at once, which takes a few milliseconds."""


def merged(one: Words, other: Words, into: Words) -> None:
    """Write two sorted lists as one; `into` has room for both."""
    places = np.searchsorted(one, other) + np.arange(len(other))
    others = np.ones(len(into), dtype=np.bool_)
    others[places] = False
    into[places], into[others] = other, one


class SortedList:
    """One list, or while it takes another in three: what is merged already, and what is left of each of the two.

    Entries are uint64. No entry of what is left is smaller than one that is merged.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._old = self._new = self._both = np.empty(0, dtype=np.uint64)
        self._old_done = self._new_done = 0
        """So many of each are in the list of both."""

    def __len__(self) -> int:
        return len(self._old) + len(self._new)

    @property
    def busy(self) -> bool:
        """Whether it still takes a list in."""
        return len(self._new) > 0

    def parts(self) -> list[Words]:
        """Give all entries, each in one of these sorted lists; a later one first, if entries came in their order.

        For entries of one kind (the same upper bits), which stand for what came later the larger they are.
        """
        done = self._old_done + self._new_done
        found = (self._new[self._new_done :], self._old[self._old_done :], self._both[:done])
        return [each for each in found if len(each)]

    def take(self, entries: Words, directory: str) -> None:
        """Begin to take in another sorted list, all of whose entries came later; it must not be busy, nor change it."""
        assert not self.busy, "one at a time"
        if not len(self._old):
            self._old = entries
            return
        self._new, self._both = entries, room((len(self._old) + len(entries),), np.uint64, directory)

    def step(self) -> None:
        """Move some more, if there is any to move."""
        if not self.busy:
            return
        old_from, new_from = self._old_done, self._new_done
        old, new = self._old[old_from : old_from + SLICE], self._new[new_from : new_from + SLICE]
        # All of one slice, and of the other what is smaller than what comes behind it.
        old_end, new_end = old_from + len(old), new_from + len(new)
        if old_end < len(self._old):
            new = new[: np.searchsorted(new, self._old[old_end])]
        if new_from + len(new) == new_end < len(self._new):
            old = old[: np.searchsorted(old, self._new[new_end])]
        at = old_from + new_from
        merged(old, new, self._both[at : at + len(old) + len(new)])
        self._old_done, self._new_done = old_from + len(old), new_from + len(new)
        if self._old_done + self._new_done == len(self):
            self._old, self._old_done, self._new_done = self._both, 0, 0
            self._new = self._both = np.empty(0, dtype=np.uint64)
        self.relax()

    def relax(self) -> None:
        """Let go of the memory of what lies in files."""
        for column in (self._old, self._new, self._both):
            relax(column)

    def rows_in_files(self) -> dict[int, int]:
        """Give how many rows are written of each column, by the column's `id`."""
        done = self._old_done + self._new_done
        return {id(self._both): done, id(self._old): len(self._old), id(self._new): len(self._new)}
