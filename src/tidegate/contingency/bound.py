"""Below what no schedule can get. Every step only takes a constraint away, so the bound holds for each case.

1. Alone: a service is not back before its `needs`-th device could be, if all technicians cared for it alone; nor before
   so many devices, each as short as its shortest, can be done whole;
   before its work, with that of all it depends on, is done by everyone who may do it, without travel or shifts.
2. Together: take travel, skills, dependencies and shifts away and let work be divided at will. Then the technicians
   are one machine whose capacity by time x is at most sum over technicians of max(0, x - a), where a is when this
   technician can first be at any device. Its inverse is concave, so it lies above the chord from no work to all
   work: a service that is done after w hours of work is done at `first + slope * w` at the earliest. On that line
   Smith's rule (most value per hour of work first) is the cheapest order (W. E. Smith, 1956).
3. Mixed: for any shares l in [0, 1], max(together, alone) >= l * together + (1 - l) * alone, so Smith's rule with
   values l * v, plus the rest at their bound alone, is a bound too. A few shares are tried and the best is kept.
"""

from __future__ import annotations

import numpy as np

from tidegate.contingency.board import Board, Groups

ROUNDS = 30


def lower_bounds(groups: Groups) -> tuple[float, float]:
    """Give a lower bound of the cost (value units) and one of the makespan (hours)."""
    case = groups.case
    if case.devices == 0:
        return 0.0, 0.0
    alone = _alone(groups)
    values = np.array([service.value_per_h for service in case.services.values()])
    floor = np.array([alone[name] for name in case.services])
    best = float(values @ floor)
    for skill in [frozenset[str](), *{b.skills for b in case.batches if b.skills}]:
        work = np.array([_work(groups, name, skill) for name in case.services])
        line = _line(groups, skill, float(work.sum()))
        if line is not None:
            best = max(best, _mixed(values, work, floor, *line))
    return best, _makespan(groups)


def _first(groups: Groups) -> np.ndarray:
    """When each technician can first be at any device (T)."""
    sites = np.unique(groups.site[groups.count > 0])
    return groups.arrives + groups.shortest_h[groups.home][:, sites].min(axis=1)


def _able(groups: Groups, skill: frozenset[str]) -> np.ndarray:
    return np.array([skill <= t.skills for t in groups.case.technicians])


def _work(groups: Groups, name: str, skill: frozenset[str]) -> float:
    """Least hours of work that need `skill` before a service is back: the shortest of what cannot be avoided."""
    members, needs = groups.members[name], groups.case.services[name].needs
    free = 0
    hours: list[np.ndarray] = []
    for batch in members:
        if skill <= groups.case.batches[batch].skills:
            hours.append(np.full(groups.count[batch], groups.hours[batch]))
        else:
            free += int(groups.count[batch])
    forced = needs - free
    if forced <= 0 or not hours:
        return 0.0
    return float(np.sort(np.concatenate(hours))[:forced].sum())


def _line(groups: Groups, skill: frozenset[str], work: float) -> tuple[float, float] | None:
    """Give the chord (first, slope) below the time at which so much work can be done."""
    able = _able(groups, skill) if skill else np.ones(len(groups.home), dtype=bool)
    begins = np.sort(_first(groups)[able & np.isfinite(_first(groups))])
    if work <= 0 or not len(begins):
        return None
    first = float(begins[0])
    return first, (_done_by(begins, work) - first) / work


def _done_by(begins: np.ndarray, work: float) -> float:
    """Solve sum of max(0, x - begins) = work for x."""
    have = np.arange(1, len(begins) + 1)
    ends = (work + np.cumsum(begins)) / have
    # With the first j people: right where the next one begins only after all is done.
    return float(ends.min())


def _mixed(values: np.ndarray, work: np.ndarray, floor: np.ndarray, first: float, slope: float) -> float:
    share, best = (work > 0).astype(float), 0.0
    for turn in range(ROUNDS):
        weight = values * share
        order = np.argsort(-weight / np.maximum(work, 1e-300), kind="stable")
        together = np.empty_like(work)
        together[order] = first + slope * np.cumsum(work[order])
        best = max(best, float(weight @ together + (values * (1 - share)) @ floor))
        scale = np.maximum(np.maximum(together, floor), 1e-9)
        step = 0.5 / (1 + turn / 4)
        share = np.where(work > 0, np.clip(share + step * (together - floor) / scale, 0.0, 1.0), 0.0)
    return best


def _alone(groups: Groups) -> dict[str, float]:
    """Give per service a time before which it cannot be back, whatever is done."""
    case, board = groups.case, Board(groups, groups.shortest_h)
    begins = np.sort(_first(groups))
    begins = begins[np.isfinite(begins)]
    found: dict[str, float] = {}
    below: dict[str, frozenset[str]] = {}
    works = {name: _work(groups, name, frozenset()) for name in case.services}
    for name in case.order:
        service, members = case.services[name], groups.members[name]
        own = 0.0
        if service.needs:
            soonest = np.repeat(board.ends(members).min(axis=1), groups.count[members])
            own = max(float(np.sort(soonest)[service.needs - 1]), _in_rounds(groups, members, service.needs))
        below[name] = frozenset({name}).union(*(below[one] for one in service.depends_on))
        work = sum(works[one] for one in below[name])
        together = _done_by(begins, work) if work > 0 else 0.0
        found[name] = max([own, together, *(found[one] for one in service.depends_on)])
    return found


def _in_rounds(groups: Groups, members: np.ndarray, needs: int) -> float:
    """Give when `needs` devices can be done if each takes as long as the shortest: whole devices, one after another."""
    sites, shortest = np.unique(groups.site[members]), float(groups.hours[members].min())
    begins = groups.arrives + groups.shortest_h[groups.home][:, sites].min(axis=1)
    begins = begins[np.isfinite(begins)]
    low, high = 0.0, float(begins.min()) + needs * shortest
    for _ in range(40):
        middle = (low + high) / 2
        done = np.floor((middle - begins) / shortest + 1e-9)
        low, high = (low, middle) if done[done > 0].sum() >= needs else (middle, high)
    return low


def _makespan(groups: Groups) -> float:
    begins = np.sort(_first(groups))
    soonest = Board(groups, groups.shortest_h).ends(np.flatnonzero(groups.count > 0)).min(axis=1)
    work = float(groups.hours @ groups.count)
    return max(float(soonest.max()), _done_by(begins[np.isfinite(begins)], work))


__all__ = ["lower_bounds"]
