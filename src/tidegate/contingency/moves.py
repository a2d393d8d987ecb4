"""Making a schedule better: services put elsewhere in the order, and in small cases single devices as well."""

from __future__ import annotations

import math
from random import Random

import numpy as np

from tidegate.contingency.board import Assignment, Board, Groups, cost_of, fit_shifts, restored, service_first
from tidegate.contingency.case import Case
from tidegate.contingency.orders import close

MOST_MOVES = 300
FEWEST_MOVES = 5
"""Below this, the pass that says what the order costs before any move is dearer than what the moves bring."""
WORK_PER_CASE = 0.4
"""Seconds that all moves together may take on a slow machine, by the estimate below; counted, never timed."""
SMALL_DEVICES = 40
SMALL_STEPS = 60_000


def moves_for(groups: Groups) -> int:
    """Give how many moves a case of this size is worth: a function of the case alone, so that runs repeat."""
    case = groups.case
    needed = sum(service.needs for service in case.services.values())
    table = sum(len(members) for members in groups.members.values()) * len(case.technicians)
    estimate_s = needed * 15e-6 + len(case.services) * 60e-6 + table * 10e-9
    moves = int(min(MOST_MOVES, WORK_PER_CASE / max(estimate_s, 1e-9)))
    return moves if moves >= FEWEST_MOVES else 0


def move_services(groups: Groups, order: list[str], cost: float, random: Random, moves: int) -> list[str]:
    """Put one service elsewhere, keep what is cheaper, and so on, `moves` times."""
    case = groups.case
    if len(order) < 2:
        return order
    for _ in range(moves):
        tried = list(order)
        name = tried.pop(random.randrange(len(tried)))
        tried.insert(random.randrange(len(tried) + 1), name)
        tried = close(case, tried)
        if tried == order:
            continue
        found = cost_of(case, restored(case, service_first(groups, tried, leftovers=False)[1]))
        if found < cost - 1e-12:
            order, cost = tried, found
    return order


class Line:
    """A small case as a line of devices: each in turn to the technician who ends it first, or to one who is named."""

    def __init__(self, groups: Groups) -> None:
        """Take plain numbers: at this size they are faster than arrays."""
        case = groups.case
        self.case, self.groups = case, groups
        self.batch = [b for b in range(len(case.batches)) for _ in range(case.batches[b].count)]
        self.service = [case.batches[b].service for b in self.batch]
        self.site = [int(groups.site[b]) for b in self.batch]
        self.hours = [float(groups.hours[b]) for b in self.batch]
        self.release = [float(groups.release[b]) for b in self.batch]
        everyone = range(len(case.technicians))
        self.able = [[t for t in everyone if case.batches[b].skills <= case.technicians[t].skills] for b in self.batch]
        self.travel: list[list[float]] = case.travel_h.tolist()
        self.shifts = [t.shifts for t in case.technicians]

    def play(self, line: list[int], named: list[int]) -> tuple[float, list[Assignment]]:
        """Give cost and assignments; a device of a service that is back already waits until the end."""
        case = self.case
        free, place = self.groups.arrives.tolist(), self.groups.home.tolist()
        left = {name: service.needs for name, service in case.services.items()}
        own = dict.fromkeys(case.services, 0.0)
        made: list[Assignment] = []
        later: list[int] = []
        for device in line:
            name = self.service[device]
            if left[name]:
                left[name] -= 1
                made.append(self._give(device, named[device], free, place))
                own[name] = max(own[name], made[-1].end_h)
            else:
                later.append(device)
        cost = cost_of(case, restored(case, own))
        made += [self._give(device, named[device], free, place) for device in later]
        return cost, made

    def _give(self, device: int, named: int, free: list[float], place: list[int]) -> Assignment:
        site, hours, release = self.site[device], self.hours[device], self.release[device]
        best, who, way = math.inf, -1, 0.0
        able = self.able[device]
        for t in (named,) if named in able else able:
            travel = self.travel[place[t]][site]
            start = max(free[t] + travel, release)
            shifts = self.shifts[t]
            if shifts is not None:
                start = float(fit_shifts(shifts, np.array(start), np.array(hours)))
            if start + hours < best or who < 0:
                best, who, way = start + hours, t, travel
        free[who], place[who] = best, site
        return Assignment(who, self.batch[device], way, best - hours, best)


def move_devices(groups: Groups, start: list[Assignment], random: Random) -> tuple[float, list[Assignment]]:
    """Anneal the order of devices and who takes them, from a schedule that is good already; ties by the last end."""
    line = Line(groups)
    unused: dict[int, list[int]] = {}
    for device, batch in enumerate(line.batch):
        unused.setdefault(batch, []).append(device)
    order = [unused[a.batch].pop(0) for a in start]
    named = [-1] * len(order)
    cost, made = line.play(order, named)
    best = round(cost, 9), last_end(made), cost, made
    steps = SMALL_STEPS // max(len(order) * len(groups.case.technicians), 12)
    heat = 0.05 * cost
    for step in range(steps if len(order) > 1 or len(groups.case.technicians) > 1 else 0):
        tried, tried_named = list(order), list(named)
        if random.random() < 0.7 and len(order) > 1:
            device = tried.pop(random.randrange(len(tried)))
            tried.insert(random.randrange(len(tried) + 1), device)
        else:
            device = random.randrange(len(tried))
            tried_named[device] = random.choice([-1, *line.able[device]])
        found, schedule = line.play(tried, tried_named)
        warmth = heat * (1 - step / steps) ** 2
        if found <= cost or (warmth > 0 and random.random() < math.exp((cost - found) / warmth)):
            order, named, cost = tried, tried_named, found
            best = min(best, (round(cost, 9), last_end(schedule), cost, schedule), key=lambda one: one[:2])
    return best[2], best[3]


def last_end(made: list[Assignment]) -> float:
    """Give when the last repair ends."""
    return max((one.end_h for one in made), default=0.0)


def is_small(case: Case) -> bool:
    """Say whether a case is small enough to move single devices."""
    return 1 <= case.devices <= SMALL_DEVICES


__all__ = ["Board", "is_small", "move_devices", "move_services", "moves_for"]
