"""The fold of leases and reports into evidence: counts by ring, arm and outcome."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from tidegate.core.model import Arm, Outcome
from tidegate.core.rings import Rings


class LeaseState(IntEnum):
    """What is known of a device's newest lease."""

    NONE = 0
    PENDING = 1
    CONFIRMED = 2
    REVERTED = 3


_ENDS = {Outcome.CONFIRMED: LeaseState.CONFIRMED, Outcome.REVERTED: LeaseState.REVERTED}
_ARM_ROW = {Arm.TREATED: 0, Arm.PLACEBO: 1}


@dataclass(frozen=True, slots=True)
class ArmCounts:
    """One arm of one ring. `silent` are those of the pending whose observation time has passed."""

    leased: int
    confirmed: int
    reverted: int
    silent: int

    @property
    def pending(self) -> int:
        """Leases without a report, silent ones included."""
        return self.leased - self.confirmed - self.reverted

    @property
    def resolved(self) -> bool:
        """Whether every lease has either been answered or run out of time."""
        return self.pending == self.silent


class Waiting:
    """Pending leases of one arm of one ring, by when they were given: a look need not go through all devices.

    Looks come in the order of time; one that goes back counts anew and is slower.
    """

    def __init__(self) -> None:
        self.pending = 0
        self._by_ms: dict[int, int] = {}
        self._ahead: list[int] = []
        self._until_ms = self._silent = 0
        self._first_ms: int | None = None

    def add(self, leased_ms: int, number: int = 1) -> None:
        """Count a lease in, or (-1) out: it has been answered, or a newer one took its place."""
        self.pending += number
        if leased_ms not in self._by_ms and leased_ms > self._until_ms:
            heapq.heappush(self._ahead, leased_ms)
        self._by_ms[leased_ms] = self._by_ms.get(leased_ms, 0) + number
        if leased_ms <= self._until_ms:
            self._silent += number
            if not self._by_ms[leased_ms]:
                del self._by_ms[leased_ms]
        if self._first_ms is None or leased_ms < self._first_ms:
            self._first_ms = leased_ms

    def silent(self, until_ms: int) -> int:
        """Count the pending leases that were given at `until_ms` or before."""
        if self._first_ms is None or until_ms < self._first_ms:
            return 0
        if until_ms < self._until_ms:
            return sum(number for leased_ms, number in self._by_ms.items() if leased_ms <= until_ms)
        self._until_ms = until_ms
        while self._ahead and self._ahead[0] <= until_ms:
            leased_ms = heapq.heappop(self._ahead)
            self._silent += self._by_ms[leased_ms]
            if not self._by_ms[leased_ms]:
                del self._by_ms[leased_ms]
        return self._silent


class Evidence:
    """What the leases of one rollout have come to. Arrays by roster position, about 18 bytes a device.

    `ring_at_lease`, `arm`, `state` and `leased_ms` describe the newest lease of each device; a device gets a treated
    lease once in a rollout, and after it none.
    """

    def __init__(self, rings: Rings) -> None:
        devices = rings.devices
        self.ring_at_lease = np.zeros(devices, dtype=np.int32)
        self.treated_lease = np.zeros(devices, dtype=np.bool_)
        self.state = np.zeros(devices, dtype=np.uint8)
        self.leased_ms = np.zeros(devices, dtype=np.int64)
        self.late = np.zeros(devices, dtype=np.bool_)
        self._counts: list[npt.NDArray[np.int64]] = [np.zeros((2, 4), dtype=np.int64)]
        self._waiting = [(Waiting(), Waiting())]
        self.exposed = self.confirmed = self.reverted = 0
        self.late_exposed = self.late_confirmed = self.late_reverted = 0
        self.signalled: set[int] = set()
        self.reverted_in: dict[int, set[int]] = {}
        """Who reverted, by ring: few; the late are not among them."""
        self.aside: set[int] = set()
        """Whose reports an operator has set aside."""

    def grant(self, position: int, ring: int, arm: Arm, at_ms: int, *, late: bool = False) -> None:
        """Fold one lease. A late treated lease counts in row 0, apart from every ring."""
        treated = arm is Arm.TREATED
        row = 0 if late else ring
        while len(self._counts) <= ring:
            self._counts.append(np.zeros((2, 4), dtype=np.int64))
            self._waiting.append((Waiting(), Waiting()))
        if self.state[position] == LeaseState.PENDING:
            self._waiting_for(position).add(int(self.leased_ms[position]), -1)
        self.ring_at_lease[position] = ring
        self.treated_lease[position] = treated
        self.state[position] = LeaseState.PENDING
        self.leased_ms[position] = at_ms
        self._counts[row][_ARM_ROW[arm], LeaseState.PENDING] += 1
        if treated:
            self.exposed += 1
            self.late[position] = late
            self.late_exposed += int(late)
        self._waiting[row][_ARM_ROW[arm]].add(at_ms)

    def _waiting_for(self, position: int) -> Waiting:
        """Where the device's newest lease is counted while it is pending."""
        treated = bool(self.treated_lease[position])
        row = 0 if treated and self.late[position] else int(self.ring_at_lease[position])
        return self._waiting[row][0 if treated else 1]

    def report(self, position: int, ring: int, outcome: Outcome) -> bool:
        """Fold one report; give whether it changed anything.

        A report for a lease that is not the device's newest, or has ended, changes nothing: it came twice, or late.
        """
        if self.ring_at_lease[position] != ring or self.state[position] != LeaseState.PENDING:
            return False
        if position in self.aside:
            return False
        treated, late = bool(self.treated_lease[position]), bool(self.late[position])
        end = _ENDS[outcome]
        row = 0 if treated and late else ring
        self.state[position] = end
        self._waiting[row][0 if treated else 1].add(int(self.leased_ms[position]), -1)
        self._counts[row][0 if treated else 1, end] += 1
        if row and end is LeaseState.REVERTED:
            self.reverted_in.setdefault(row, set()).add(position)
        if treated:
            self.confirmed += int(end is LeaseState.CONFIRMED)
            self.reverted += int(end is LeaseState.REVERTED)
            self.late_confirmed += int(late and end is LeaseState.CONFIRMED)
            self.late_reverted += int(late and end is LeaseState.REVERTED)
        return True

    def signal(self, position: int) -> bool:
        """Fold somebody's word that an exposed device is down; give whether it was news.

        A device that had confirmed counts as reverted from now on: what a person sees outweighs a probe.
        """
        if not self.treated_lease[position] or position in self.signalled:
            return False
        self.signalled.add(position)
        if self.state[position] == LeaseState.CONFIRMED:
            late = bool(self.late[position])
            row = self._counts[0 if late else int(self.ring_at_lease[position])]
            row[0, LeaseState.CONFIRMED] -= 1
            row[0, LeaseState.REVERTED] += 1
            self.state[position] = LeaseState.REVERTED
            self.confirmed -= 1
            self.reverted += 1
            self.late_confirmed -= int(late)
            self.late_reverted += int(late)
        return True

    def set_aside(self, position: int, open_rings: Sequence[int]) -> None:
        """Fold the setting aside of a device's reports: its treated lease is unanswered again, its placebo leases fine.

        Args:
            position: the device.
            open_rings: those of its rings that are not frozen.
        """
        self.aside.add(position)
        self.signalled.discard(position)
        if self.treated_lease[position]:
            self._unanswer(position)
        for ring in open_rings:
            placebo = not (self.treated_lease[position] and self.ring_at_lease[position] == ring)
            if placebo and position in self.reverted_in.get(ring, ()):
                self._counts[ring][1, LeaseState.REVERTED] -= 1
                self._counts[ring][1, LeaseState.CONFIRMED] += 1
        if not self.treated_lease[position] and self.state[position] == LeaseState.PENDING:
            self._waiting_for(position).add(int(self.leased_ms[position]), -1)
            self._counts[int(self.ring_at_lease[position])][1, LeaseState.CONFIRMED] += 1
            self.state[position] = LeaseState.CONFIRMED

    def _unanswer(self, position: int) -> None:
        state, late = LeaseState(int(self.state[position])), int(self.late[position])
        if state is LeaseState.PENDING:
            return
        row = self._counts[0 if late else int(self.ring_at_lease[position])]
        row[0, state] -= 1
        confirmed = int(state is LeaseState.CONFIRMED)
        self.confirmed -= confirmed
        self.reverted -= 1 - confirmed
        self.late_confirmed -= late * confirmed
        self.late_reverted -= late * (1 - confirmed)
        self.state[position] = LeaseState.PENDING
        self._waiting_for(position).add(int(self.leased_ms[position]))

    def silent(self, now_ms: int, observe_ms: int) -> int:
        """Exposed devices of which nothing has been heard within the observation time."""
        return sum(treated.silent(now_ms - observe_ms) for treated, _ in self._waiting)

    def waiting(self, now_ms: int, observe_ms: int) -> int:
        """Leases of either arm that may still be answered in time."""
        arms = [arm for ring in self._waiting for arm in ring]
        return sum(arm.pending - arm.silent(now_ms - observe_ms) for arm in arms)

    def arm(self, ring: int, arm: Arm, now_ms: int, observe_ms: int) -> ArmCounts:
        """Count one arm of one ring; ring 0 holds the late devices."""
        if ring >= len(self._counts):
            return ArmCounts(0, 0, 0, 0)
        row = self._counts[ring][_ARM_ROW[arm]]
        return ArmCounts(
            int(row[LeaseState.PENDING]),
            int(row[LeaseState.CONFIRMED]),
            int(row[LeaseState.REVERTED]),
            self._waiting[ring][_ARM_ROW[arm]].silent(now_ms - observe_ms),
        )
