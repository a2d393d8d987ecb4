"""From a public key to a device and back, in arrays: a dict of 8.5 million entries would take a gigabyte and more."""

from __future__ import annotations

import re
import struct

import numpy as np
import numpy.typing as npt

from tidegate.core.assign import mix64

_FULLEST = 0.7
_KEY = re.compile(r"[0-9a-f]{64}\Z")


class KeyIndex:
    """Each device's public key (32 bytes), and an open-addressing table of device numbers to find one by its key."""

    def __init__(self) -> None:
        self._used = 0
        self._slots = np.zeros(1024, dtype=np.int32)
        """A device's number plus 1; 0 is an empty slot."""
        self._keys = np.zeros((1024, 4), dtype=np.uint64)
        self._odd: dict[str, int] = {}
        self._odd_of: dict[int, str] = {}
        """Keys of another form than this version takes, as an old log may hold."""

    def __len__(self) -> int:
        return self._used + len(self._odd)

    def find(self, public_key: str) -> int | None:
        """Give the number of the device with this key, or None."""
        if public_key in self._odd or not _KEY.match(public_key):
            return self._odd.get(public_key)
        value = int(self._slots[self._slot(_words(public_key))])
        return value - 1 if value else None

    def key_of(self, number: int) -> str:
        """Give a device's key, or nothing for one without."""
        if number in self._odd_of:
            return self._odd_of[number]
        found = self._keys[number] if number < len(self._keys) else np.zeros(4, dtype=np.uint64)
        return found.astype(">u8").tobytes().hex() if found.any() else ""

    def add(self, public_key: str, number: int) -> None:
        """Keep a device's key; of several devices with one key the newest is found."""
        if not _KEY.match(public_key) or not int(public_key, 16):
            self._odd[public_key] = number
            self._odd_of[number] = public_key
            return
        if self._used >= _FULLEST * len(self._slots):
            self._grow()
        if number >= len(self._keys):
            longer = np.zeros((max(2 * len(self._keys), 1 << number.bit_length()), 4), dtype=np.uint64)
            longer[: len(self._keys)] = self._keys
            self._keys = longer
        words = _words(public_key)
        slot = self._slot(words)
        self._used += int(self._slots[slot] == 0)
        self._slots[slot] = number + 1
        self._keys[number] = words

    def add_many(self, first: int, keys: npt.NDArray[np.uint64]) -> None:
        """Keep the keys of devices that follow each other, each once; shape (n, 4), big-endian words."""
        end = first + len(keys)
        if end > len(self._keys):
            longer = np.zeros((max(2 * len(self._keys), 1 << (end - 1).bit_length()), 4), dtype=np.uint64)
            longer[: len(self._keys)] = self._keys
            self._keys = longer
        while self._used + len(keys) > _FULLEST * len(self._slots):
            self._grow()
        self._keys[first:end] = keys
        self._used += len(keys)
        self._place(self._home(keys), np.arange(first + 1, end + 1, dtype=np.int32))

    def known(self, keys: npt.NDArray[np.uint64]) -> bool:
        """Say whether any of these keys may be kept already, or stands twice among them; shape (n, 4)."""
        homes = self._home(keys)
        mixed = mix64(keys[:, 0]) ^ keys[:, 1]
        if len(np.unique(mixed)) < len(keys):
            return True
        slots = homes
        while len(slots):
            values = self._slots[slots]
            full = values > 0
            slots, keys, values = slots[full], keys[full], values[full]
            if len(slots) and bool((self._keys[values - 1] == keys).all(axis=1).any()):
                return True
            slots = (slots + 1) & (len(self._slots) - 1)
        return False

    def _home(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        mixed = mix64(keys[:, 0] ^ keys[:, 3])
        return (mixed & np.uint64(len(self._slots) - 1)).astype(np.int64)

    def _slot(self, words: tuple[int, ...]) -> int:
        """Find the key's slot, or the empty one in which it would stand."""
        mask = len(self._slots) - 1
        slot = mix64(words[0] ^ words[3]) & mask
        while value := int(self._slots[slot]):
            if tuple(self._keys[value - 1].tolist()) == words:
                break
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        """Double the table: all at once, in arrays, since one by one would take seconds."""
        values = self._slots[self._slots > 0]
        self._slots = np.zeros(2 * len(self._slots), dtype=np.int32)
        self._place(self._home(self._keys[values - 1]), values)

    def _place(self, slots: npt.NDArray[np.int64], values: npt.NDArray[np.int32]) -> None:
        """Put entries into their slots or the next empty ones; who loses a slot to another tries the next."""
        while len(slots):
            free = np.flatnonzero(self._slots[slots] == 0)
            _, first = np.unique(slots[free], return_index=True)
            winners = free[first]
            self._slots[slots[winners]] = values[winners]
            left = np.ones(len(slots), dtype=np.bool_)
            left[winners] = False
            slots, values = (slots[left] + 1) & (len(self._slots) - 1), values[left]


def _words(public_key: str) -> tuple[int, ...]:
    return struct.unpack(">4Q", bytes.fromhex(public_key))
