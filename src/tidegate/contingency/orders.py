"""In which order services are served: most value per hour of work first, each after what it depends on."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tidegate.contingency.board import Groups
from tidegate.contingency.case import Case

MOST_FOR_CLOSED = 80


def works(groups: Groups) -> dict[str, float]:
    """Give each service's needed work in hours: its cheapest devices, with the way from the nearest technician."""
    near = groups.shortest_h[np.unique(groups.home)].min(axis=0)
    near = np.where(np.isfinite(near), near, 0.0)
    found: dict[str, float] = {}
    for name, members in groups.members.items():
        hours = np.repeat(groups.hours[members] + near[groups.site[members]], groups.count[members])
        needs = groups.case.services[name].needs
        if 0 < needs < len(hours):
            hours = np.partition(hours, needs - 1)
        found[name] = float(hours[:needs].sum())
    return found


def inherited(case: Case) -> dict[str, float]:
    """Give each service's own value and that of all that wait for it, per hour."""
    waiting: dict[str, set[str]] = {name: {name} for name in case.services}
    for name in reversed(case.order):
        for below in case.services[name].depends_on:
            waiting[below] |= waiting[name]
    return {name: sum(case.services[one].value_per_h for one in those) for name, those in waiting.items()}


def close(case: Case, wanted: Iterable[str]) -> list[str]:
    """Give an order in which each service stands after what it depends on, else as wanted."""
    order: dict[str, None] = {}
    for name in wanted:
        stack = [name]
        while stack:
            top = stack[-1]
            missing = [below for below in case.services[top].depends_on if below not in order]
            if top in order or not missing:
                order.setdefault(top)
                stack.pop()
            else:
                stack.extend(reversed(missing))
    return list(order)


def starting_orders(groups: Groups) -> list[list[str]]:
    """Give orders to begin with: by inherited value over work, and for few services by the densest closed set."""
    case, work, value = groups.case, works(groups), inherited(groups.case)
    ratio = {name: value[name] / max(work[name], 1e-9) for name in case.services}
    found = [close(case, sorted(case.services, key=lambda name: -ratio[name]))]
    if len(case.services) <= MOST_FOR_CLOSED:
        found.append(_densest(case, work))
    return found


def _densest(case: Case, work: dict[str, float]) -> list[str]:
    """Take again and again the service that, with all it still waits for, gives most value per hour of work."""
    left, order = list(case.services), list[str]()
    taken: set[str] = set()
    while left:
        best, best_ratio = [left[0]], -1.0
        for name in left:
            need = [one for one in close(case, [name]) if one not in taken]
            hours = max(sum(work[one] for one in need), 1e-9)
            ratio = sum(case.services[one].value_per_h for one in need) / hours
            if ratio > best_ratio:
                best, best_ratio = need, ratio
        order += best
        taken |= set(best)
        left = [name for name in left if name not in taken]
    return order
