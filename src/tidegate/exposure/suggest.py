"""The fewest moves that free the most value from single-vendor failure: bundles by value per device, with a bound.

A service is freed if some vendor took it alone before, and none does afterwards. Every plan is checked by the kernel.
The bound: a freed service needs, for each vendor, enough of its groups to lose fewer devices to that vendor than they
can spare. Splitting what that costs among all places where a group is needed counts no device twice, so the knapsack
over these shares is at least what any plan can free.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tidegate.exposure.estate import AtLeast, Estate, Kind, Named, Need
from tidegate.exposure.kernel import arrays_of
from tidegate.exposure.knapsack import most_value
from tidegate.exposure.moves import Move, can_replace, swap_devices
from tidegate.exposure.tree import in_order

Pair = tuple[str, str]
"""(group, vendor) that must be parted."""


@dataclass(slots=True)
class Plan:
    """Moves within a budget, what they free, and the most that any plan can free (`bound`)."""

    budget: int
    moves: list[tuple[Move, int]] = field(default_factory=lambda: [])
    freed: list[str] = field(default_factory=lambda: [])
    value: float = 0.0
    bound: float = 0.0
    stuck: dict[str, str] = field(default_factory=lambda: {})
    """Services that no move within the estate frees, and why."""
    after: Estate | None = None

    @property
    def moved(self) -> int:
        """Devices that change."""
        return sum(count for _, count in self.moves)

    @property
    def gap(self) -> float:
        """How far the bound lies above what was found, of the bound: 0 is proven best."""
        return 1.0 - self.value / self.bound if self.bound > 0 else 0.0


def suggest(estate: Estate, budget: int) -> Plan:
    """Find moves of at most `budget` devices; of several orders of trying, the best plan."""
    need = _Needing(estate)
    bound = need.bound(budget)
    orders: list[Callable[[float, int], float]] = [
        lambda value, cost: value / max(cost, 1),
        lambda value, cost: value,
        lambda value, cost: -cost,
    ]
    plans = [_greedy(need, budget, order) for order in orders]
    best = max(plans, key=lambda plan: (plan.value, -plan.moved))
    best.bound = max(bound, best.value)
    return best


def killers(estate: Estate) -> dict[str, list[str]]:
    """Name for each service the vendors that take it alone; services that none takes are left out."""
    arrays = arrays_of(estate)
    _, services = arrays.sweep()
    return {
        name: [arrays.columns[v] for v in np.flatnonzero(services[row])]
        for row, name in enumerate(arrays.services)
        if services[row].any()
    }


class _Needing:
    """What each service needs parted from whom, and what that costs at least."""

    def __init__(self, estate: Estate) -> None:
        self.estate = estate
        self.killers = killers(estate)
        self.values = estate.values()
        arrays = arrays_of(estate)
        excess = arrays.lost() - arrays.tolerates[:, None]
        self.excess: dict[Pair, int] = {
            (arrays.groups[g], arrays.columns[v]): int(excess[g, v]) for g, v in np.argwhere(excess > 0)
        }
        self.order = in_order(estate)
        alone = arrays.fall(
            np.eye(len(arrays.groups), dtype=bool), np.zeros((len(arrays.direct), len(arrays.groups)), bool)
        )
        full = [place for place, name in enumerate(arrays.groups) if crowded(estate, name)]
        self.hopeless = {name for row, name in enumerate(arrays.services) if alone[row, full].any()}
        """Services that fall with a group which cannot survive each vendor, however its devices are moved."""

    def parting(self, service: str, vendor: str, cost: Callable[[Pair], float]) -> tuple[float, frozenset[Pair]]:
        """Give the cheapest pairs to part so that a service survives a vendor: k smallest at each k of n."""
        done: dict[str, tuple[float, frozenset[Pair]]] = {}
        for name in self.order:
            done[name] = self._need(self.estate.services[name].needs, vendor, cost, done)
            if name == service:
                break
        return done[service]

    def _need(
        self, need: Need, vendor: str, cost: Callable[[Pair], float], done: dict[str, tuple[float, frozenset[Pair]]]
    ) -> tuple[float, frozenset[Pair]]:
        if isinstance(need, Named):
            return self._leaf(need, vendor, cost, done)
        parts = sorted((self._need(inner, vendor, cost, done) for inner in need.of), key=lambda part: part[0])
        kept = parts[: need.k]
        return sum(part[0] for part in kept), frozenset().union(*(part[1] for part in kept))

    def _leaf(
        self, need: Named, vendor: str, cost: Callable[[Pair], float], done: dict[str, tuple[float, frozenset[Pair]]]
    ) -> tuple[float, frozenset[Pair]]:
        match need.kind:
            case Kind.SERVICE:
                return done[need.name]
            case Kind.GROUP:
                pair = need.name, vendor
                return (cost(pair), frozenset({pair})) if pair in self.excess else (0.0, frozenset())
            case Kind.COMPONENT:
                taken = self.estate.components[need.name].vendor == vendor
            case Kind.VENDOR:
                taken = need.name == vendor
        return (math.inf if taken else 0.0), frozenset()

    def bound(self, budget: int) -> float:
        """Give the most value that any plan can free: a knapsack over each service's share of the cost."""
        places = self._places()
        overlap = self._overlap()

        def share(pair: Pair) -> float:
            return self.excess[pair] / (places[pair[0]] * overlap)

        weights: list[tuple[float, float]] = []
        for service, vendors in self.killers.items():
            weight = sum(self.parting(service, vendor, share)[0] for vendor in vendors)
            if weight < math.inf and self.values[service] > 0 and service not in self.hopeless:
                weights.append((weight, self.values[service]))
        return most_value(weights, budget)

    def _places(self) -> dict[str, int]:
        """Count in how many places each group is needed, over all services that a vendor takes, written out in full."""
        inside: dict[str, dict[str, int]] = {}
        total: dict[str, int] = {}
        for name in self.order:
            counts: dict[str, int] = {}
            _count(self.estate.services[name].needs, inside, counts)
            inside[name] = counts
            if name in self.killers:
                for group, count in counts.items():
                    total[group] = total.get(group, 0) + count
        return total

    def _overlap(self) -> int:
        """Give the most groups that one device is in: a move may count for all of them."""
        of: dict[int, int] = {}
        for group in self.estate.groups.values():
            for row in group.members:
                of[row] = of.get(row, 0) + 1
        return max(of.values(), default=1)


def crowded(estate: Estate, name: str) -> bool:
    """Say whether a group falls with some vendor, wherever its devices move: its vendors times what it spares is less.

    Only what stands in for each other counts, and only where all of it takes the device.
    """
    group = estate.groups[name]
    tolerates = estate.devices_of(group) - group.alive
    for old in {c for row in group.members if estate.classes[row].count for c in estate.takers(group, row)}:
        alike = [part for part in estate.components.values() if can_replace(estate.components[old], part)]
        if not all(part.privilege.takes_device or part.name in group.function for part in alike):
            continue
        names = {part.name for part in alike}
        bound = sum(estate.classes[r].count for r in group.members if names & set(estate.classes[r].components))
        if bound > tolerates * len({part.vendor for part in alike}):
            return True
    return False


def _count(need: Need, inside: dict[str, dict[str, int]], counts: dict[str, int]) -> None:
    if isinstance(need, AtLeast):
        for inner in need.of:
            _count(inner, inside, counts)
    elif need.kind is Kind.GROUP:
        counts[need.name] = counts.get(need.name, 0) + 1
    elif need.kind is Kind.SERVICE:
        for group, count in inside[need.name].items():
            counts[group] = counts.get(group, 0) + count


def _greedy(start: _Needing, budget: int, order: Callable[[float, int], float]) -> Plan:
    """Take the service that counts most, part what it needs, and look again, as long as the budget goes."""
    plan = Plan(budget, after=start.estate)
    need, stuck, dear = start, dict[str, str](), set[str]()
    while True:
        offers: list[tuple[float, str, frozenset[Pair], int]] = []
        for service, vendors in need.killers.items():
            if service in stuck or service in dear or need.values[service] <= 0:
                continue
            found = [need.parting(service, vendor, lambda pair, need=need: need.excess[pair]) for vendor in vendors]
            pairs = frozenset().union(*(part[1] for part in found))
            if any(part[0] == math.inf for part in found):
                stuck[service] = "it needs a vendor or component by name"
                continue
            if service in need.hopeless:
                stuck[service] = "a group that it needs can spare too few devices for the vendors that there are"
                continue
            cost = sum(need.excess[pair] for pair in pairs)
            if cost > budget - plan.moved:
                dear.add(service)
                continue
            offers.append((order(need.values[service], cost), service, pairs, cost))
        if not offers:
            break
        _, service, pairs, _ = max(offers, key=lambda offer: (offer[0], offer[1]))
        parted = _part(need.estate, pairs)
        after = None if parted is None else _Needing(parted[0])
        if parted is None or after is None or service in after.killers or after.killers.keys() - need.killers.keys():
            stuck[service] = "no other component has room for its devices"
            continue
        plan.moves += parted[1]
        need = after
    plan.after, plan.stuck = need.estate, stuck
    plan.freed = [name for name in start.estate.services if name in start.killers and name not in need.killers]
    plan.value = sum(start.values[name] for name in plan.freed)
    return plan


def _part(estate: Estate, pairs: frozenset[Pair]) -> tuple[Estate, list[tuple[Move, int]]] | None:
    """Move devices off vendors, each to the component with most room; None where there is none."""
    moves: dict[tuple[str, str, str], int] = {}
    for group, vendor in sorted(pairs):
        while True:
            found = _one(estate, group, vendor)
            if found is None:
                return None
            row, old, new, count = found
            if count == 0:
                break
            estate = swap_devices(estate, row, count, old, new)
            moves[group, old, new] = moves.get((group, old, new), 0) + count
    return estate, [(Move(count, group, old, new), count) for (group, old, new), count in moves.items()]


def _one(estate: Estate, name: str, vendor: str) -> tuple[int, str, str, int] | None:
    """Give one class to move: (row, old, new, devices), with 0 devices when the group survives the vendor."""
    group = estate.groups[name]
    tolerates = estate.devices_of(group) - group.alive
    hit: dict[str, int] = {}
    for row in group.members:
        for taker in {estate.components[c].vendor for c in estate.takers(group, row)}:
            hit[taker] = hit.get(taker, 0) + estate.classes[row].count
    excess = hit.get(vendor, 0) - tolerates
    if excess <= 0:
        return 0, "", "", 0
    best: tuple[int, int, str, str] | None = None
    for row in group.members:
        devices = estate.classes[row]
        olds = [c for c in estate.takers(group, row) if estate.components[c].vendor == vendor]
        if len(olds) != 1 or not devices.count:
            continue
        taken = {estate.components[c].vendor for c in estate.takers(group, row)}
        for new in estate.components.values():
            if new.vendor == vendor or new.name in devices.components:
                continue
            if can_replace(estate.components[olds[0]], new):
                room = devices.count if new.vendor in taken else tolerates - hit.get(new.vendor, 0)
                offer = (min(room, devices.count, excess), row, olds[0], new.name)
                best = offer if best is None or offer[0] > best[0] else best
    if best is None or best[0] <= 0:
        return None
    return best[1], best[2], best[3], best[0]
