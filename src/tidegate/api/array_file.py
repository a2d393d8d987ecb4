"""A compressed file of arrays, looked at before it is unpacked: what is packed well could fill any memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from typing import IO

import numpy as np

from tidegate.core.errors import BadInput

MOST_MEMBERS = 16


def check_arrays(name: str, known: Collection[str], most_bytes: int, most_rows: int) -> None:
    """Refuse a file (.npz) that holds anything but known arrays, or that unpacks to more than it may.

    Args:
        name: the file.
        known: what its arrays may be called.
        most_bytes: all of them together, unpacked.
        most_rows: each of them but `sets`, which is text.

    Raises:
        BadInput: if it is too large, or no file of arrays; no array has been unpacked.
    """
    try:
        with zipfile.ZipFile(name) as packed:
            members = packed.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > most_bytes:
                raise BadInput(
                    f"the import unpacks to {unpacked:,} bytes, and for this fleet at most {most_bytes:,} are taken;"
                    " cut the file in two"
                )
            if len(members) > MOST_MEMBERS:
                raise BadInput(f"the import is no file of arrays: it holds {len(members)} parts")
            for member in members:
                array = member.filename.removesuffix(".npy")
                if array not in known:
                    raise BadInput(f"the import holds {array!r}, which is no part of one")
                with packed.open(member) as file:
                    rows, size = _declared(file)
                if size > member.file_size:
                    raise BadInput(f"the import is no file of arrays: {array} is said to be larger than it is")
                if array != "sets" and rows > most_rows:
                    raise BadInput(f"the import has {rows:,} rows, more than this fleet can have")
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile) as error:
        raise BadInput(f"the import is no file of arrays: {error}") from error


def _declared(file: IO[bytes]) -> tuple[int, int]:
    """Read how many rows an array says it has, and how many bytes. Raises ValueError."""
    version = np.lib.format.read_magic(file)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if version != (1, 0):
        raise ValueError("an array of another version")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if dtype.hasobject or any(length < 0 for length in shape):
        raise ValueError("an array of objects")
    return int(shape[0]) if shape else 1, math.prod(shape) * int(dtype.itemsize)
