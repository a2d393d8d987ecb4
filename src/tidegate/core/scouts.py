"""Scouts: the lowest-ranked holder of each pair of label values goes first, so that every kind of device is seen early.

They run on the certain rule and count as harm; they are chosen by their labels, so they are never evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
