"""Devices dealt into lanes, so that the loss of any one lane takes no service that has slack; verified every time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.exposure.estate import Estate
from tidegate.exposure.kernel import arrays_of
from tidegate.exposure.lanes import Rules, rules_of


@dataclass(frozen=True, slots=True)
class LaneTable:
    """`counts`: devices of each class in each lane, classes x lanes. `lost`: services that each lane takes alone.

    `least`: for each group ceil(n / (n - k)) lanes, or 1 where it has no slack and stays whole.
    """

    lanes: int
    counts: npt.NDArray[np.int64]
    least: dict[str, int]
    lost: list[list[str]]
    rules: Rules

    @property
    def broken(self) -> list[str]:
        """Services that a lane takes although they have slack: more lanes are needed."""
        return sorted({name for names in self.lost for name in names if name not in self.rules.unavoidable})


def deal(estate: Estate, lanes: int | None = None) -> LaneTable:
    """Deal an estate's devices into lanes, or into as few as do; a group without slack stays whole.

    Heuristic: classes with most groups first, each device into the lane where the fullest of its groups has most room.
    So the kernel checks the outcome, lane by lane.
    """
    rules = rules_of(estate)
    least = {name: _least(estate, name, rules) for name in estate.groups}
    if lanes is not None:
        return _dealt(estate, lanes, least, rules)
    number = max([*least.values(), *(len(one) for several in rules.lanes.values() for one in several)], default=1)
    table = _dealt(estate, number, least, rules)
    while table.broken and number < MOST_LANES:
        number += max(1, number // 4)
        table = _dealt(estate, number, least, rules)
    return table


MOST_LANES = 256


def _least(estate: Estate, name: str, rules: Rules) -> int:
    slack = rules.limits.get(name, 0)
    return math.ceil(estate.devices_of(estate.groups[name]) / slack) if slack else 1


def _dealt(estate: Estate, lanes: int, least: dict[str, int], rules: Rules) -> LaneTable:
    groups = list(estate.groups)
    of_class: dict[int, list[int]] = {}
    for number, group in enumerate(estate.groups.values()):
        for row in group.members:
            of_class.setdefault(row, []).append(number)
    room = np.array([[rules.limits.get(name, 0)] * lanes for name in groups], dtype=np.int64).reshape(
        len(groups), lanes
    )
    home = _homes(groups, rules, lanes)
    counts = np.zeros((len(estate.classes), lanes), dtype=np.int64)
    for row in sorted(of_class, key=lambda one: (-len(of_class[one]), one)):
        mine = np.array(of_class[row])
        slack = mine[[groups[number] in rules.limits for number in mine]]
        whole = [number for number in mine if groups[number] not in rules.limits]
        left = estate.classes[row].count
        if whole:
            lane = home.get(groups[whole[0]], 0)
            counts[row, lane] += left
            room[slack, lane] -= left
            continue
        while left > 0:
            free = room[slack].min(axis=0) if len(slack) else np.full(lanes, left)
            lane = int(free.argmax())
            taken = min(left, max(1, int(free[lane]) // 2)) if len(slack) else left
            counts[row, lane] += taken
            room[slack, lane] -= taken
            left -= taken
    return LaneTable(lanes, counts, least, _verified(estate, counts), rules)


def _homes(groups: list[str], rules: Rules, lanes: int) -> dict[str, int]:
    """Give groups without slack a lane each, so that alternatives of one service are in different ones."""
    apart: dict[str, set[str]] = {name: set() for name in groups}
    for several in rules.lanes.values():
        for one in several:
            parts = list(one.values())
            for place, part in enumerate(parts):
                others = {group for other in parts[:place] + parts[place + 1 :] for group in other}
                for group in part:
                    apart[group] |= others
    home: dict[str, int] = {}
    used = np.zeros(lanes, dtype=np.int64)
    for name in sorted(groups, key=lambda group: (-len(apart[group]), group)):
        if name in rules.limits:
            continue
        taken = {home[other] for other in apart[name] if other in home}
        free = [lane for lane in range(lanes) if lane not in taken] or list(range(lanes))
        home[name] = min(free, key=lambda lane: (int(used[lane]), lane))
        used[home[name]] += 1
    return home


def _verified(estate: Estate, counts: npt.NDArray[np.int64]) -> list[list[str]]:
    """Let the kernel say which services each lane takes if every device in it fails."""
    arrays = arrays_of(estate)
    members = [row for group in estate.groups.values() for row in group.members]
    lost = np.zeros((len(estate.groups), counts.shape[1]), dtype=np.int64)
    of_group = np.repeat(np.arange(len(estate.groups)), [len(group.members) for group in estate.groups.values()])
    np.add.at(lost, of_group, counts[members])
    direct = np.zeros((len(arrays.direct), counts.shape[1]), dtype=bool)
    fallen = arrays.fall(lost > arrays.tolerates[:, None], direct)
    return [[arrays.services[s] for s in np.flatnonzero(fallen[:, lane])] for lane in range(counts.shape[1])]
