"""Where technicians are and when they are free, as arrays; and the rule that gives services their devices in order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse.csgraph import floyd_warshall

from tidegate.contingency.case import Batch, Case, Shifts

FOREVER = np.inf
FEW = 8


@dataclass(frozen=True, slots=True)
class Assignment:
    """One repair: technician `technician` on a device of batch `batch`; times in hours since the start."""

    technician: int
    batch: int
    travel_h: float
    start_h: float
    end_h: float


def fit_shifts(shifts: Shifts, ready: np.ndarray, hours: np.ndarray) -> np.ndarray:
    """Give the earliest starts from `ready` on at which work of `hours` lies within one shift; infinite if never."""
    best = np.full(np.broadcast(ready, hours).shape, FOREVER)
    for start, end in shifts.windows:
        rounds = (0.0,)
        if shifts.every_h:
            now = np.maximum(np.floor((ready - start) / shifts.every_h), 0.0)
            rounds = (now, now + 1.0)
        for turn in rounds:
            at = np.maximum(ready, start + turn * shifts.every_h)
            fits = at + hours <= end + turn * shifts.every_h + 1e-9
            best = np.where(fits & np.isfinite(ready), np.minimum(best, at), best)
    return best


class Groups:
    """A case's batches as columns: site, hours, release and how many are left."""

    def __init__(self, case: Case) -> None:
        """Index what the case names."""
        at = {site: i for i, site in enumerate(case.sites)}
        self.case = case
        self.site = np.array([at[b.site] for b in case.batches], dtype=np.intp)
        self.hours = np.array([b.hours for b in case.batches], dtype=float)
        self.release = np.array([b.release_h for b in case.batches], dtype=float)
        self.count = np.array([b.count for b in case.batches], dtype=np.int64)
        self.home = np.array([at[t.site] for t in case.technicians], dtype=np.intp)
        self.arrives = np.array([t.arrives_h for t in case.technicians], dtype=float)
        self.sites: list[int] = self.site.tolist()
        self.work: list[float] = self.hours.tolist()
        self.members: dict[str, np.ndarray] = {}
        by_service: dict[str, list[int]] = {name: [] for name in case.services}
        for i, batch in enumerate(case.batches):
            by_service[batch.service].append(i)
        self.members = {name: np.array(found, dtype=np.intp) for name, found in by_service.items()}
        self._able: dict[frozenset[str], np.ndarray] = {}
        self.unable = [self._unable(batch) for batch in case.batches]
        """Per batch: who may not do it (a mask over technicians), or None where everybody may."""
        self.shift_classes = _shift_classes(case)

    @cached_property
    def shortest_h(self) -> np.ndarray:
        """Hours from site to site by the shortest way: what is given need not keep the triangle inequality."""
        direct = self.case.travel_h
        if len(direct) < 3:
            return direct
        known = np.where(np.isfinite(direct), np.maximum(direct, 1e-12), 0.0)
        return np.minimum(floyd_warshall(known), direct)

    def _unable(self, batch: Batch) -> np.ndarray | None:
        if not batch.skills:
            return None
        if batch.skills not in self._able:
            able = [batch.skills <= t.skills for t in self.case.technicians]
            self._able[batch.skills] = ~np.array(able)
        mask = self._able[batch.skills]
        return mask if mask.any() else None


def _shift_classes(case: Case) -> list[tuple[Shifts, np.ndarray]]:
    found: dict[Shifts, list[int]] = {}
    for i, technician in enumerate(case.technicians):
        if technician.shifts is not None:
            found.setdefault(technician.shifts, []).append(i)
    return [(shifts, np.array(who, dtype=np.intp)) for shifts, who in found.items()]


class Board:
    """The state of a schedule in the making. Shapes: T technicians; `free` in hours, `place` indexes sites."""

    def __init__(self, groups: Groups, travel_h: np.ndarray | None = None) -> None:
        """Begin with everyone where they are."""
        self.groups = groups
        self.travel_h = groups.case.travel_h if travel_h is None else travel_h
        self.free = groups.arrives.copy()
        self.place = groups.home.copy()
        self.left = groups.count.copy()
        self.done: list[Assignment] = []
        self.shift_of: dict[int, Shifts] = {int(t): shifts for shifts, who in groups.shift_classes for t in who}

    def ends(self, batches: np.ndarray) -> np.ndarray:
        """Give when each technician would end a device of each batch: shape (batches, T)."""
        g = self.groups
        # Rows of technicians in memory, seen from the other side: a column is then one piece, and cheap to replace.
        if len(batches) < FEW:
            start = self.travel_h[self.place[None, :], g.site[batches][:, None]]
        else:
            start = self.travel_h[self.place].take(g.site[batches], axis=1).T
        start += self.free
        release = g.release[batches]
        if release.any():
            np.maximum(start, release[:, None], out=start)
        hours = g.hours[batches][:, None]
        for shifts, who in g.shift_classes:
            start[:, who] = fit_shifts(shifts, start[:, who], hours)
        end = start
        end += hours
        for row, batch in enumerate(batches):
            mask = g.unable[batch]
            if mask is not None:
                end[row, mask] = FOREVER
        return end

    def give(self, batches: np.ndarray, needed: int) -> list[float]:
        """Repair `needed` devices of these batches, each time the pair of earliest end; give the ends, in this order.

        A pair that never ends is not taken: then fewer than `needed` come back.
        """
        batches = batches[self.left[batches] > 0]
        ends: list[float] = []
        if not len(batches):
            return ends
        column = _Columns(self, batches)
        table = self.ends(batches)
        pick = table.argmin(axis=0)
        best = table[pick, np.arange(table.shape[1])]
        numbers = batches.tolist()
        while len(ends) < needed:
            who = int(best.argmin())
            end = float(best[who])
            if end == FOREVER:
                break
            row = int(pick[who])
            self.take(numbers[row], who, end)
            ends.append(end)
            if self.left[numbers[row]] <= 0:
                column.close(row)
                table[row] = FOREVER
                stale = np.flatnonzero(pick == row)
                pick[stale] = table[:, stale].argmin(axis=0)
                best[stale] = table[pick[stale], stale]
            now = column.of(who)
            table[:, who] = now
            row = int(now.argmin())
            pick[who], best[who] = row, now[row]
        return ends

    def column_of(self, batch: int) -> np.ndarray:
        """Give when each technician would end a device of one batch (T)."""
        return self.ends(np.array([batch]))[0]

    def take(self, batch: int, who: int, end: float) -> None:
        """Put a device of a batch down for a technician, who ends it then."""
        g = self.groups
        site = g.sites[batch]
        travel = float(self.travel_h[self.place[who], site])
        self.done.append(Assignment(who, batch, travel, end - g.work[batch], end))
        self.free[who] = end
        self.place[who] = site
        self.left[batch] -= 1


class _Columns:
    """One technician's ends for some batches, again and again: what does not change is looked up once."""

    def __init__(self, board: Board, batches: np.ndarray) -> None:
        g = board.groups
        self._board = board
        self._site = g.site[batches]
        self._hours = g.hours[batches]
        self._fixed = np.zeros(len(batches))
        release = g.release[batches]
        self._release = release if release.any() else None
        masks = [g.unable[b] for b in batches.tolist()]
        some = next((mask for mask in masks if mask is not None), None)
        self._barred: np.ndarray | None = None
        if some is not None:
            nobody = np.zeros_like(some)
            self._barred = np.stack([nobody if mask is None else mask for mask in masks])

    def close(self, row: int) -> None:
        """Say that nothing is left of a batch."""
        self._fixed[row] = FOREVER

    def of(self, who: int) -> np.ndarray:
        """Give when this technician would end each (batches)."""
        board = self._board
        start = board.travel_h[board.place[who], self._site]
        start += board.free[who]
        if self._release is not None:
            np.maximum(start, self._release, out=start)
        shifts = board.shift_of.get(who)
        if shifts is not None:
            start = fit_shifts(shifts, start, self._hours)
        start += self._hours
        start += self._fixed
        if self._barred is not None:
            start[self._barred[:, who]] = FOREVER
        return start


def restored(case: Case, own: dict[str, float]) -> dict[str, float]:
    """Give when each service is back: its own `needs`-th device, and all that it depends on."""
    found: dict[str, float] = {}
    for name in case.order:
        found[name] = max([own[name], *(found[below] for below in case.services[name].depends_on)])
    return {name: found[name] for name in case.services}


def cost_of(case: Case, back: dict[str, float]) -> float:
    """Give the sum of value per hour times hours until restored."""
    return sum(
        case.services[name].value_per_h * hours for name, hours in back.items() if case.services[name].value_per_h
    )


def service_first(groups: Groups, order: Iterable[str], *, leftovers: bool = True) -> tuple[Board, dict[str, float]]:
    """Serve services in this order, each by earliest ends until it has what it needs; all other devices afterwards.

    Returns the board, and for each service when its own needed devices were done.
    """
    board, own = Board(groups), dict.fromkeys(groups.case.services, 0.0)
    order = list(order)
    for name in order:
        needs = groups.case.services[name].needs
        ends = board.give(groups.members[name], needs)
        own[name] = (FOREVER if len(ends) < needs else max(ends)) if needs else 0.0
    if leftovers:
        for name in order:
            board.give(groups.members[name], int(board.left[groups.members[name]].sum()))
    return board, own
