"""From a public key to a device and back, in arrays: a dict of 8.5 million entries would take a gigabyte and more."""

from __future__ import annotations

import re
import struct

import numpy as np
import numpy.typing as npt

from tidegate.control.scratch import longer, relax, room
from tidegate.control.sorted_list import SortedList, merged
from tidegate.core.assign import mix64

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
MOST_NOTED = 1024
"""So many of the newest keys stand in a dict, until they are put in order with others."""
LEAST_FRESH, FRESH_SHARE = 65_536, 16
"""So many that are in order, or this part of all others if that is more, are put in with the rest."""
_BLOCK = 1 << 16
_KEY = re.compile(r"[0-9a-f]{64}\Z")
_LOW = np.uint64(0xFFFFFFFF)
_NOBODY = np.uint64(0xFFFFFFFFFFFFFFFF)
"""Stands at the end of the list for each device without a key."""


class KeyIndex:
    """Each device's public key (32 bytes), and a sorted list of hashes to find a device by its key, both in files.

    An entry of the list is 32 bits of the key's hash and the device's number. It is made when somebody asks, or
    `prepare` is called after a replay of millions. Newer ones wait in a shorter list, and the newest in a dict, so that
    a question moves a few entries of millions at most: of those that wait, and a slice of the others.
    """

    def __init__(self, directory: str = "") -> None:
        """Begin without keys; they lie in files in `directory`, if there is one."""
        self.directory = directory
        self._keys: Words = np.zeros((1024, 4), dtype=np.uint64)
        self._held = 0
        """Devices with a lower number may have a key."""
        self._sorted = SortedList()
        self._fresh: Words = np.empty(0, dtype=np.uint64)
        """Entries of those that came after all in the sorted list, in order, too."""
        self._listed = 0
        """Devices with a lower number stand in one of these lists; those from here on in the dict, up to `_noted`."""
        self._recent: dict[bytes, int] = {}
        self._noted = 0
        self._odd: dict[str, int] = {}
        self._odd_of: dict[int, str] = {}
        """Keys of another form than this version takes, as an old log may hold."""

    def find(self, public_key: str) -> int | None:
        """Give the number of the device with this key, or None; of several devices with one key the newest."""
        if public_key in self._odd or not _KEY.match(public_key):
            return self._odd.get(public_key)
        self._note()
        words = np.array(_words(public_key), dtype=np.uint64)
        if (number := self._recent.get(words.tobytes())) is not None:
            return number
        start = _hashes(words.reshape(1, 4))
        for entries in (self._fresh, *self._sorted.parts()):
            first, end = np.searchsorted(entries, np.concatenate([start, start | _LOW]), side="left").tolist()
            for entry in entries[first : end + 1][::-1].tolist():
                number = entry & 0xFFFFFFFF
                if number < self._listed and (self._keys[number] == words).all():
                    return number
        return None

    def find_many(self, keys: Words) -> Ints:
        """Give the numbers of the devices with these keys, as `find` does for each; -1 for none. Shape (n, 4), (n,)."""
        self._list()
        found = np.full(len(keys), self._odd.get("0" * 64, -1), dtype=np.int64)
        wanted = keys.any(axis=1)
        found[wanted] = -1
        order = np.argsort(_hashes(keys))  # neighbours in a long list lie in one page of memory
        for entries in (self._fresh, *self._sorted.parts()):
            left = order[(wanted & (found < 0))[order]]
            found[left] = self._among(entries, keys[left])
        return found

    def _among(self, entries: Words, keys: Words) -> Ints:
        """Look keys up in a sorted list of entries."""
        found = np.full(len(keys), -1, dtype=np.int64)
        start = _hashes(keys)
        first, end = np.searchsorted(entries, start), np.searchsorted(entries, start | _LOW, side="right")
        left = np.flatnonzero(end > first)
        place = end[left] - 1  # the newest of those whose hashes are alike; nearly always it is the only one
        while len(left):
            entry = entries[place]
            number = (entry & _LOW).astype(np.int64)
            same = number < self._held  # of the list, those without a key stand for no number that there is
            same[same] = (self._keys[number[same]] == keys[left[same]]).all(axis=1)
            found[left[same]] = number[same]
            more = ~same & (place > first[left])
            left, place = left[more], place[more] - 1
        return found

    def key_of(self, number: int) -> str:
        """Give a device's key, or nothing for one without."""
        if number in self._odd_of:
            return self._odd_of[number]
        found = self._keys[number] if number < self._held else np.zeros(4, dtype=np.uint64)
        return found.astype(">u8").tobytes().hex() if found.any() else ""

    def add(self, public_key: str, number: int) -> None:
        """Keep a device's key; numbers come in order, with gaps for devices without."""
        if not _KEY.match(public_key) or not int(public_key, 16):
            self._odd[public_key] = number
            self._odd_of[number] = public_key
            return
        self.add_many(number, np.array([_words(public_key)], dtype=np.uint64))

    def add_many(self, first: int, keys: Words) -> None:
        """Keep the keys of devices that follow each other; shape (n, 4), big-endian words, zeros for none."""
        end = first + len(keys)
        self._reach(end)
        self._keys[first:end] = keys
        self._held = end

    def prepare(self) -> None:
        """Put in order all that was added, as the next question would: of millions that takes a second."""
        if self._held - self._listed > MOST_NOTED:
            self._list()

    def relax(self) -> None:
        """Let go of the memory of what lies in files."""
        for column in (self._keys, self._fresh):
            relax(column)
        self._sorted.relax()

    def rows_in_files(self) -> dict[int, int]:
        """Give how many rows are written of each column, by the column's `id`."""
        return {id(self._keys): self._held, id(self._fresh): len(self._fresh), **self._sorted.rows_in_files()}

    def _reach(self, rows: int) -> None:
        if rows > len(self._keys):
            self._keys = longer(self._keys, max(len(self._keys) * 5 // 4, rows), self.directory)

    def _note(self) -> None:
        """Make what was added findable: a few in the dict, many in a list."""
        if self._held - self._listed > MOST_NOTED:
            self._list()
        for number, words in enumerate(self._keys[self._noted : self._held], self._noted):
            if words.any():
                self._recent[words.tobytes()] = number
        self._noted = self._held

    def _list(self) -> None:
        """Put all in order that was added, and move some of what is in order on into the long list."""
        if self._held > self._listed:
            self._put_in_order()
        most = max(LEAST_FRESH, len(self._sorted) // FRESH_SHARE)
        self._sorted.step()
        while self._sorted.busy and len(self._fresh) > 2 * most:  # so many came between two questions
            self._sorted.step()
        if len(self._fresh) > most and not self._sorted.busy:
            self._sorted.take(self._fresh, self.directory)
            self._fresh = np.empty(0, dtype=np.uint64)

    def _put_in_order(self) -> None:
        added: Words = room((self._held - self._listed,), np.uint64, self.directory)
        for at in range(self._listed, self._held, _BLOCK):
            keys = self._keys[at : min(at + _BLOCK, self._held)]
            added[at - self._listed :][: len(keys)] = _entries(keys, at)
            relax(self._keys)
        added.sort()
        if len(self._fresh):
            both = np.empty(len(self._fresh) + len(added), dtype=np.uint64)
            merged(self._fresh, added, both)
            added = both
        self._fresh = added
        self._listed = self._noted = self._held
        self._recent = {}


def _entries(keys: Words, first: int) -> Words:
    """Give the list's entries, not sorted, for the keys of devices from number `first` on; shape (n,)."""
    entries = _hashes(keys) | np.arange(first, first + len(keys), dtype=np.uint64)
    return np.where(keys.any(axis=1), entries, _NOBODY)


def _hashes(keys: Words) -> Words:
    """Give the upper half of an entry for each key; shape (n,)."""
    return mix64(keys[:, 0] ^ keys[:, 3]) & ~_LOW


def _words(public_key: str) -> tuple[int, ...]:
    return struct.unpack(">4Q", bytes.fromhex(public_key))
