"""Columns of whole numbers, and how one rests: its least value, and what is above it in as few bytes as that needs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Columns:
    """Events of one kind: `offset` in the batch, and a column (int64) for each field; texts are numbers of `texts`."""

    offset: Ints
    fields: dict[str, Ints]

    def __len__(self) -> int:
        return len(self.offset)


def words_to_bytes(words: Sequence[int]) -> bytes:
    """Give the bytes behind 64-bit words, as they stand in columns."""
    return struct.pack(f">{len(words)}q", *words)


def shrink(values: Ints) -> tuple[int, int, int, bytes]:
    """Write a column as (length, least value, bytes a value, data); a constant column has no data."""
    low, high = int(values.min()), int(values.max())
    span = high - low
    size = 0 if span == 0 else 1 if span < 1 << 8 else 2 if span < 1 << 16 else 4 if span < 1 << 32 else 8
    data = b"" if size == 0 else (values - np.int64(low)).view(np.uint64).astype(f"<u{size}").tobytes()
    return len(values), low, size, data


def widen(column: Sequence[Any]) -> Ints:
    """Read what `shrink` wrote. Raises ValueError for data that does not fit its length."""
    length, low, size, data = column
    if size == 0:
        return np.full(length, low, dtype=np.int64)
    values = np.frombuffer(data, dtype=f"<u{size}")
    if len(values) != length:
        raise ValueError(f"a column has {len(values)} values and should have {length}")
    return values.astype(np.int64) + np.int64(low)
