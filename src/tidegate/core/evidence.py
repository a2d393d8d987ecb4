"""The fold of leases and reports into evidence: counts by ring, arm and outcome."""

from __future__ import annotations

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
        self.exposed = self.confirmed = self.reverted = 0
        self.late_exposed = self.late_confirmed = self.late_reverted = 0
        self.signalled: set[int] = set()

    def grant(self, position: int, ring: int, arm: Arm, at_ms: int, *, late: bool = False) -> None:
        """Fold one lease. A late treated lease counts in row 0, apart from every ring."""
        treated = arm is Arm.TREATED
        row = 0 if late else ring
        while len(self._counts) <= ring:
            self._counts.append(np.zeros((2, 4), dtype=np.int64))
        self.ring_at_lease[position] = ring
        self.treated_lease[position] = treated
        self.state[position] = LeaseState.PENDING
        self.leased_ms[position] = at_ms
        self._counts[row][_ARM_ROW[arm], LeaseState.PENDING] += 1
        if treated:
            self.exposed += 1
            self.late[position] = late
            self.late_exposed += int(late)

    def report(self, position: int, ring: int, outcome: Outcome) -> bool:
        """Fold one report; give whether it changed anything.

        A report for a lease that is not the device's newest, or has ended, changes nothing: it came twice, or late.
        """
        if self.ring_at_lease[position] != ring or self.state[position] != LeaseState.PENDING:
            return False
        treated, late = bool(self.treated_lease[position]), bool(self.late[position])
        end = _ENDS[outcome]
        row = 0 if treated and late else ring
        self.state[position] = end
        self._counts[row][0 if treated else 1, end] += 1
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

    def _silent_mask(self, now_ms: int, observe_ms: int) -> npt.NDArray[np.bool_]:
        return (self.state == LeaseState.PENDING) & (self.leased_ms + observe_ms <= now_ms)

    def silent(self, now_ms: int, observe_ms: int) -> int:
        """Exposed devices of which nothing has been heard within the observation time."""
        return int(np.count_nonzero(self._silent_mask(now_ms, observe_ms) & self.treated_lease))

    def waiting(self, now_ms: int, observe_ms: int) -> int:
        """Leases of either arm that may still be answered in time."""
        return int(np.count_nonzero((self.state == LeaseState.PENDING) & (self.leased_ms + observe_ms > now_ms)))

    def arm(self, ring: int, arm: Arm, now_ms: int, observe_ms: int) -> ArmCounts:
        """Count one arm of one ring; ring 0 holds the late devices."""
        if ring >= len(self._counts):
            return ArmCounts(0, 0, 0, 0)
        row = self._counts[ring][_ARM_ROW[arm]]
        mask = self._silent_mask(now_ms, observe_ms) & (self.treated_lease == (arm is Arm.TREATED))
        mask &= self.late if ring == 0 else (self.ring_at_lease == ring) & ~self.late
        return ArmCounts(
            int(row[LeaseState.PENDING]),
            int(row[LeaseState.CONFIRMED]),
            int(row[LeaseState.REVERTED]),
            int(np.count_nonzero(mask)),
        )
