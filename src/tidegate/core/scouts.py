"""Scouts: the lowest-ranked holder of each pair of label values goes first, so that every kind of device is seen early.

They run on the certain rule and count as harm; they are chosen by their labels, so they are never evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Pair = tuple[tuple[str, str], ...]


def pairs_of(labels: Mapping[str, str], over: Sequence[str]) -> list[Pair]:
    """List the pairs of label values that one device holds; a single label stands for itself.

    Args:
        labels: the device's labels.
        over: names of the labels that scouts are to cover.
    """
    held = [(name, labels[name]) for name in sorted(over) if name in labels]
    return [*combinations(held, 2)] if len(held) > 1 else [(entry,) for entry in held]


def say_pair(pair: Pair) -> str:
    """Write a pair as people do: os=win11, hardware=arm."""
    return ", ".join(f"{name}={value}" for name, value in pair)


def choose_scouts(
    labels: Sequence[Mapping[str, str]], ranks: npt.NDArray[np.uint64], over: Sequence[str]
) -> tuple[int, ...]:
    """Choose the scouts of a roster.

    Args:
        labels: each device's labels, by roster position.
        ranks: the order of exposure, uint64, shape (devices,).
        over: names of the labels to cover.

    Returns:
        Roster positions in order of rank: for each pair of values that occurs, its lowest-ranked holder.
    """
    chosen: dict[Pair, int] = {}
    order = [int(position) for position in np.argsort(ranks, kind="stable")]
    for position in order:
        for pair in pairs_of(labels[position], over):
            chosen.setdefault(pair, position)
    picked = set(chosen.values())
    return tuple(position for position in order if position in picked)


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a rollout shows of a fleet's pairs of label values.

    `devices` have been exposed when it ends; `pairs` counts those that the devices it adds hold, and `first` are those
    of them that nobody in a ring before holds.
    """

    devices: int
    pairs: int
    first: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which pairs of label values occur, and who tries them.

    Attributes:
        pairs: devices that hold each pair.
        scouts: (roster position, pairs that it is the lowest-ranked holder of), in order of rank.
        rings: each ring by itself, without the scouts.
    """

    pairs: dict[Pair, int]
    scouts: tuple[tuple[int, tuple[Pair, ...]], ...]
    rings: tuple[Step, ...]


def cover(
    labels: Sequence[Mapping[str, str]], ranks: npt.NDArray[np.uint64], over: Sequence[str], sizes: Sequence[int]
) -> Coverage:
    """Say which pairs of label values the scouts and each ring of a rollout cover.

    The treated devices of a ring are taken to be the next ones by rank: which of them are placebo at first is secret,
    and they head the next ring.

    Args:
        labels: each device's labels, by roster position.
        ranks: the order of exposure, uint64, shape (devices,).
        over: names of the labels to cover.
        sizes: treated devices after each ring, strictly rising.
    """
    order = np.argsort(ranks, kind="stable")
    kinds: dict[tuple[Pair, ...], int] = {}
    numbers = np.array([kinds.setdefault(tuple(pairs_of(each, over)), len(kinds)) for each in labels], dtype=np.int64)
    by_rank, held = numbers[order], list(kinds)
    count: dict[Pair, int] = {}
    for pairs, devices in zip(held, map(int, np.bincount(numbers, minlength=len(held))), strict=True):
        for pair in pairs:
            count[pair] = count.get(pair, 0) + devices
    first_place: dict[Pair, int] = {}
    present, places = np.unique(by_rank, return_index=True)
    for kind, place in zip(map(int, present), map(int, places), strict=True):
        for pair in held[kind]:
            first_place[pair] = min(place, first_place.get(pair, place))
    scouts: dict[int, list[Pair]] = {}
    for pair, place in sorted(first_place.items(), key=lambda entry: (entry[1], entry[0])):
        scouts.setdefault(int(order[place]), []).append(pair)
    in_rings = by_rank[~np.isin(order, list(scouts))]
    return Coverage(
        count, tuple((scout, tuple(pairs)) for scout, pairs in scouts.items()), _rings(in_rings, held, sizes)
    )


def _rings(by_rank: npt.NDArray[np.int64], held: Sequence[tuple[Pair, ...]], sizes: Sequence[int]) -> tuple[Step, ...]:
    rings: list[Step] = []
    seen: set[Pair] = set()
    before = 0
    for size in sizes:
        now = {pair for kind in map(int, np.unique(by_rank[before:size])) for pair in held[kind]}
        rings.append(Step(size, len(now), tuple(sorted(now - seen))))
        seen |= now
        before = size
    return tuple(rings)
