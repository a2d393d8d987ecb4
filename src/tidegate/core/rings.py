"""The rings of a rollout: which devices are treated and which are placebo, exact in number, before anyone answers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.core.assign import RANK_END, arm_order, rank, ring_arm_salt
from tidegate.core.ordering import order_by_rank
from tidegate.core.widths import wide_enough


@dataclass(frozen=True, slots=True)
class Drawn:
    """One drawn ring: its treated and placebo devices, and the greatest rank among all drawn so far."""

    treated: int
    placebo: int
    announce_rank: int


class Rings:
    """Who belongs to which ring. Rings count from 1; position p is a device's row in the frozen roster.

    Each ring takes the placebo devices of the ring before and as many new devices, in order of rank, as it needs; its
    members with the lowest `arm_order` under its own secret salt are treated. So a device that enters at ring
    `enter[p]` is placebo in every ring from there to `treated[p] - 1`, is treated in ring `treated[p]`, and never in
    another: an exposed device is no control. A ring's size may follow from who came to the rings before, never from how
    they fared, and is fixed when it is drawn.

    Attributes:
        enter, treated: ring numbers, shape (devices,), unsigned and as wide as they need; 0 while not drawn.
        drawn: the rings so far.
    """

    def __init__(
        self,
        keys: npt.NDArray[np.uint64],
        order_salt: bytes,
        arm_secret: bytes,
        rollout: str,
        placebo_per_treated: float,
        left_out: Sequence[int] = (),
    ) -> None:
        """Lay out the order of a roster.

        Args:
            keys: device keys, uint64, shape (devices,).
            order_salt: 16 bytes, signed in the release.
            arm_secret: what the arm salts are derived from; the plan carries their hashes only.
            rollout: the rollout's name, so that two rollouts of one release draw different arms.
            placebo_per_treated: placebo devices for each treated one, as far as unexposed devices are left.
            left_out: roster positions that belong to no ring.
        """
        self.enter: npt.NDArray[Any] = np.zeros(len(keys), dtype=np.uint8)
        self.treated: npt.NDArray[Any] = np.zeros(len(keys), dtype=np.uint8)
        self.drawn: list[Drawn] = []
        self._keys = keys
        self._order_salt = order_salt
        self._arm_secret = arm_secret
        self._rollout = rollout
        self._placebo_per_treated = placebo_per_treated
        order = order_by_rank(order_salt, keys)
        self._order = order[~np.isin(order, np.array(left_out, dtype=np.int32))] if left_out else order
        self._heads = np.empty(0, dtype=np.int32)
        self._taken = 0

    @property
    def devices(self) -> int:
        """The roster's size."""
        return len(self._keys)

    @property
    def ranks(self) -> npt.NDArray[np.uint64]:
        """The order of exposure, uint64, shape (devices,); made anew each time."""
        return rank(self._order_salt, self._keys)

    def rank_of(self, position: int | np.integer[Any]) -> int:
        """Give one device's rank."""
        return rank(self._order_salt, int(self._keys[position]))

    @property
    def left(self) -> int:
        """Devices that no ring has treated yet, in the order of the rings."""
        return len(self._order) - sum(ring.treated for ring in self.drawn)

    def within(self, share_2p32: int) -> int:
        """Count the devices that a next ring may have if ranks beyond a share are left out: heads and new ones."""
        bound = share_2p32 << 32
        end = bisect_left(range(len(self._order)), bound, lo=self._taken, key=lambda at: self.rank_of(self._order[at]))
        return len(self._heads) + end - self._taken

    def last_rank(self, members: int) -> int:
        """Give the greatest rank of a next ring with so many members, or of those drawn so far where it adds none."""
        last = self._taken + max(members - len(self._heads), 0)
        return self.rank_of(self._order[last - 1]) if last else 0

    def rank_at(self, place: int) -> int:
        """Give the rank of the device at a place in the order, which counts from 1."""
        return self.rank_of(self._order[place - 1])

    def coming(self, members: int) -> npt.NDArray[Any]:
        """Give the positions of a next ring's members: the placebo devices of the ring before, and new ones."""
        fresh = max(members - len(self._heads), 0)
        return np.concatenate([self._heads, self._order[self._taken : self._taken + fresh]])

    def members(self, ring: int) -> npt.NDArray[Any]:
        """Give the positions of the newest ring's members."""
        return np.concatenate([np.flatnonzero(self.treated == ring), self._heads])

    def sizes(self, treated: int, placebo: int | None = None) -> tuple[int, int]:
        """Give the exact (treated, placebo) numbers that a next ring would have.

        All placebo devices of the ring before come along; none is added beyond the devices that stay unexposed.

        Args:
            treated: devices that it treats.
            placebo: devices wanted beside them; None for `placebo_per_treated` of the treated.

        Raises:
            ValueError: for a ring without devices, or with more than are left.
        """
        if not 1 <= treated <= self.left:
            raise ValueError(f"a ring must treat 1 to {self.left} devices, not {treated}")
        wanted = round(self._placebo_per_treated * treated) if placebo is None else placebo
        return treated, min(max(wanted, len(self._heads) - treated, 0), self.left - treated)

    def draw(self, treated: int, placebo: int | None = None) -> Drawn:
        """Draw the next ring. Arguments and errors are those of `sizes`."""
        treated, placebo = self.sizes(treated, placebo)
        number = len(self.drawn) + 1
        members = self.coming(treated + placebo)
        fresh = members[len(self._heads) :]
        self.enter, self.treated = wide_enough(self.enter, number), wide_enough(self.treated, number)
        self.enter[fresh] = number
        self._taken += len(fresh)
        salt = ring_arm_salt(self._arm_secret, self._rollout, number)
        arms = np.argsort(arm_order(salt, self._keys[members]), kind="stable")
        self.treated[members[arms[:treated]]] = number
        self._heads = members[arms[treated:]]
        everyone = self._taken == len(self._order)
        last = RANK_END - 1 if everyone else self.rank_of(int(self._order[self._taken - 1]))
        ring = Drawn(treated, placebo, last)
        self.drawn.append(ring)
        return ring
