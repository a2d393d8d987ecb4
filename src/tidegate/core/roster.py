"""A rollout's frozen roster as one array, and its short form in the log: 8.5 million devices are no list of numbers."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast, overload

import numpy as np
import numpy.typing as npt

from tidegate.core.errors import BadInput

_BLOCK = 1 << 18
LISTED = 1000
"""A roster of up to so many devices is written as a list, which people can read."""


class Roster(Sequence[int]):
    """Device indices in the order of rows: position p is the device `roster[p]`. Nothing changes it."""

    __slots__ = ("array",)

    def __init__(self, indices: Iterable[int] | npt.NDArray[Any] = ()) -> None:
        """Take indices up, each at most 2**31 - 1. Raises ValueError for one that is negative or beyond."""
        found: npt.NDArray[Any] = np.asarray(indices if isinstance(indices, np.ndarray) else list(indices))
        if len(found) and not 0 <= int(found.min()) <= int(found.max()) < 1 << 31:
            raise ValueError("a roster holds device indices from 0 to 2**31 - 1")
        self.array: npt.NDArray[np.int32] = found.astype(np.int32)
        self.array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, position: int) -> int: ...
    @overload
    def __getitem__(self, position: slice) -> Roster: ...
    def __getitem__(self, position: int | slice) -> int | Roster:
        if isinstance(position, slice):
            return Roster(self.array[position])
        return int(self.array[position])

    def __iter__(self) -> Iterator[int]:
        return iter(self.array.tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Roster):
            return bool(np.array_equal(self.array, other.array))
        return isinstance(other, tuple | list) and list(self) == list(cast("list[Any]", other))

    def __hash__(self) -> int:
        return hash(self.array.tobytes())

    def __repr__(self) -> str:
        return f"Roster({len(self)} devices)"

    def plain(self) -> list[int] | dict[str, Any]:
        """Give what JSON can hold: a list, or the differences between neighbours, packed."""
        if len(self) <= LISTED:
            return list(self)
        packer, parts, last = zlib.compressobj(1), list[bytes](), np.zeros(1, dtype=np.int32)
        for at in range(0, len(self), _BLOCK):
            some = self.array[at : at + _BLOCK]
            parts.append(packer.compress(np.diff(some, prepend=last).astype("<i4", copy=False).tobytes()))
            last = some[-1:]
        return {"devices": len(self), "steps": base64.b64encode(b"".join(parts) + packer.flush()).decode()}

    @staticmethod
    def from_plain(value: object, where: str) -> Roster:
        """Read what `plain` gave, or a list of any length. Raises BadInput."""
        try:
            if isinstance(value, dict):
                found = cast("dict[str, Any]", value)
                steps = np.frombuffer(zlib.decompress(base64.b64decode(found["steps"], validate=True)), dtype="<i4")
                if len(steps) != found["devices"]:
                    raise ValueError("it has another length than it says")
                return Roster(_summed(steps))
            if isinstance(value, list | tuple):
                listed = cast("list[Any]", value)
                if all(type(index) is int for index in listed):
                    return Roster(listed)
        except (ValueError, KeyError, TypeError, OverflowError, zlib.error) as error:
            raise BadInput(f"{where} is no roster: {error}") from error
        raise BadInput(f"{where} is no roster: it must be a list of device indices")


def _summed(steps: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Add up differences, in little memory. Raises ValueError for an index beyond 32 bits."""
    made, last = np.empty(len(steps), dtype=np.int32), np.int64(0)
    for at in range(0, len(steps), _BLOCK):
        some = last + np.cumsum(steps[at : at + _BLOCK], dtype=np.int64)
        if some.min() < 0 or some.max() >= 1 << 31:
            raise ValueError("an index is out of range")
        made[at : at + _BLOCK], last = some, some[-1]
    return made


class Positions:
    """Where a device stands in a roster: a dict from index to row, by a search in the roster itself."""

    __slots__ = ("_first", "_indices", "_last", "_order")

    def __init__(self, roster: Roster) -> None:
        rising = bool((roster.array[1:] > roster.array[:-1]).all())
        self._order = None if rising else np.argsort(roster.array, kind="stable").astype(np.int32)
        self._indices = roster.array if self._order is None else roster.array[self._order]
        self._first, self._last = (int(self._indices[0]), int(self._indices[-1])) if len(roster) else (0, -1)

    @overload
    def get(self, index: int) -> int | None: ...
    @overload
    def get(self, index: int, default: int) -> int: ...
    def get(self, index: int, default: int | None = None) -> int | None:
        """Give the row of a device, or the default if it is not in the roster."""
        known = self._indices
        if not self._first <= index <= self._last:
            return default
        place = min(index - self._first, len(known) - 1)  # where it stands if nobody is missing before it
        if known.item(place) != index:
            place = int(np.searchsorted(known, np.int32(index)))
            if known[place] != index:
                return default
        return place if self._order is None else int(self._order[place])

    def __getitem__(self, index: int) -> int:
        row = self.get(index)
        if row is None:
            raise KeyError(index)
        return row

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and self.get(index) is not None
