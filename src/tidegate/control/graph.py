"""Server state written to one file and read again, whatever it holds: plain values, arrays, and our own objects.

A file is `TGC2`, the BLAKE2b of the rest, a mark of 32 bytes, MessagePack of the graph, and then the arrays' bytes.
Arrays that look at the same memory do so again when they are read, and those that lay in files do again. Only classes
of this package are made when reading, without running their constructors; so a file can hold wrong values, but no
program.
"""

from __future__ import annotations

import hashlib
import importlib
import struct
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.control.scratch import in_file, relax, room

MAGIC = b"TGC2"
_PLAIN = (str, int, float, bool, bytes, type(None))
_BLOCK = 1 << 22
_HEAD = struct.Struct("<4s32s32sQ")


class NoGraph(Exception):
    """The file is none, is damaged, or is of another version."""


def write_graph(
    file: BinaryIO, value: Any, mark: bytes = bytes(32), rows: Mapping[int, int] = MappingProxyType({})
) -> None:
    """Write a value; the mark says who can read it, `rows` of how many rows of an array (by `id`) are looked at.

    Raises:
        TypeError: for what cannot be written.
    """
    arrays = _Arrays(rows)
    head = msgspec.msgpack.encode(_flat(value, arrays))
    digest = hashlib.blake2b(digest_size=32)  # not OpenSSL's: a child must not wait for its locks
    file.write(MAGIC + bytes(32))
    for part in (mark, struct.pack("<Q", len(head)), head):
        digest.update(part)
        file.write(part)
    for array, used in arrays.found:
        data = _bytes_of(np.ascontiguousarray(array[:used]))
        for at in range(0, len(data), _BLOCK):
            digest.update(data[at : at + _BLOCK])
            file.write(data[at : at + _BLOCK])
            relax(array)
    file.seek(len(MAGIC))
    file.write(digest.digest())


def read_graph(path: Path, directory: str = "", mark: bytes = bytes(32)) -> Any:
    """Read what `write_graph` wrote with this mark; arrays that lay in files go into files in `directory`.

    Raises:
        NoGraph: for a file that is damaged or another's; one with another mark is not looked at any further.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(_HEAD.size)
        if start[:4] != MAGIC or len(start) != _HEAD.size:
            raise NoGraph(f"{path} is no checkpoint of this version")
        _, said, found, size = _HEAD.unpack(start)
        if found != mark:
            raise NoGraph(f"{path} is another's")
        digest = hashlib.blake2b(start[36:], digest_size=32)
        while block := file.read(_BLOCK):
            digest.update(block)
        if digest.digest() != said:
            raise NoGraph(f"{path} is damaged")
        file.seek(_HEAD.size)
        try:
            return _Reader(file, directory).value(msgspec.msgpack.decode(file.read(size)))
        except (msgspec.MsgspecError, ValueError, TypeError, KeyError, AttributeError, ImportError) as error:
            raise NoGraph(f"{path} is of another version: {error}") from error


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """Look at a contiguous array's bytes, without a copy."""
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")


class _Arrays:
    """Arrays on their way into the file, each once, with how many of their rows are used."""

    def __init__(self, rows: Mapping[int, int]) -> None:
        self._rows = rows
        self.found: list[tuple[npt.NDArray[Any], int]] = []
        self._known: dict[tuple[Any, ...], tuple[int, int]] = {}

    def flat(self, value: npt.NDArray[Any]) -> list[Any]:
        place = (value.__array_interface__["data"][0], value.dtype.str, value.strides, value.shape[1:])
        number, rows = self._known.get(place, (0, -1))
        if 0 < len(value) <= rows:
            return ["v", number, len(value)]
        used = self._rows.get(id(value), -1)
        used = used if used >= 0 else _used(value)
        self._known[place] = (len(self.found), len(value))
        self.found.append((value, used))
        return ["a", value.dtype.str, list(value.shape), used, in_file(value)]


def _flat(value: Any, arrays: _Arrays) -> Any:
    """Give a value as nested lists, each with a mark of its kind; arrays are put aside."""
    if isinstance(value, Enum):
        return ["e", _name(type(value)), value.value]
    if type(value) in _PLAIN:
        return ["b", value] if isinstance(value, bytes) else value
    if isinstance(value, np.ndarray):
        return arrays.flat(value)
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
        relax(array)
    return 0


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _class(name: str) -> Any:
    module, _, found = name.partition(":")
    if not module.startswith("tidegate.") or "." in found:
        raise ValueError(f"{name} is no class of ours")
    return getattr(importlib.import_module(module), found)


class _Reader:
    def __init__(self, file: BinaryIO, directory: str) -> None:
        self._file, self._directory = file, directory
        self._arrays: list[npt.NDArray[Any]] = []

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
        if mark == "v":
            return self._arrays[rest[0]][: rest[1]]
        if mark == "b":
            return rest[0]
        if mark == "q":
            return deque((self.value(item) for item in rest[1]), maxlen=rest[0])
        if mark == "n":
            return _class(rest[0])(*(self.value(item) for item in rest[1]))
        if mark == "e":
            return _class(rest[0])(rest[1])
        return self._object(*rest)

    def _array(self, dtype: str, shape: list[int], used: int, own_file: bool) -> npt.NDArray[Any]:
        array = room(tuple(shape), np.dtype(dtype), self._directory if own_file else "")
        self._arrays.append(array)
        into = _bytes_of(array[:used])
        for at in range(0, len(into), _BLOCK):
            some = into[at : at + _BLOCK]
            if self._file.readinto(some) != len(some):  # pyright: ignore[reportAttributeAccessIssue]
                raise ValueError("it is cut short")
            relax(array)
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
