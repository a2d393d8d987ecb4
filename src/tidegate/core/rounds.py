"""How many observation times caps, limits and lanes make the slowest group of a fleet wait."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tidegate.core.caps import LANE, SERVICE, Cap, Group
from tidegate.core.limits import Lanes, Limit


def rounds(
    caps: Sequence[Cap],
    fleet: Iterable[Mapping[str, str]],
    limits: Sequence[Limit] = (),
    lanes: Sequence[Lanes] = (),
) -> int:
    """Count the observation times in which everyone gets through: those of the slowest group, lane after lane.

    Args:
        caps, limits, lanes: those of a rollout.
        fleet: the labels of each of its devices.
    """
    sizes: Counter[Group] = Counter()
    chosen: Counter[int] = Counter()
    labelled: dict[str, set[str]] = {}
    for labels in fleet:
        sizes.update((cap.label, labels[cap.label]) for cap in caps if cap.label in labels)
        chosen.update(k for k, limit in enumerate(limits) if limit.select and set(limit.select) <= labels.items())
        if SERVICE in labels and LANE in labels:
            labelled.setdefault(labels[SERVICE], set()).add(labels[LANE])
    most = {cap.label: cap.at_most for cap in caps}
    waits = [-(-size // most[label]) for (label, _), size in sizes.items()]
    waits += [-(-size // limits[k].at_most) for k, size in chosen.items()]
    parts = [*map(len, labelled.values()), *(len(one.lanes) for one in lanes)]
    return max([1, *waits]) * max([1, *parts])
