"""All devices in columns, as narrow as they can be: some 20 bytes each in memory, and 64 that may lie in files.

A device is looked at through a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from tidegate.control.device_row import DeviceRow, Interned, Reverted
from tidegate.control.key_index import KeyIndex
from tidegate.control.scratch import longer, relax
from tidegate.core.assign import device_key
from tidegate.core.model import Device
from tidegate.core.roster import Roster
from tidegate.core.widths import wide_enough
from tidegate.log.events import Enrolled

Ints = npt.NDArray[np.int64]
Column = npt.NDArray[Any]
Bools = npt.NDArray[np.bool_]
FIRST_ROWS = 1024
MOST_ASKED = 64


class Fleet(Sequence[DeviceRow]):
    """Every device that was ever enrolled, by index. Columns grow by doubling; what was never written costs nothing."""

    def __init__(self, directory: str = "") -> None:
        """Begin without devices; columns that are seldom looked at go into files in `directory`, if there is one."""
        self._count = 0
        self._directory = directory
        self.ids = np.zeros((FIRST_ROWS, 16), dtype=np.uint8)
        self.keys = np.zeros(FIRST_ROWS, dtype=np.uint64)
        self.label_set: Column = np.zeros(FIRST_ROWS, dtype=np.uint8)
        self.fact_set: Column = np.zeros(FIRST_ROWS, dtype=np.uint8)
        self.token_set: Column = np.zeros(FIRST_ROWS, dtype=np.uint8)
        self.enrolled_ms = np.zeros(FIRST_ROWS, dtype=np.int64)
        self.last_seq: Column = np.zeros(FIRST_ROWS, dtype=np.uint16)
        self.last_heard_s = np.zeros(FIRST_ROWS, dtype=np.uint32)
        self.installed: dict[str, Column] = {}
        """Component -> number of the digest that each device runs, plus 1; 0 for none that is known."""
        self.labels, self.facts, self.tokens, self.digests = Interned(), Interned(), Interned(), Interned()
        self._by_key = KeyIndex(directory)
        self._reverted: dict[int, Reverted] = {}
        self._asked: dict[tuple[tuple[str, str], ...], Bools] = {}

    # --- looking ---

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> DeviceRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[DeviceRow]: ...
    def __getitem__(self, index: int | slice) -> DeviceRow | list[DeviceRow]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        row = index % self._count
        return DeviceRow(
            Device(row, self.device_id(row), int(self.keys[row]), self.labels_of(row)),
            self.public_key(row),
            int(self.enrolled_ms[row]),
            self.facts.values[self.fact_set[row]],
            {c: self.digests.values[column[row] - 1] for c, column in self.installed.items() if column[row]},
            int(self.last_seq[row]),
            int(self.last_heard_s[row]) * 1000,
            self._reverted.get(row),
            self.token_of(row),
        )

    def __iter__(self) -> Iterator[DeviceRow]:
        return (self[row] for row in range(self._count))

    def is_device(self, index: int, device_id: str) -> bool:
        """Say whether this id is this device's, by its 64-bit key; the caller has verified that both go together."""
        return index < self._count and self.keys.item(index) == device_key(device_id)

    def keys_of(self, indices: Sequence[int] | npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
        """Give devices' keys, uint64, shape (n,); of all from the first on without a copy, since keys never change."""
        array = indices.array if isinstance(indices, Roster) else np.asarray(indices)
        count = len(array)
        if count and array[0] == 0 and array[-1] == count - 1 and bool((array[1:] > array[:-1]).all()):
            return self.keys[:count]
        return self.keys[array]

    def device_id(self, index: int) -> str:
        """Give a device's id."""
        return self.ids[index].tobytes().hex()

    def public_key(self, index: int) -> str:
        """Give the key that a device enrolled with, or nothing."""
        return self._by_key.key_of(index)

    def by_id(self, device_id: str) -> int | None:
        """Find a device by its whole id."""
        found = self.starting_with(device_id, 1) if len(device_id) == 32 else []
        return found[0] if found else None

    def labels_of(self, index: int) -> dict[str, str]:
        """Give a device's labels; many devices share the one dict, so nobody may change it."""
        return self.labels.values[self.label_set[index]]

    def token_of(self, index: int) -> str:
        """Give the number of the token that a device was enrolled with."""
        return self.tokens.values[self.token_set[index]]

    def by_public_key(self, public_key: str) -> int | None:
        """Find the device that was enrolled with a public key."""
        return self._by_key.find(public_key)

    def by_public_keys(self, public_keys: npt.NDArray[np.uint8]) -> Ints:
        """Find the devices that were enrolled with public keys, shape (n, 32); -1 where there is none. Shape (n,)."""
        words = np.ascontiguousarray(public_keys).view(">u8").astype(np.uint64)
        return self._by_key.find_many(words)

    def starting_with(self, digits: str, most: int = 2) -> list[int]:
        """Find at most `most` devices whose id begins with hexadecimal digits, by a look at all of them."""
        ids = self.ids[: self._count]
        found = np.ones(self._count, dtype=np.bool_)
        for place in range(0, min(len(digits), 32), 2):
            digit = digits[place : place + 2]
            try:
                value = int(digit.ljust(2, "0"), 16)
            except ValueError:
                return []
            column = ids[:, place // 2]
            found &= column == value if len(digit) == 2 else column >> 4 == value >> 4
            if place == 2:  # few are left: look at these alone
                some = np.flatnonzero(found)
                return [int(row) for row in some if self.device_id(int(row)).startswith(digits)][:most]
        return [int(row) for row in np.flatnonzero(found)[:most]]

    def labelled(self, wanted: Mapping[str, str]) -> Bools:
        """Say for each device whether it has all of these labels. Shape (devices,)."""
        if not wanted:
            return np.ones(self._count, dtype=np.bool_)
        numbers = self.label_set[: self._count]
        return self._fitting(wanted)[numbers]

    def _fitting(self, wanted: Mapping[str, str]) -> Bools:
        """Say for each set of labels whether it has all of these; what was asked lately is extended, not asked anew."""
        key = tuple(sorted(wanted.items()))
        known = self._asked.pop(key, np.zeros(0, dtype=np.bool_))
        pairs = wanted.items()
        fresh = [pairs <= labels.items() for labels in self.labels.values[len(known) :]]
        known = self._asked[key] = np.concatenate([known, np.array(fresh, dtype=np.bool_)])
        if len(self._asked) > MOST_ASKED:
            del self._asked[next(iter(self._asked))]
        return known

    def kinds(self, indices: npt.NDArray[Any]) -> list[tuple[dict[str, str], int]]:
        """Give the sets of labels that these devices have, each with how many of them have it."""
        numbers, counts = np.unique(self.label_set[indices], return_counts=True)
        return [(self.labels.values[n], k) for n, k in zip(numbers.tolist(), counts.tolist(), strict=True)]

    def runs(self, component: str, digest: str) -> Bools:
        """Say for each device whether it runs this release, as far as is known. Shape (devices,)."""
        column = self.installed.get(component)
        if column is None:
            return np.zeros(self._count, dtype=np.bool_)
        return column[: self._count] == self.digests.number(digest) + 1

    # --- folding ---

    def add(self, event: Enrolled) -> None:
        """Take up a device; indices come in order, each once."""
        index = event.index
        self._reach(index + 1)
        self._count = index + 1
        self.ids[index] = np.frombuffer(bytes.fromhex(event.device_id), dtype=np.uint8)
        self.keys[index] = device_key(event.device_id)
        self.describe(slice(index, index + 1), "label_set", self.labels.number(dict(event.labels)))
        self.describe(slice(index, index + 1), "fact_set", self.facts.number(dict(event.facts)))
        self.describe(slice(index, index + 1), "token_set", self.tokens.number(event.token_id))
        self.enrolled_ms[index] = event.at_ms
        if event.public_key:
            self._by_key.add(event.public_key, index)

    def add_many(
        self, first: int, ids: npt.NDArray[np.uint8], public_keys: npt.NDArray[np.uint64], has_key: Bools, at_ms: Ints
    ) -> None:
        """Take up devices from index `first` on; `ids` has shape (n, 16), `public_keys` (n, 4), big-endian words.

        Labels, facts and tokens are set by the caller.
        """
        end = first + len(ids)
        self._reach(end)
        self._count = end
        self.ids[first:end] = ids
        whole: list[bytes] = np.ascontiguousarray(ids).view("V16").ravel().tolist()
        digests = b"".join([hashlib.sha256(device_id).digest() for device_id in whole])
        self.keys[first:end] = np.frombuffer(digests, dtype=">u8").reshape(-1, 4)[:, 0]
        self.enrolled_ms[first:end] = at_ms
        self._by_key.add_many(first, np.where(has_key[:, None], public_keys, np.uint64(0)))
        for place in np.flatnonzero(has_key & ~public_keys.any(axis=1)).tolist():
            self._by_key.add("0" * 64, first + place)

    def describe(self, rows: Any, column: str, numbers: Any) -> None:
        """Set `label_set`, `fact_set` or `token_set` of some rows to numbers of interned values."""
        found = wide_enough(getattr(self, column), int(np.max(numbers)))
        found[rows] = numbers
        setattr(self, column, found)

    def relabel(self, index: int, labels: dict[str, str]) -> None:
        """Give a device a whole new set of labels."""
        self.describe(index, "label_set", self.labels.number(labels))

    def relabel_many(
        self, indices: npt.NDArray[Any], sets: Sequence[Mapping[str, str | None]], numbers: Ints, *, replace: bool
    ) -> None:
        """Give devices labels: of each the set `numbers` names; None takes a label away. None comes twice. Shape (n,).

        Labels that a set does not name stay, or (`replace`) go.
        """
        before = self.label_set[indices].astype(np.int64) if not replace else np.zeros(len(indices), dtype=np.int64)
        pairs, places = np.unique(before * max(len(sets), 1) + numbers, return_inverse=True)
        made = np.empty(len(pairs), dtype=np.int32)
        for place, pair in enumerate(pairs.tolist()):
            old, new = divmod(pair, max(len(sets), 1))
            merged = {**({} if replace else self.labels.values[old]), **sets[new]}
            made[place] = self.labels.number({name: value for name, value in merged.items() if value is not None})
        if len(made):
            self.describe(indices, "label_set", made[places])

    def heard(self, index: int, seq: int, at_ms: int) -> None:
        """Note that a device has spoken."""
        self.last_seq = wide_enough(self.last_seq, seq)
        self.last_seq[index] = max(int(self.last_seq[index]), seq)
        self.last_heard_s[index] = at_ms // 1000

    def heard_many(self, indices: Ints, seq: Ints, at_ms: Ints) -> None:
        """Note that devices have spoken; none comes twice. Shape (n,)."""
        self.last_seq = wide_enough(self.last_seq, int(seq.max()))
        self.last_seq[indices] = np.maximum(self.last_seq[indices], seq.astype(self.last_seq.dtype))
        self.last_heard_s[indices] = at_ms // 1000

    def run(self, index: int, component: str, digest: str | None) -> None:
        """Note what a device runs of a component."""
        number = 0 if digest is None else self.digests.number(digest) + 1
        self._column(component, number)[index] = number

    def run_many(self, indices: Ints, component: str, digest: str | None) -> None:
        """Note that devices run the same release, or none. Shape (n,)."""
        number = 0 if digest is None else self.digests.number(digest) + 1
        self._column(component, number)[indices] = number

    def said(self, index: int, reverted: Reverted | None) -> None:
        """Keep what a device said of its going back; a later report of another kind takes its place."""
        if reverted is not None:
            self._reverted[index] = reverted
        else:
            self._reverted.pop(index, None)

    @property
    def anyone_reverted(self) -> bool:
        """Whether something is kept by `said`."""
        return bool(self._reverted)

    def prepare(self) -> None:
        """Make all findable by their keys now, after a long fold: whoever asks first would wait for it otherwise."""
        self._by_key.prepare()

    def relax(self) -> None:
        """Let go of the memory of what lies in files, after a long fold."""
        for column in (self.ids, self.enrolled_ms):
            relax(column)
        self._by_key.relax()

    def rows_in_files(self) -> dict[int, int]:
        """Give how many rows are written of each column that lies in a file, by the column's `id`."""
        return {id(self.ids): self._count, id(self.enrolled_ms): self._count, **self._by_key.rows_in_files()}

    def keep_in(self, directory: str) -> None:
        """Say where columns that grow from now on go."""
        self._directory = directory
        self._by_key.directory = directory

    def _column(self, component: str, most: int) -> Column:
        known = self.installed.get(component)
        if known is None:
            known = np.zeros(len(self.keys), dtype=np.uint8)
        self.installed[component] = known = wide_enough(known, most)
        return known

    def _reach(self, rows: int) -> None:
        if rows > len(self.ids):  # room in files is reserved, so there is not much of it
            for name in ("ids", "enrolled_ms"):
                setattr(self, name, longer(getattr(self, name), max(len(self.ids) * 5 // 4, rows), self._directory))
        if rows <= len(self.keys):
            return
        size = max(2 * len(self.keys), 1 << (rows - 1).bit_length())
        for name in ("keys", "label_set", "fact_set", "token_set", "last_seq", "last_heard_s"):
            setattr(self, name, longer(getattr(self, name), size))
        self.installed = {name: longer(column, size) for name, column in self.installed.items()}
