"""Caps: at most so many devices of one group exposed and not yet confirmed, over all rollouts together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tidegate.core.limits import Select, Standing

Group = tuple[str, str]
"""A label and its value, as in ("service", "check-in")."""
SERVICE, LANE = "service", "lane"
"""The labels that say which service a device is part of, and which of its redundant lanes."""


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

    A device is counted once, however many components it has in flight, and stays in until each of them is out: healthy
    again, or retired by an operator.
    """

    def __init__(self) -> None:
        self._held: dict[int, dict[str, frozenset[Group]]] = {}
        self._counts: Counter[Group] = Counter()
        self._lanes: dict[str, set[str]] = {}
        self._watched: dict[frozenset[Group], set[int]] = {}
        self._watching: dict[Group, list[frozenset[Group]]] = {}
        self.standing = Standing()
        """What active rollouts have declared for the sake of services."""

    def enter(self, index: int, component: str, labels: Mapping[str, str]) -> None:
        """Count a device in with a component. A newer lease for the same component takes the older one's place."""
        before = self._groups(index)
        self._held.setdefault(index, {})[component] = frozenset(labels.items()) | self._lane_of(labels)
        self._counts.update(self._groups(index) - before)
        self._counts.subtract(before - self._groups(index))
        self._rewatch(index, before)

    def leave(self, index: int, component: str | None = None) -> None:
        """Count a device out: it has confirmed this component, or (with none named) an operator has retired it."""
        before, held = self._groups(index), self._held.pop(index, {})
        if component is not None:
            held.pop(component, None)
            if held:
                self._held[index] = held
        self._counts.subtract(before - self._groups(index))
        self._rewatch(index, before)

    def matching(self, select: Select) -> int:
        """Count the devices in flight that have every label of `select`; kept from the first question on."""
        asked = frozenset(select)
        found = self._watched.get(asked)
        if found is None:
            found = self._watched[asked] = {index for index in self._held if asked <= self._groups(index)}
            for group in asked:
                self._watching.setdefault(group, []).append(asked)
        return len(found)

    def _rewatch(self, index: int, before: frozenset[Group]) -> None:
        now = self._groups(index)
        for asked in {asked for group in before | now for asked in self._watching.get(group, ())}:
            if asked <= now:
                self._watched[asked].add(index)
            else:
                self._watched[asked].discard(index)

    def _groups(self, index: int) -> frozenset[Group]:
        return frozenset[Group]().union(*self._held.get(index, {}).values())

    def count(self, group: Group) -> int:
        """How many devices of a group are in flight."""
        return self._counts[group]

    def other_lane(self, labels: Mapping[str, str]) -> str | None:
        """Name a lane of the device's service, other than its own, that is in flight; None if the device may go.

        Lanes are the redundant parts of one service (labels `service` and `lane`); two are never in flight together.
        """
        service, lane = labels.get(SERVICE), labels.get(LANE)
        if service is None or lane is None:
            return None
        others = sorted(self._lanes.get(service, set()) - {lane})
        return next((other for other in others if self._counts[_lane_group(service, other)] > 0), None)

    def _lane_of(self, labels: Mapping[str, str]) -> frozenset[Group]:
        service, lane = labels.get(SERVICE), labels.get(LANE)
        if service is None or lane is None:
            return frozenset()
        self._lanes.setdefault(service, set()).add(lane)
        return frozenset({_lane_group(service, lane)})

    def refuses(self, caps: Iterable[Cap], labels: Mapping[str, str]) -> Group | None:
        """Name the first group whose cap is used up, or None if the device may go."""
        for cap in caps:
            value = labels.get(cap.label)
            if value is not None and self._counts[(cap.label, value)] >= cap.at_most:
                return (cap.label, value)
        return None


def _lane_group(service: str, lane: str) -> Group:
    """Name a lane of a service as a group of its own; no label can be called like that."""
    return ("\0lane", f"{service}\0{lane}")
