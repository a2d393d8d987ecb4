"""Limits and lanes that keep services up: of these devices so many at most, and of these lanes one at a time.

They come from an estate's k of n and hold over all rollouts that are in flight together, whoever made the releases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

Pair = tuple[str, str]
"""A label and its value."""
Select = tuple[Pair, ...]
"""Devices that have every one of these."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Of the devices that `select` chooses, at most `at_most` may be in flight. `name` is the group's."""

    name: str
    select: Select
    at_most: int

    def __post_init__(self) -> None:
        if self.at_most < 1:
            raise ValueError(f"the limit on {self.name!r} must be at least 1")
        _check(self.select, self.name)


@dataclass(frozen=True, slots=True)
class Lane:
    """One of a service's redundant parts: the devices that any of `selects` chooses."""

    name: str
    selects: tuple[Select, ...]

    def __post_init__(self) -> None:
        for select in self.selects:
            _check(select, self.name)


@dataclass(frozen=True, slots=True)
class Lanes:
    """Redundant parts of one service, of which never two are in flight together."""

    service: str
    lanes: tuple[Lane, ...]


def _check(select: Select, name: str) -> None:
    if not select:
        raise ValueError(f"{name!r} chooses no device: it names no label")


class Counting(Protocol):
    """What can count devices in flight."""

    def matching(self, select: Select) -> int:
        """Count the devices in flight that have every label of `select`."""
        ...


class Refusal(NamedTuple):
    """Why a device must wait: `reason` is cap or lane; `line` names what for, `places` how many hold it at a time."""

    reason: str
    sentence: str
    line: str
    places: int = 1


class Standing:
    """The limits and lanes of all rollouts that are active; each binds them all."""

    def __init__(self) -> None:
        self._declared: dict[str, tuple[tuple[Limit, ...], tuple[Lanes, ...]]] = {}
        self._limits: dict[Pair, list[Limit]] = {}
        self._lanes: dict[Pair, list[tuple[Lanes, Lane, Select]]] = {}

    def declare(self, rollout: str, limits: Iterable[Limit], lanes: Iterable[Lanes]) -> None:
        """Take up what a rollout brings."""
        self._declared[rollout] = tuple(limits), tuple(lanes)
        self._sort()

    def withdraw(self, rollout: str) -> None:
        """Drop what a rollout brought: it has ended."""
        if self._declared.pop(rollout, None) is not None:
            self._sort()

    def _sort(self) -> None:
        """Sort by the first label of each choice, so that a device is held against few of them."""
        limits = dict.fromkeys(limit for declared, _ in self._declared.values() for limit in declared)
        lanes = dict.fromkeys(one for _, declared in self._declared.values() for one in declared)
        self._limits, self._lanes = {}, {}
        for limit in limits:
            self._limits.setdefault(limit.select[0], []).append(limit)
        for service in lanes:
            for lane in service.lanes:
                for select in lane.selects:
                    self._lanes.setdefault(select[0], []).append((service, lane, select))

    def refuses(self, labels: Mapping[str, str], flying: Counting) -> Refusal | None:
        """Say why a device with these labels must wait, or None if it may go."""
        for pair in labels.items():
            for limit in self._limits.get(pair, ()):
                if _has(labels, limit.select) and flying.matching(limit.select) >= limit.at_most:
                    words = f"group {limit.name} has {limit.at_most} of its devices in flight, as many as it can spare"
                    return Refusal("cap", words, limit.name, limit.at_most)
            for service, own, select in self._lanes.get(pair, ()):
                other = _other(service, own, flying) if _has(labels, select) else None
                if other is not None:
                    words = f"{other} is in flight, and {service.service} needs it or {own.name}"
                    return Refusal("lane", words, service.service)
        return None


def _other(service: Lanes, own: Lane, flying: Counting) -> str | None:
    for lane in service.lanes:
        if lane != own and any(flying.matching(select) for select in lane.selects):
            return lane.name
    return None


def _has(labels: Mapping[str, str], select: Select) -> bool:
    return all(labels.get(label) == value for label, value in select)
