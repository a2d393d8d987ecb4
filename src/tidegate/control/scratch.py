"""Room for columns that are seldom looked at: in a nameless file, so that memory holds what is looked at often.

Nothing in it outlives the process: it is a fold of the log, as what is in memory is.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

_C = ctypes.CDLL(None)
LEAST_BYTES = 1 << 20
"""Less is not worth a file."""


class _Mapped(mmap.mmap):
    """A file's bytes, with the file, so that it can be made longer."""

    file: BinaryIO


def room(shape: tuple[int, ...], dtype: npt.DTypeLike, directory: str) -> npt.NDArray[Any]:
    """Give zeros of this shape: in a file without a name in this directory, or in memory if there is none or no space.

    The file's space is reserved at once, so that a disk that fills up later takes none of it back.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if directory and size >= LEAST_BYTES and hasattr(os, "posix_fallocate"):
        try:
            return _mapped(tempfile.TemporaryFile(dir=directory), shape, dtype)
        except OSError:
            pass
    if size >= LEAST_BYTES and hasattr(mmap, "MAP_PRIVATE"):  # pages of its own: what is not written takes none
        return np.ndarray(shape, dtype, buffer=mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    return np.zeros(shape, dtype=dtype)


def longer(old: npt.NDArray[Any], rows: int, directory: str = "") -> npt.NDArray[Any]:
    """Give the column with room for more rows: in its file if it has one, else where `room` chooses."""
    shape = (rows, *old.shape[1:])
    if in_file(old):
        try:
            return _mapped(old.base.file, shape, old.dtype)  # pyright: ignore[reportOptionalMemberAccess, reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
        except OSError:
            directory = ""
    new = room(shape, old.dtype, directory)
    new[: len(old)] = old
    return new


def in_file(column: npt.NDArray[Any]) -> bool:
    """Say whether a column lies in a file."""
    return isinstance(column.base, _Mapped)


def relax(column: npt.NDArray[Any]) -> None:
    """Let go of the memory that a column in a file takes; what was written stays, and comes back when it is read."""
    if isinstance(column.base, _Mapped) and hasattr(mmap, "MADV_DONTNEED"):
        column.base.madvise(mmap.MADV_DONTNEED)  # a shared mapping: nothing is lost by it


def trim() -> None:
    """Give back what was freed, where the C library keeps it in case it is needed again."""
    if (found := getattr(_C, "malloc_trim", None)) is not None:
        found(0)


def _mapped(file: Any, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Map a file, made as long as this needs. Raises OSError; the file is closed then if nothing else maps it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    os.posix_fallocate(file.fileno(), 0, size)
    mapped = _Mapped(file.fileno(), size)
    mapped.file = file
    return np.ndarray(shape, dtype=dtype, buffer=mapped)
