"""The fold of leases and reports into evidence: counts by ring, arm and outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.core.model import Arm, Outcome
from tidegate.core.rings import Rings
from tidegate.core.waiting import Waiting
from tidegate.core.widths import wide_enough


class LeaseState(IntEnum):
    """What is known of a device's newest lease."""

    NONE = 0
    PENDING = 1
    CONFIRMED = 2
    REVERTED = 3


Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_ENDS = {Outcome.CONFIRMED: LeaseState.CONFIRMED, Outcome.REVERTED: LeaseState.REVERTED}
_OPEN = int(LeaseState.PENDING)
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
    """What the leases of one rollout have come to. Arrays by roster position, about 8 bytes a device.

    `ring_at_lease`, `arm`, `state` and `leased_ms` describe the newest lease of each device; a device gets a treated
    lease once in a rollout, and after it none.
    """

    def __init__(self, rings: Rings, started_ms: int = 0) -> None:
        devices = rings.devices
        self.ring_at_lease: npt.NDArray[Any] = np.zeros(devices, dtype=np.uint8)
        self.treated_lease = np.zeros(devices, dtype=np.bool_)
        self.state = np.zeros(devices, dtype=np.uint8)
        self._started_ms = started_ms
        self._leased: npt.NDArray[Any] = np.zeros(devices, dtype=np.int32)
        """When, in milliseconds after the start: as many hold for 24 days in four bytes."""
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
        self._rows_to(ring)
        if self.state[position] == LeaseState.PENDING:
            self._waiting_for(position).add(self.leased_at(position), -1)
        self.ring_at_lease = wide_enough(self.ring_at_lease, ring)
        self.ring_at_lease[position] = ring
        self.treated_lease[position] = treated
        self.state[position] = LeaseState.PENDING
        self._leased = wide_enough(self._leased, abs(at_ms - self._started_ms))
        self._leased[position] = at_ms - self._started_ms
        self._counts[row][_ARM_ROW[arm], LeaseState.PENDING] += 1
        if treated:
            self.exposed += 1
            self.late[position] = late
            self.late_exposed += int(late)
        self._waiting[row][_ARM_ROW[arm]].add(at_ms)

    @property
    def leased_ms(self) -> Ints:
        """When each device had its newest lease, int64, shape (devices,); made anew each time."""
        return self._leased.astype(np.int64) + self._started_ms

    def leased_at(self, position: int) -> int:
        """Give when one device had its newest lease."""
        return int(self._leased[position]) + self._started_ms

    def _moments(self, positions: Ints) -> Ints:
        return self._leased[positions].astype(np.int64) + self._started_ms

    def _waiting_for(self, position: int) -> Waiting:
        """Where the device's newest lease is counted while it is pending."""
        treated = bool(self.treated_lease[position])
        row = 0 if treated and self.late[position] else int(self.ring_at_lease[position])
        return self._waiting[row][0 if treated else 1]

    def is_open(self, position: int, ring: int) -> bool:
        """Say whether a lease is the device's newest and has not ended."""
        return self.ring_at_lease.item(position) == ring and self.state.item(position) == _OPEN

    def report(self, position: int, ring: int, outcome: Outcome) -> bool:
        """Fold one report; give whether it changed anything.

        A report for a lease that is not the device's newest, or has ended, changes nothing: it came twice, or late.
        """
        if not self.is_open(position, ring) or position in self.aside:
            return False
        treated, late = bool(self.treated_lease[position]), bool(self.late[position])
        end = _ENDS[outcome]
        row = 0 if treated and late else ring
        self.state[position] = end
        self._waiting[row][0 if treated else 1].add(self.leased_at(position), -1)
        self._counts[row][0 if treated else 1, end] += 1
        if row and end is LeaseState.REVERTED:
            self.reverted_in.setdefault(row, set()).add(position)
        if treated:
            self.confirmed += int(end is LeaseState.CONFIRMED)
            self.reverted += int(end is LeaseState.REVERTED)
            self.late_confirmed += int(late and end is LeaseState.CONFIRMED)
            self.late_reverted += int(late and end is LeaseState.REVERTED)
        return True

    def _rows_to(self, ring: int) -> None:
        while len(self._counts) <= ring:
            self._counts.append(np.zeros((2, 4), dtype=np.int64))
            self._waiting.append((Waiting(), Waiting()))

    def grant_many(self, positions: Ints, rings: Ints, treated: Bools, at_ms: Ints, late: Bools) -> None:
        """Fold leases as `grant` does one after the other; no position comes twice. Arrays of shape (n,)."""
        self._rows_to(int(rings.max()))
        pending = self.state[positions] == LeaseState.PENDING
        if pending.any():
            before = positions[pending]
            self._shift(*self._places(before), self._moments(before), -1)
        self.ring_at_lease = wide_enough(self.ring_at_lease, int(rings.max()))
        self.ring_at_lease[positions] = rings
        self.treated_lease[positions] = treated
        self.state[positions] = LeaseState.PENDING
        since = at_ms - self._started_ms
        self._leased = wide_enough(self._leased, int(np.abs(since).max()))
        self._leased[positions] = since
        self.late[positions[treated]] = late[treated]
        rows = np.where(late, 0, rings)
        arms = np.where(treated, 0, 1)
        self._count(rows, arms, np.full(len(rows), int(LeaseState.PENDING)))
        self.exposed += int(np.count_nonzero(treated))
        self.late_exposed += int(np.count_nonzero(treated & late))
        self._shift(rows, arms, at_ms, 1)

    def report_many(self, positions: Ints, rings: Ints, ends: npt.NDArray[np.uint8]) -> Bools:
        """Fold reports as `report` does one after the other; no position comes twice. Arrays of shape (n,).

        `ends` holds `LeaseState` values. Returns which were news.
        """
        news = (self.ring_at_lease[positions] == rings) & (self.state[positions] == LeaseState.PENDING)
        if self.aside:
            news &= ~np.isin(positions, np.fromiter(self.aside, dtype=np.int64))
        if not news.all():
            positions, ends = positions[news], ends[news]
        rows, arms = self._places(positions)
        self.state[positions] = ends
        self._shift(rows, arms, self._moments(positions), -1)
        self._count(rows, arms, ends)
        treated = arms == 0
        confirmed, reverted = treated & (ends == LeaseState.CONFIRMED), treated & (ends == LeaseState.REVERTED)
        late = rows == 0
        back = (ends == LeaseState.REVERTED) & ~late
        for position, row in zip(positions[back].tolist(), rows[back].tolist(), strict=True):
            self.reverted_in.setdefault(row, set()).add(position)
        self.confirmed += int(np.count_nonzero(confirmed))
        self.reverted += int(np.count_nonzero(reverted))
        self.late_confirmed += int(np.count_nonzero(confirmed & late))
        self.late_reverted += int(np.count_nonzero(reverted & late))
        return news

    def _places(self, positions: Ints) -> tuple[Ints, Ints]:
        """Give the count rows and arms (0 treated, 1 placebo) of the devices' newest leases."""
        treated = self.treated_lease[positions]
        rows = np.where(treated & self.late[positions], 0, self.ring_at_lease[positions])
        return rows.astype(np.int64), np.where(treated, 0, 1)

    def _count(self, rows: Ints, arms: Ints, columns: npt.NDArray[np.integer[Any]]) -> None:
        numbers = np.bincount(rows * 8 + arms * 4 + columns)
        for place in np.flatnonzero(numbers).tolist():
            self._counts[place >> 3][place >> 2 & 1, place & 3] += int(numbers[place])

    def _shift(self, rows: Ints, arms: Ints, leased_ms: Ints, number: int) -> None:
        places = rows * 2 + arms
        several: list[int] = np.flatnonzero(np.bincount(places)).tolist()
        for place in several:
            found: Ints = leased_ms if len(several) == 1 else leased_ms[places == place]
            self._waiting[place >> 1][place & 1].add_many(found, number)

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
            self._waiting_for(position).add(self.leased_at(position), -1)
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
        self._waiting_for(position).add(self.leased_at(position))

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
