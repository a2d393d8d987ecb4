"""The recovery schedule: who repairs what, when; when each service is back; the cost, and how far it can be off."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from tidegate.contingency.board import FOREVER, Assignment, Board, Groups, cost_of, restored, service_first
from tidegate.contingency.bound import lower_bounds
from tidegate.contingency.case import Case
from tidegate.contingency.moves import is_small, move_devices, move_services, moves_for
from tidegate.contingency.orders import starting_orders
from tidegate.core.errors import Refused

SEED = 19_072_024


@dataclass(frozen=True, slots=True)
class Schedule:
    """A whole schedule. Hours count from the start of the case; `cost` is value units."""

    case: Case
    services: dict[str, float]
    cost: float
    makespan_h: float
    lower_bound: float
    makespan_bound_h: float
    assignments: tuple[Assignment, ...]
    order: tuple[str, ...]

    @property
    def gap(self) -> float | None:
        """How far the cost can be above the optimum at most, as a share; None where the bound is 0."""
        return self.cost / self.lower_bound - 1 if self.lower_bound > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "services": {name: _round(hours) for name, hours in self.services.items()},
            "cost": _round(self.cost),
            "makespan_h": _round(self.makespan_h),
            "lower_bound": _round(self.lower_bound),
            "makespan_lower_bound_h": _round(self.makespan_bound_h),
            "gap": None if self.gap is None else _round(self.gap),
            "assignments": [self.row(one) for one in self.assignments],
        }

    def row(self, one: Assignment) -> dict[str, Any]:
        """Give one assignment as plain values."""
        batch = self.case.batches[one.batch]
        return {
            "technician": self.case.technicians[one.technician].name,
            "service": batch.service,
            "site": batch.site,
            **({"device": batch.name} if batch.name else {}),
            "minutes": _round(batch.hours * 60),
            "travel_min": _round(one.travel_h * 60),
            "start_h": _round(one.start_h),
            "end_h": _round(one.end_h),
        }


def _round(value: float) -> float:
    return round(value, 9) + 0.0


def plan_recovery(case: Case, *, improve: bool = True, bound: bool = True, seed: int = SEED) -> Schedule:
    """Make a schedule: service-first earliest completion, improved by moves as far as the case's size allows.

    The same case and seed give the same schedule.

    Raises:
        Refused: if the shifts that are given end before everything is repaired.
    """
    groups, random = Groups(case), Random(seed)
    order = _good_order(groups, random, improve=improve)
    board, own = service_first(groups, order)
    made, back = board.done, restored(case, own)
    if improve and is_small(case) and len(made) == case.devices:
        found, better = move_devices(groups, made, random)
        if found <= cost_of(case, back) + 1e-12:
            made, back = better, restored_by(case, better)
    _check_whole(case, back, len(made))
    low = lower_bounds(groups) if bound else (0.0, 0.0)
    made = sorted(made, key=lambda one: (one.start_h, one.technician))
    makespan = max((one.end_h for one in made), default=0.0)
    return Schedule(case, back, cost_of(case, back), makespan, *low, tuple(made), tuple(order))


def _good_order(groups: Groups, random: Random, *, improve: bool) -> list[str]:
    orders = starting_orders(groups)
    moves = moves_for(groups) if improve else 0
    if len(orders) == 1 and not moves:
        return orders[0]
    case = groups.case
    ranked = [
        (cost_of(case, restored(case, service_first(groups, order, leftovers=False)[1])), order) for order in orders
    ]
    cost, order = min(ranked, key=lambda one: one[0])
    return move_services(groups, order, cost, random, moves)


def restored_by(case: Case, made: list[Assignment]) -> dict[str, float]:
    """Give when each service is back under these assignments: at its `needs`-th end, and after its dependencies."""
    ends: dict[str, list[float]] = {name: [] for name in case.services}
    for one in made:
        ends[case.batches[one.batch].service].append(one.end_h)
    own = {
        name: sorted(ends[name])[service.needs - 1] if service.needs else 0.0 for name, service in case.services.items()
    }
    return restored(case, own)


def first_come(case: Case) -> tuple[float, float]:
    """Give cost and makespan of first come, first served: devices as listed, each to whoever is free first."""
    groups = Groups(case)
    board = Board(groups)
    for batch in range(len(case.batches)):
        for _ in range(case.batches[batch].count):
            _first_free(board, batch)
    return cost_of(case, restored_by(case, board.done)), max((one.end_h for one in board.done), default=0.0)


def _first_free(board: Board, batch: int) -> None:
    mask = board.groups.unable[batch]
    free = board.free.copy()
    if mask is not None:
        free[mask] = FOREVER
    ends = board.column_of(batch)
    free[ends == FOREVER] = FOREVER
    who = int(free.argmin())
    board.take(batch, who, float(ends[who]))


def _check_whole(case: Case, back: dict[str, float], made: int) -> None:
    never = [name for name, hours in back.items() if hours == FOREVER]
    if never:
        raise Refused(f"the shifts that are given end before {', '.join(never[:5])} can be back: add shifts or people")
    if made < case.devices:
        raise Refused(f"the shifts that are given end before {case.devices - made:,} devices are repaired: add shifts")
