"""Caps: at most so many devices of one group exposed and not yet confirmed, over all rollouts together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.core.limits import Select, Standing

Group = tuple[str, str]
"""A label and its value, as in ("service", "check-in")."""
SERVICE, LANE = "service", "lane"
"""The labels that say which service a device is part of, and which of its redundant lanes."""
Ints = npt.NDArray[np.int64]


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
    again, or retired by an operator. Devices with one component in flight, which is nearly all, stand in two arrays by
    device index: which set of groups they hold, and for which component; those with several stand in a dict.
    """

    def __init__(self) -> None:
        self._groups: dict[Group, int] = {}
        self._counts: Ints = np.zeros(64, dtype=np.int64)
        """By group number; number 0 pads the table below and counts nothing."""
        self._sets: dict[frozenset[Group], int] = {}
        self._table: Ints = np.zeros((16, 1), dtype=np.int64)
        """Set number -> its groups' numbers, padded with 0. Set 0 is no set."""
        self._components: dict[str, int] = {}
        self._set_of = np.zeros(0, dtype=np.int32)
        self._component_of = np.zeros(0, dtype=np.int16)
        self._several: dict[int, dict[int, int]] = {}
        self._alone: Ints = np.zeros(16, dtype=np.int64)
        """Set number -> devices that hold it and no other."""
        self._fits: dict[frozenset[Group], Ints] = {}
        """Labels that were asked for together -> the sets that have them all."""
        self._lanes: dict[str, set[str]] = {}
        self.standing = Standing()
        """What active rollouts have declared for the sake of services."""

    def set_of(self, labels: Mapping[str, str]) -> int:
        """Give the number of the set of groups that a device with these labels holds."""
        key = frozenset(labels.items()) | self._lane_of(labels)
        known = self._sets.get(key)
        if known is not None:
            return known
        number = self._sets[key] = len(self._sets) + 1
        members = [self._groups.setdefault(group, len(self._groups) + 1) for group in sorted(key)]
        if len(self._groups) >= len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        rows, width = self._table.shape
        if number >= rows or len(members) > width:
            wider = np.zeros((rows * 2 if number >= rows else rows, max(width, len(members))), dtype=np.int64)
            wider[:rows, :width] = self._table
            self._table = wider
            self._alone = np.concatenate([self._alone, np.zeros(len(wider) - rows, dtype=np.int64)])
        self._table[number, : len(members)] = members
        for asked, sets in self._fits.items():
            if asked <= key:
                self._fits[asked] = np.append(sets, number)
        return number

    def _reach(self, index: int) -> None:
        if index >= len(self._set_of):
            size = max(2 * len(self._set_of), index + 1, 1024)
            for name in ("_set_of", "_component_of"):
                old: npt.NDArray[np.signedinteger] = getattr(self, name)
                new = np.zeros(size, dtype=old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)

    def enter(self, index: int, component: str, labels: Mapping[str, str]) -> None:
        """Count a device in with a component. A newer lease for the same component takes the older one's place."""
        self._enter(index, self._components.setdefault(component, len(self._components) + 1), self.set_of(labels))

    def enter_many(self, indices: Ints, component: str, sets: Ints) -> None:
        """Count devices in, each with the set of its labels (`set_of`); no index comes twice. Shape (n,)."""
        number = self._components.setdefault(component, len(self._components) + 1)
        self._reach(int(indices.max()))
        fresh = self._set_of[indices] == 0
        for index, one in zip(indices[~fresh].tolist(), sets[~fresh].tolist(), strict=True):
            self._enter(index, number, one)
        indices, sets = indices[fresh], sets[fresh]
        self._set_of[indices], self._component_of[indices] = sets, number
        self._add(sets, 1)

    def _add(self, sets: Ints, number: int) -> None:
        self._alone += number * np.bincount(sets, minlength=len(self._alone))
        self._counts += number * np.bincount(self._table[sets].ravel(), minlength=len(self._counts))
        self._counts[0] = 0

    def _enter(self, index: int, component: int, number: int) -> None:
        self._reach(index)
        before = self._holds(index)
        held = self._held(index)
        held[component] = number
        self._put(index, held)
        self._turn(before, self._holds(index))

    def leave(self, index: int, component: str | None = None) -> None:
        """Count a device out: it has confirmed this component, or (with none named) an operator has retired it."""
        was = self._held(index)
        if not was:
            return
        before, held = self._holds(index), dict(was) if component is not None else {}
        held.pop(self._components.get(component or "", 0), None)
        self._put(index, held)
        self._turn(before, self._holds(index))

    def leave_many(self, indices: Ints, component: str) -> None:
        """Count devices out, as `leave` does one after the other; no index comes twice. Shape (n,)."""
        known = self._components.get(component, 0)
        indices = indices[indices < len(self._set_of)]
        alone = (self._set_of[indices] > 0) & (self._component_of[indices] == known)
        several = self._set_of[indices] < 0
        for index in indices[several].tolist():
            self.leave(index, component)
        indices = indices[alone]
        sets = self._set_of[indices].astype(np.int64)
        self._set_of[indices] = 0
        self._component_of[indices] = 0
        self._add(sets, -1)

    def _held(self, index: int) -> dict[int, int]:
        """Give what a device has in flight: component -> set."""
        one = int(self._set_of[index]) if index < len(self._set_of) else 0
        if one < 0:
            return dict(self._several[index])
        return {int(self._component_of[index]): one} if one else {}

    def _put(self, index: int, held: dict[int, int]) -> None:
        self._several.pop(index, None)
        if (old := int(self._set_of[index])) > 0:
            self._alone[old] -= 1
        component, one = next(iter(held.items()), (0, 0))
        if len(held) > 1:
            self._several[index] = held
            component, one = 0, -1
        if one > 0:
            self._alone[one] += 1
        self._set_of[index], self._component_of[index] = one, component

    def _holds(self, index: int) -> set[int]:
        return {int(group) for one in self._held(index).values() for group in self._table[one] if group}

    def _turn(self, before: set[int], after: set[int]) -> None:
        for group in after - before:
            self._counts[group] += 1
        for group in before - after:
            self._counts[group] -= 1

    def matching(self, select: Select) -> int:
        """Count the devices in flight that have every label of `select`; what was asked once is quick from then on."""
        asked = frozenset(select)
        found = self._fits.get(asked)
        if found is None:
            fitting = [number for key, number in self._sets.items() if asked <= key]
            found = self._fits[asked] = np.array(fitting, dtype=np.int64)
        wanted = {self._groups.get(group, -1) for group in asked}
        return int(self._alone[found].sum()) + sum(wanted <= self._holds(index) for index in self._several)

    def count(self, group: Group) -> int:
        """How many devices of a group are in flight."""
        number = self._groups.get(group)
        return int(self._counts[number]) if number is not None else 0

    def other_lane(self, labels: Mapping[str, str]) -> str | None:
        """Name a lane of the device's service, other than its own, that is in flight; None if the device may go.

        Lanes are the redundant parts of one service (labels `service` and `lane`); two are never in flight together.
        """
        service, lane = labels.get(SERVICE), labels.get(LANE)
        if service is None or lane is None:
            return None
        others = sorted(self._lanes.get(service, set()) - {lane})
        return next((other for other in others if self.count(_lane_group(service, other)) > 0), None)

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
            if value is not None and self.count((cap.label, value)) >= cap.at_most:
                return (cap.label, value)
        return None


def _lane_group(service: str, lane: str) -> Group:
    """Name a lane of a service as a group of its own; no label can be called like that."""
    return ("\0lane", f"{service}\0{lane}")
