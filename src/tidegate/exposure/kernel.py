"""What falls with whom, for many scenarios at once: sparse products for the groups, then k of n level by level.

A column is a scenario: one vendor, one component, a pair, or whatever is in flight. Exact, as the cuts are, and quick:
the sweep of single vendors is one sparse product over the devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from tidegate.exposure.estate import AtLeast, Estate, Kind, Named, Need
from tidegate.exposure.tree import in_order

Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int32]
PAIRS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class Level:
    """Gates whose inputs are all on lower levels: inputs (gates x nodes, csr), what they tolerate, their nodes."""

    inputs: sparse.csr_array
    tolerates: npt.NDArray[np.int32]
    first: int


@dataclass(frozen=True, slots=True)
class Arrays:
    """An estate as arrays. A place is one class of devices in one group; nodes are leaves, then gates by level.

    `incidence`: groups x places, devices. `hits`: places x columns, 1 where a column takes the place.
    `direct`: further leaves x columns, 1 where a column takes a component or vendor that a service needs by name.
    """

    columns: tuple[str, ...]
    groups: tuple[str, ...]
    services: tuple[str, ...]
    incidence: sparse.csr_array
    hits: sparse.csr_array
    tolerates: npt.NDArray[np.int32]
    direct: Flags
    levels: tuple[Level, ...]
    nodes: int
    service_nodes: npt.NDArray[np.int64]

    def lost(self) -> Counts:
        """Count the devices that each group loses to each column: groups x columns."""
        return np.asarray(sparse.csr_array(self.incidence @ self.hits).toarray(), dtype=np.int32)

    def sweep(self) -> tuple[Flags, Flags]:
        """Say which groups and which services each column takes alone: groups x columns, services x columns."""
        groups = self.lost() > self.tolerates[:, None]
        return groups, self.fall(groups, self.direct)

    def fall(self, groups: Flags, direct: Flags) -> Flags:
        """Say which services fall, scenario by scenario, from fallen groups and directly needed leaves."""
        down = np.zeros((self.nodes, groups.shape[1]), dtype=np.float32)
        down[: len(groups)] = groups
        down[len(groups) : len(groups) + len(direct)] = direct
        for level in self.levels:
            fallen = level.inputs @ down[: level.first] > level.tolerates[:, None]
            down[level.first : level.first + len(fallen)] = fallen
        return down[self.service_nodes] > 0

    def pairs(self, chosen: Sequence[int] | None = None) -> tuple[list[tuple[int, int]], Flags]:
        """Say which services each pair of columns takes: the pairs, and services x pairs.

        A device that carries both is lost once: lost(a, b) = lost(a) + lost(b) - lost to both.
        """
        picked = range(len(self.columns)) if chosen is None else chosen
        pairs = list(combinations(picked, 2))
        lost, both = self.lost(), self._both(pairs)
        found = np.zeros((len(self.services), len(pairs)), dtype=bool)
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            part = np.array(pairs[start : start + PAIRS_AT_ONCE], dtype=np.int64)
            a, b = part[:, 0], part[:, 1]
            count = lost[:, a] + lost[:, b] - both[:, start : start + len(part)].toarray()
            groups = count > self.tolerates[:, None]
            found[:, start : start + len(part)] = self.fall(groups, self.direct[:, a] | self.direct[:, b])
        return pairs, found

    def _both(self, pairs: list[tuple[int, int]]) -> sparse.csc_array:
        """Count the devices of each group that carry both of a pair, for pairs that meet anywhere."""
        place_of = np.full((len(self.columns), len(self.columns)), -1, dtype=np.int64)
        if pairs:
            asked = np.array(pairs)
            place_of[asked[:, 0], asked[:, 1]] = np.arange(len(pairs))
        rows, columns = _meetings(self.hits, place_of)
        shape = (len(np.asarray(self.hits.indptr)) - 1, len(pairs))
        meet = sparse.csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape)
        return sparse.csc_array(self.incidence @ meet)


def _meetings(
    hits: sparse.csr_array, place_of: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """List (place, pair) for the pairs of columns that take the same place, by rows with equally many columns."""
    hits.sort_indices()
    starts, columns = np.asarray(hits.indptr), np.asarray(hits.indices)
    width = np.diff(starts)
    rows: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    found: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    for size in np.unique(width[width > 1]):
        which = np.flatnonzero(width == size)
        table = columns[starts[which][:, None] + np.arange(size)]
        for i, j in combinations(range(size), 2):
            pair = place_of[table[:, i], table[:, j]]
            kept = pair >= 0
            rows.append(which[kept])
            found.append(pair[kept])
    return np.concatenate(rows), np.concatenate(found)


def arrays_of(estate: Estate, by: str = "vendor") -> Arrays:
    """Lay an estate out; columns are its vendors, or its components."""
    names = sorted(estate.vendors if by == "vendor" else estate.components)
    column = {name: place for place, name in enumerate(names)}

    def column_of(component: str) -> int:
        return column[estate.components[component].vendor if by == "vendor" else component]

    rows, columns, weights, of_group = [], [], [], []
    for number, group in enumerate(estate.groups.values()):
        for row in group.members:
            place = len(weights)
            weights.append(estate.classes[row].count)
            of_group.append(number)
            taken = {column_of(component) for component in estate.takers(group, row)}
            rows += [place] * len(taken)
            columns += sorted(taken)
    places, count = len(weights), len(estate.groups)
    incidence = sparse.csr_array((np.array(weights, dtype=np.int32), (of_group, range(places))), (count, places))
    hits = sparse.csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), (places, len(names)))
    tolerates = np.array([estate.devices_of(g) - g.alive for g in estate.groups.values()], dtype=np.int32)
    plan = _Plan(estate)
    direct = np.zeros((len(plan.leaves), len(names)), dtype=bool)
    for place, named in enumerate(plan.leaves):
        taken = _columns_of(named, column, column_of, by)
        direct[place, taken] = True
    return Arrays(
        tuple(names),
        tuple(estate.groups),
        tuple(estate.services),
        incidence,
        hits,
        tolerates,
        direct,
        *plan.levels(),
    )


def _columns_of(named: Named, column: dict[str, int], column_of: Callable[[str], int], by: str) -> list[int]:
    if named.kind is Kind.COMPONENT:
        return [column_of(named.name)]
    return [column[named.name]] if by == "vendor" else []


class _Plan:
    """Numbers the nodes: groups, direct leaves, then gates by their height."""

    def __init__(self, estate: Estate) -> None:
        self.groups = {name: place for place, name in enumerate(estate.groups)}
        self.leaves: list[Named] = []
        self.gates: list[tuple[int, list[int], int]] = []
        """(height, inputs as plan numbers, tolerates); a plan number below `base` is a leaf."""
        needed = [named for s in estate.services.values() for named in _leaves(s.needs)]
        self.leaves = list(dict.fromkeys(needed))
        self.base = len(self.groups) + len(self.leaves)
        self._leaf = {named: len(self.groups) + place for place, named in enumerate(self.leaves)}
        self._service: dict[str, int] = {}
        for name in in_order(estate):
            self._service[name] = self._node(estate.services[name].needs)
        self.services = [self._service[name] for name in estate.services]

    def _node(self, need: Need) -> int:
        if isinstance(need, AtLeast):
            inputs = [self._node(inner) for inner in need.of]
            height = 1 + max(self._height(node) for node in inputs)
            self.gates.append((height, inputs, len(inputs) - need.k))
            return self.base + len(self.gates) - 1
        if need.kind is Kind.GROUP:
            return self.groups[need.name]
        return self._service[need.name] if need.kind is Kind.SERVICE else self._leaf[need]

    def _height(self, node: int) -> int:
        return 0 if node < self.base else self.gates[node - self.base][0]

    def levels(self) -> tuple[tuple[Level, ...], int, npt.NDArray[np.int64]]:
        """Renumber the gates so that each level is one block after the one below."""
        order = sorted(range(len(self.gates)), key=lambda gate: self.gates[gate][0])
        number = {node: node for node in range(self.base)}
        number.update({self.base + gate: self.base + place for place, gate in enumerate(order)})
        found: list[Level] = []
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and self.gates[order[end]][0] == self.gates[order[start]][0]:
                end += 1
            found.append(self._level(order[start:end], self.base + start, number))
            start = end
        nodes = np.array([number[node] for node in self.services], dtype=np.int64)
        return tuple(found), self.base + len(order), nodes

    def _level(self, gates: list[int], first: int, number: dict[int, int]) -> Level:
        rows = [row for row, gate in enumerate(gates) for _ in self.gates[gate][1]]
        columns = [number[node] for gate in gates for node in self.gates[gate][1]]
        ones = np.ones(len(rows), dtype=np.float32)
        inputs = sparse.csr_array((ones, (rows, columns)), shape=(len(gates), first))
        return Level(inputs, np.array([self.gates[gate][2] for gate in gates], dtype=np.int32), first)


def _leaves(need: Need) -> list[Named]:
    if isinstance(need, AtLeast):
        return [named for inner in need.of for named in _leaves(inner)]
    return [need] if need.kind in (Kind.COMPONENT, Kind.VENDOR) else []
