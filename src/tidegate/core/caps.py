"""Caps: at most so many devices of one group exposed and not yet confirmed, over all rollouts together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Group = tuple[str, str]
"""A label and its value, as in ("service", "check-in")."""


@dataclass(frozen=True, slots=True)
class Cap:
    """Of the devices that share one value of `label`, at most `at_most` may be in flight."""

    label: str
    at_most: int

    def __post_init__(self) -> None:
        if self.at_most < 1:
            raise ValueError(f"a cap on {self.label!r} must be at least 1")


class InFlight:
    """Devices exposed and not yet confirmed, by group, counted on the labels that were frozen into the lease.

    A harmed device stays in until it is healthy again or an operator retires it.
    """

    def __init__(self) -> None:
        self._labels: dict[int, tuple[Group, ...]] = {}
        self._counts: Counter[Group] = Counter()

    def enter(self, index: int, labels: Mapping[str, str]) -> None:
        """Count a device in. A device that is in flight already is not counted twice."""
        if index in self._labels:
            return
        groups = tuple(labels.items())
        self._labels[index] = groups
        self._counts.update(groups)

    def leave(self, index: int) -> None:
        """Count a device out: it has confirmed, or an operator has retired it."""
        self._counts.subtract(self._labels.pop(index, ()))

    def count(self, group: Group) -> int:
        """How many devices of a group are in flight."""
        return self._counts[group]

    def refuses(self, caps: Iterable[Cap], labels: Mapping[str, str]) -> Group | None:
        """Name the first group whose cap is used up, or None if the device may go."""
        for cap in caps:
            value = labels.get(cap.label)
            if value is not None and self._counts[(cap.label, value)] >= cap.at_most:
                return (cap.label, value)
        return None
