"""How many observation times caps, limits and lanes make the slowest group of a fleet wait."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tidegate.core.caps import LANE, SERVICE, Cap, Group
from tidegate.core.limits import Lanes, Limit


class Rounds(NamedTuple):
    """Of the slowest group, and of the usual device: half of all devices are in a group that needs no longer."""

    slowest: int
    usual: float


def rounds(
    caps: Sequence[Cap],
    fleet: Iterable[tuple[Mapping[str, str], int]],
    limits: Sequence[Limit] = (),
    lanes: Sequence[Lanes] = (),
) -> Rounds:
    """Count the observation times in which everyone gets through: those of the slowest group, lane after lane.

    Args:
        caps, limits, lanes: those of a rollout.
        fleet: the sets of labels that its devices have, each with how many have it.
    """
    sizes: Counter[Group] = Counter()
    chosen: Counter[int] = Counter()
    labelled: dict[str, set[str]] = {}
    kinds: list[tuple[list[Group], list[int], int]] = []
    for labels, count in fleet:
        groups = [(cap.label, labels[cap.label]) for cap in caps if cap.label in labels]
        limited = [k for k, limit in enumerate(limits) if limit.select and set(limit.select) <= labels.items()]
        sizes.update(dict.fromkeys(groups, count))
        chosen.update(dict.fromkeys(limited, count))
        kinds.append((groups, limited, count))
        if SERVICE in labels and LANE in labels:
            labelled.setdefault(labels[SERVICE], set()).add(labels[LANE])
    most = {cap.label: cap.at_most for cap in caps}
    waits = {group: size / most[group[0]] for group, size in sizes.items()}
    limit_waits = {k: size / limits[k].at_most for k, size in chosen.items()}
    slowest = max([1, *(math.ceil(wait) for wait in (*waits.values(), *limit_waits.values()))])
    parts = max([1, *map(len, labelled.values()), *(len(one.lanes) for one in lanes)])
    each = ((max([0.0, *(waits[g] for g in gs), *(limit_waits[k] for k in ks)]), n) for gs, ks, n in kinds)
    return Rounds(slowest * parts, _median(sorted(each)))


def _median(weighted: Sequence[tuple[float, int]]) -> float:
    """Give the value at which half of the weight is reached; `weighted` is sorted."""
    half = sum(weight for _, weight in weighted) / 2
    reached = 0
    for value, weight in weighted:
        reached += weight
        if reached >= half:
            return value
    return 0.0
