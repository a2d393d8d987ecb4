"""Everything that an object holds, as plain nested values, so that two states can be compared to the last bit."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import dataclasses
from collections import deque
from enum import Enum
from typing import Any

import msgspec
import numpy as np

from tidegate.control.fleet import Fleet
from tidegate.core.caps import InFlight
from tidegate.core.roster import Positions, Roster

DERIVED = {("Evidence", "_waiting"), ("Rollout", "turns")}
"""Indexes over what is compared anyway, which also hold how far somebody has looked; and advice that is no event."""


def snapshot(value: Any) -> Any:
    """Give a value as dicts, lists and scalars: arrays with their type, objects with all their attributes."""
    if value is None or isinstance(value, str | bytes | bool | int | float | Enum):
        return value
    if isinstance(value, np.ndarray):
        return ("array", str(value.dtype), value.tolist())
    if isinstance(value, dict):
        return {snapshot_key(key): snapshot(item) for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return [snapshot(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(snapshot(item)) for item in value)
    if isinstance(value, msgspec.Struct):
        return (type(value).__name__, snapshot(msgspec.structs.asdict(value)))
    if dataclasses.is_dataclass(value):
        return (type(value).__name__, {f.name: snapshot(getattr(value, f.name)) for f in dataclasses.fields(value)})
    if isinstance(value, Fleet | Roster):
        return [snapshot(row) for row in value]
    if isinstance(value, InFlight):
        return in_flight(value)
    if isinstance(value, Positions):
        return "follows from the roster"
    if hasattr(value, "__dict__"):
        name = type(value).__name__
        return (name, snapshot({key: item for key, item in vars(value).items() if (name, key) not in DERIVED}))
    raise TypeError(f"cannot compare a {type(value)}")


def in_flight(value: InFlight) -> Any:
    """Whom it holds and what it counts, by name: its numbers follow from the order in which names came."""
    groups = {number: group for group, number in value._groups.items()}
    components = {number: name for name, number in value._components.items()}
    held = {
        index: {
            components[c]: sorted(groups[g] for g in value._table[one] if g) for c, one in value._held(index).items()
        }
        for index in range(len(value._set_of))
        if value._set_of[index]
    }
    counts = {group: value.count(group) for group in groups.values() if value.count(group)}
    return (snapshot(held), snapshot(counts), snapshot(value._lanes))


def snapshot_key(key: Any) -> Any:
    """A key that stays hashable."""
    return key if isinstance(key, str | int) else repr(snapshot(key))


def difference(one: Any, two: Any, place: str = "") -> str:
    """Name the first place at which two snapshots differ, or nothing."""
    if type(one) is type(two) is dict:
        if one.keys() != two.keys():
            return f"{place}: {sorted(map(str, one.keys() ^ two.keys()))}"
        return next(filter(None, (difference(one[key], two[key], f"{place}.{key}") for key in one)), "")
    if isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        found = (difference(a, b, f"{place}[{i}]") for i, (a, b) in enumerate(zip(one, two, strict=True)))
        return next(filter(None, found), "")
    return "" if one == two else f"{place}: {str(one)[:200]} / {str(two)[:200]}"
