"""Server state written to one file and read again, whatever it holds: plain values, arrays, and our own objects.

A file is `TGC1`, the SHA-256 of the rest, MessagePack of the graph, and then the arrays' bytes. Only classes of this
package are made when reading, without running their constructors; so a file can hold wrong values, but no program.
"""

from __future__ import annotations

import hashlib
import importlib
import struct
from collections import Counter, deque
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

MAGIC = b"TGC1"
_PLAIN = (str, int, float, bool, bytes, type(None))
_BLOCK = 1 << 22


class NoGraph(Exception):
    """The file is none, is damaged, or is of another version."""


def write_graph(file: BinaryIO, value: Any) -> None:
    """Write a value. Raises TypeError for what cannot be written."""
    arrays: list[npt.NDArray[Any]] = []
    head = msgspec.msgpack.encode(_flat(value, arrays))
    digest = hashlib.sha256()
    file.write(MAGIC + bytes(32))
    for part in (struct.pack("<Q", len(head)), head):
        digest.update(part)
        file.write(part)
    for array in arrays:
        data = _bytes_of(np.ascontiguousarray(array))
        for at in range(0, len(data), _BLOCK):
            digest.update(data[at : at + _BLOCK])
            file.write(data[at : at + _BLOCK])
    file.seek(len(MAGIC))
    file.write(digest.digest())


def read_graph(path: Path) -> Any:
    """Read what `write_graph` wrote. Raises NoGraph, OSError."""
    with path.open("rb") as file:
        start = file.read(len(MAGIC) + 32)
        if start[:4] != MAGIC or len(start) != 36:
            raise NoGraph(f"{path} is no checkpoint")
        digest = hashlib.sha256()
        while block := file.read(_BLOCK):
            digest.update(block)
        if digest.digest() != start[4:]:
            raise NoGraph(f"{path} is damaged")
        file.seek(36)
        size = struct.unpack("<Q", file.read(8))[0]
        try:
            return _Reader(file).value(msgspec.msgpack.decode(file.read(size)))
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
            raise NoGraph(f"{path} is of another version: {error}") from error


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """Look at a contiguous array's bytes, without a copy."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


def _flat(value: Any, arrays: list[npt.NDArray[Any]]) -> Any:
    """Give a value as nested lists, each with a mark of its kind; arrays are put aside."""
    if isinstance(value, Enum):
        return ["e", _name(type(value)), value.value]
    if type(value) in _PLAIN:
        return ["b", value] if isinstance(value, bytes) else value
    if isinstance(value, np.ndarray):
        used = _used(value)
        arrays.append(value[:used])
        return ["a", value.dtype.str, list(value.shape), used]
    if isinstance(value, np.generic):
        return _flat(value.item(), arrays)
    kind = type(value)
    if isinstance(value, dict | Counter):
        pairs = [[_flat(key, arrays), _flat(item, arrays)] for key, item in value.items()]
        return ["d" if kind is dict else "c", pairs]
    if kind in _CONTAINERS:
        return [_CONTAINERS[kind], [_flat(item, arrays) for item in value]]
    if kind is deque:
        return ["q", value.maxlen, [_flat(item, arrays) for item in value]]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return ["n", _name(kind), [_flat(item, arrays) for item in value]]  # pyright: ignore[reportUnknownVariableType]
    if not kind.__module__.startswith("tidegate."):
        raise TypeError(f"a checkpoint cannot hold a {kind.__module__}.{kind.__name__}")
    return ["o", _name(kind), [[name, _flat(getattr(value, name), arrays)] for name in _members(value)]]


_CONTAINERS: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "f"}
_MAKE = {"l": list, "t": tuple, "s": set, "f": frozenset}


def _members(value: Any) -> list[str]:
    if isinstance(value, msgspec.Struct):
        return list(value.__struct_fields__)
    if is_dataclass(value):
        return [field.name for field in fields(value)]
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return slots or list(vars(value))


def _used(array: npt.NDArray[Any]) -> int:
    """Count the rows up to the last that is not zero: arrays have room to grow, which need not be written."""
    rows = len(array)
    while rows:
        block = array[max(rows - 65_536, 0) : rows]
        found = np.flatnonzero(block.reshape(len(block), -1).any(axis=1))
        if len(found):
            return rows - len(block) + int(found[-1]) + 1
        rows -= len(block)
    return 0


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _class(name: str) -> Any:
    module, _, found = name.partition(":")
    if not module.startswith("tidegate.") or "." in found:
        raise ValueError(f"{name} is no class of ours")
    return getattr(importlib.import_module(module), found)


class _Reader:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def value(self, flat: Any) -> Any:
        if not isinstance(flat, list):
            return flat
        mark, *rest = flat
        if mark in _MAKE:
            return _MAKE[mark](self.value(item) for item in rest[0])
        if mark in "dc":
            found = {self.value(key): self.value(item) for key, item in rest[0]}
            return Counter(found) if mark == "c" else found
        if mark == "a":
            return self._array(*rest)
        if mark == "b":
            return rest[0]
        if mark == "q":
            return deque((self.value(item) for item in rest[1]), maxlen=rest[0])
        if mark == "n":
            return _class(rest[0])(*(self.value(item) for item in rest[1]))
        if mark == "e":
            return _class(rest[0])(rest[1])
        return self._object(*rest)

    def _array(self, dtype: str, shape: list[int], used: int) -> npt.NDArray[Any]:
        array = np.zeros(shape, dtype=np.dtype(dtype))
        into = _bytes_of(array[:used])
        if used and self._file.readinto(into) != len(into):  # pyright: ignore[reportAttributeAccessIssue]
            raise ValueError("it is cut short")
        return array

    def _object(self, name: str, members: list[Any]) -> Any:
        kind = _class(name)
        values = {member: self.value(item) for member, item in members}
        if issubclass(kind, msgspec.Struct):
            return kind(**values)
        made = kind.__new__(kind)
        for member, item in values.items():
            object.__setattr__(made, member, item)
        return made
