"""Pending leases by when they were given: how many have run out of time is known without going through all devices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_SPARSE, _FEW = 4, 65_536
"""A table of slots by moment is kept while it has at most four places for each slot, and a few more."""


class Waiting:
    """Pending leases of one arm of one ring, counted by the millisecond at which they were given.

    Looks come in the order of time; one that goes back counts anew and is slower. Leases mostly come in that order
    too: one that does not is put in between, at the price of a copy.
    """

    def __init__(self) -> None:
        self.pending = 0
        self._ms: Ints = np.zeros(16, dtype=np.int64)
        self._number: Ints = np.zeros(16, dtype=np.int64)
        self._used = 0
        self._passed = 0
        """Slots that lie at or before the newest look."""
        self._until_ms = self._silent = 0
        self._slot_at: npt.NDArray[np.int32] | None = None
        """While leases come thick and fast: milliseconds after the first slot -> slot, so that nothing is searched."""

    def add(self, leased_ms: int, number: int = 1) -> None:
        """Count a lease in, or (-1) out: it has been answered, or a newer one took its place."""
        self.pending += number
        used = self._used
        at = used - 1 if used and self._ms[used - 1] <= leased_ms else int(np.searchsorted(self._ms[:used], leased_ms))
        if at < 0 or at >= used or self._ms[at] != leased_ms:
            self._make_slots(np.array([leased_ms], dtype=np.int64))
            at = int(np.searchsorted(self._ms[: self._used], leased_ms))
        self._number[at] += number
        if leased_ms <= self._until_ms:
            self._silent += number

    def add_many(self, leased_ms: Ints, number: int = 1) -> None:
        """Count leases in or (-1) out, by when they were given: int64, shape (n,), in any order."""
        if not len(leased_ms):
            return
        self.pending += number * len(leased_ms)
        if number > 0:
            ordered = np.sort(leased_ms) if bool((leased_ms[1:] < leased_ms[:-1]).any()) else leased_ms
            self._make_slots(ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])])
        np.add.at(self._number, self._slots(leased_ms), number)
        self._silent += number * int(np.count_nonzero(leased_ms <= self._until_ms))

    def _slots(self, leased_ms: Ints) -> Ints | npt.NDArray[np.int32]:
        """Give the slots of moments that have one."""
        known = self._ms[: self._used]
        if self._slot_at is None:
            span = int(known[-1] - known[0]) + 1
            if span > _SPARSE * len(known) + _FEW:
                return np.searchsorted(known, leased_ms)
            self._slot_at = np.zeros(2 * span, dtype=np.int32)
            self._slot_at[known - known[0]] = np.arange(len(known), dtype=np.int32)
        return self._slot_at[leased_ms - known[0]]

    def _make_slots(self, wanted: Ints) -> None:
        """Make room for moments that have no slot yet; `wanted` is sorted and has each once."""
        known = self._ms[: self._used]
        at = np.searchsorted(known, wanted)
        if len(known):
            wanted = wanted[(at == len(known)) | (known[np.minimum(at, len(known) - 1)] != wanted)]
        if not len(wanted):
            return
        if len(known) and wanted[0] <= known[-1]:
            places = np.searchsorted(known, wanted)
            ms = np.insert(known, places, wanted)
            number = np.insert(self._number[: self._used], places, 0)
            self._set(ms, number)
        else:
            self._reserve(len(wanted))
            self._ms[self._used : self._used + len(wanted)] = wanted
            self._number[self._used : self._used + len(wanted)] = 0
            self._used += len(wanted)
            self._note(wanted)
        self._passed = int(np.searchsorted(self._ms[: self._used], self._until_ms, side="right"))

    def _note(self, fresh: Ints) -> None:
        """Take the newest slots into the table, or drop it if it does not reach so far."""
        if self._slot_at is None:
            return
        places = fresh - self._ms[0]
        if places[-1] >= len(self._slot_at):
            self._slot_at = None
        else:
            self._slot_at[places] = np.arange(self._used - len(fresh), self._used, dtype=np.int32)

    def _reserve(self, more: int) -> None:
        """Drop slots that nobody waits in, and grow only if that is not enough."""
        if self._used + more <= len(self._ms):
            return
        kept = self._number[: self._used] > 0
        ms, number = self._ms[: self._used][kept], self._number[: self._used][kept]
        self._set(ms, number, 2 * (len(ms) + more) + 16)

    def _set(self, ms: Ints, number: Ints, size: int = 0) -> None:
        size = max(size, len(ms) + 16)
        self._ms, self._number = np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64)
        self._ms[: len(ms)], self._number[: len(ms)] = ms, number
        self._used = len(ms)
        self._slot_at = None
        self._passed = int(np.searchsorted(ms, self._until_ms, side="right"))

    def silent(self, until_ms: int) -> int:
        """Count the pending leases that were given at `until_ms` or before."""
        if until_ms == self._until_ms:
            return self._silent
        end = int(np.searchsorted(self._ms[: self._used], until_ms, side="right"))
        if until_ms < self._until_ms:
            return int(self._number[:end].sum())
        self._silent += int(self._number[self._passed : end].sum())
        self._passed, self._until_ms = end, until_ms
        return self._silent
