"""Minimal cuts of a fault tree's tops, complete where a node budget allows it, else up to an order that is stated."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.exposure.bdd import OverBudget, Solver
from tidegate.exposure.tree import Tree
from tidegate.exposure.truncated import TruncatedSolver
from tidegate.exposure.zdd import UNLIMITED, LimitedSolver, Zdd, minimal_solutions

NODES = 500_000
LISTED = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What an analysis may take: nodes of a diagram, cuts that are listed, and the order up to which is asked."""

    nodes: int = NODES
    listed: int = LISTED
    order: int | None = None


@dataclass(frozen=True, slots=True)
class Cuts:
    """Minimal cuts: each sorted, and sorted by order and name.

    `complete`: there are no others. Else all those of at most `order_limit` members are here, and maybe there are more.
    `by_order` counts them by order and `count` all, listed or not. Where the whole diagram did not fit, `by_order` goes
    up to `order_limit` and `count` is None.
    """

    cuts: tuple[tuple[str, ...], ...]
    complete: bool
    order_limit: int | None
    by_order: tuple[int, ...]
    count: int | None
    diagram: int | None
    """The decision diagram in the solver; None where it did not fit."""


class CutSolver:
    """Solves tops of one tree; parts that they share are built once."""

    def __init__(self, tree: Tree, limits: Limits) -> None:
        self.tree, self.limits = tree, limits
        self.solver = Solver(tree, limits.nodes)
        self._known: dict[int, Cuts] = {}

    def solve(self, top: int) -> Cuts:
        """Find the minimal cuts of a node."""
        if top not in self._known:
            try:
                diagram = self.solver.build(top, self.limits.nodes)
                zdd, family = minimal_solutions(self.solver.bdd, diagram, self.limits.nodes)
                self._known[top] = self._listed(zdd, family, diagram)
            except OverBudget:
                self._known[top] = self._limited(top)
        return self._known[top]

    def _listed(self, zdd: Zdd, family: int, diagram: int) -> Cuts:
        """List what may be listed: whole orders alone, so that `order_limit` means what it says."""
        counts = zdd.counts(family)
        order, total = 0, counts[0] if counts else 0
        asked = len(counts) - 1 if self.limits.order is None else self.limits.order
        while order + 1 < len(counts) and order < asked and total + counts[order + 1] <= self.limits.listed:
            order += 1
            total += counts[order]
        complete = order >= len(counts) - 1
        sets = self._named(zdd.sets(family, UNLIMITED if complete else order))
        limit = None if complete else order
        return Cuts(sets, complete, limit, tuple(counts), sum(counts), diagram)

    def _limited(self, top: int) -> Cuts:
        """Go up order by order for as long as the budget and the list hold."""
        places = {name: place for place, name in enumerate(self.solver.names)}
        found, order = Cuts((), False, 0, (), None, None), 0
        while order < (self.limits.order or len(places)):
            try:
                zdd, family = self._up_to(top, places, order + 1)
            except OverBudget:
                break
            counts = zdd.counts(family)
            if sum(counts) > self.limits.listed:
                break
            order += 1
            complete = order >= len(places)
            sets = self._named(zdd.sets(family, order))
            count = len(sets) if complete else None
            found = Cuts(sets, complete, None if complete else order, tuple(counts), count, None)
        return found

    def _up_to(self, top: int, places: dict[str, int], order: int) -> tuple[Zdd, int]:
        """Multiply families out where the tree is coherent; else go by the truncated diagram."""
        try:
            solver = LimitedSolver(self.tree, places, order, self.limits.nodes)
            return solver.zdd, solver.build(top)
        except ValueError:
            truncated = TruncatedSolver(self.tree, places, order, self.limits.nodes)
            return minimal_solutions(truncated.bdd, truncated.build(top), self.limits.nodes)

    def _named(self, sets: list[tuple[int, ...]]) -> tuple[tuple[str, ...], ...]:
        names = self.solver.names
        return tuple(sorted((tuple(sorted(names[v] for v in one)) for one in sets), key=lambda cut: (len(cut), cut)))
