"""The rings of a rollout: which devices are treated and which are placebo, exact in number, before anyone answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.core.assign import RANK_END, arm_order, rank, ring_arm_salt

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Rings:
    """Who belongs to which ring. Position p is a device's row in the roster.

    A device enters at ring `enter[p]`, is placebo in every ring from there to `treated[p] - 1`, and is treated in ring
    `treated[p]`: placebo devices head the next ring, and an exposed device is never a control. Rings count from 1.

    Attributes:
        sizes: treated devices in rings 1..k together, cumulative; the last is the roster's size.
        placebo: placebo devices of each ring.
        enter, treated: ring numbers, shape (devices,).
        ranks: the order of exposure, uint64, shape (devices,).
        announce_ranks: for each ring the greatest rank among members of it and of the rings before.
    """

    sizes: tuple[int, ...]
    placebo: tuple[int, ...]
    enter: npt.NDArray[np.int32]
    treated: npt.NDArray[np.int32]
    ranks: npt.NDArray[np.uint64]
    announce_ranks: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many rings there are."""
        return len(self.sizes)

    def treated_count(self, ring: int) -> int:
        """How many devices ring `ring` treats."""
        return self.sizes[ring - 1] - (self.sizes[ring - 2] if ring > 1 else 0)


def draw_rings(
    keys: npt.NDArray[np.uint64],
    order_salt: bytes,
    arm_secret: bytes,
    rollout: str,
    sizes: Sequence[int],
    placebo_per_treated: float,
) -> Rings:
    """Lay a frozen roster out in rings and draw the arms.

    Each ring takes the placebo devices of the ring before and as many new devices in order of rank as it needs; the
    members with the lowest `arm_order` under the ring's own secret salt are treated.

    Args:
        keys: device keys, uint64, shape (devices,).
        order_salt: 16 bytes, signed in the release.
        arm_secret: what the arm salts are derived from; the plan carries their hashes only.
        rollout: the rollout's name, so that two rollouts of one release draw different arms.
        sizes: treated devices in the first k rings together: rising, and ending with the number of devices.
        placebo_per_treated: placebo devices for each treated one, as far as unexposed devices are left.

    Raises:
        ValueError: if the sizes do not rise to the number of devices.
    """
    devices = len(keys)
    if not sizes or sizes[-1] != devices or list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
        raise ValueError(f"ring sizes must rise to {devices} devices, not {tuple(sizes)}")
    ranks = rank(order_salt, keys)
    order = np.argsort(ranks, kind="stable")
    enter = np.zeros(devices, dtype=np.int32)
    treated = np.zeros(devices, dtype=np.int32)
    heads = np.empty(0, dtype=np.int64)
    placebo_counts: list[int] = []
    announce: list[int] = []
    drawn = exposed = 0
    for number, size in enumerate(sizes, start=1):
        wanted = size - exposed
        placebo = min(max(round(placebo_per_treated * wanted), len(heads) - wanted, 0), devices - size)
        fresh = order[drawn : drawn + wanted + placebo - len(heads)]
        enter[fresh] = number
        drawn += len(fresh)
        members = np.concatenate([heads, fresh])
        salt = ring_arm_salt(arm_secret, rollout, number)
        arms = np.argsort(arm_order(salt, keys[members]), kind="stable")
        treated[members[arms[:wanted]]] = number
        heads = members[arms[wanted:]]
        exposed = size
        placebo_counts.append(placebo)
        announce.append(int(ranks[order[drawn - 1]]) if drawn < devices else RANK_END - 1)
    return Rings(tuple(sizes), tuple(placebo_counts), enter, treated, ranks, tuple(announce))
