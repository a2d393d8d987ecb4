"""Cuts up to an order of a tree with complements: its diagram within "at most so many events at once"."""

from __future__ import annotations

from tidegate.exposure.bdd import Bdd, deep
from tidegate.exposure.tree import Gate, Tree


class TruncatedSolver:
    """Builds f and "at most `order` events", which keeps every solution of so many events, and so the minimal ones."""

    def __init__(self, tree: Tree, places: dict[str, int], order: int, budget: int) -> None:
        self.tree, self.places = tree, places
        self.bdd = Bdd(budget)
        self._built: dict[int, int] = {}
        self._few = self._at_most(order)

    def build(self, top: int) -> int:
        """Give the truncated diagram of a node. Raises OverBudget."""
        with deep():
            return self._node(top)

    def _at_most(self, order: int) -> int:
        row = [1] * (order + 1)
        for var in range(len(self.places) - 1, -1, -1):
            row = [self.bdd.node(var, row[k], row[k - 1] if k else 0) for k in range(order + 1)]
        return row[order]

    def _node(self, node: int) -> int:
        if node < 0:
            return self.bdd.both(self._few, self.bdd.neither(self._node(~node)))
        found = self._built.get(node)
        if found is None:
            what = self.tree.nodes[node]
            inside = self._gate(what) if isinstance(what, Gate) else self.bdd.node(self.places[what], 0, 1)
            found = self._built[node] = self.bdd.both(self._few, inside)
        return found

    def _gate(self, gate: Gate) -> int:
        built = [(self._node(node), weight) for node, weight in gate.inputs]
        return self.bdd.more_than(built, gate.tolerates)
