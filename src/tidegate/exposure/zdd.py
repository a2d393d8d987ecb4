"""Families of minimal cuts as zero-suppressed diagrams: taken from a decision diagram, or built up to an order alone.

Node 0 is no cut, node 1 the empty cut (down already). Rauzy 1993 for the minimal solutions; Minato 1993 for the
diagrams. A family in here is always minimal: no cut of it holds another.
"""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.exposure.bdd import LAST, Bdd, OverBudget, deep
from tidegate.exposure.tree import Gate, Tree

UNLIMITED = LAST
STEPS_PER_NODE = 4
"""Comparing families can take many more steps than it leaves nodes; both are bounded."""


class Zdd:
    """Families of sets of variables."""

    def __init__(self, budget: int) -> None:
        self.var, self.low, self.high = [LAST, LAST], [0, 1], [0, 1]
        self.budget = budget
        self.steps_left = STEPS_PER_NODE * budget
        self._unique: dict[tuple[int, int, int], int] = {}
        self._without: dict[tuple[int, int], int] = {}
        self._union: dict[tuple[int, int], int] = {}
        self._product: dict[tuple[int, int, int], int] = {}
        self._upto: dict[tuple[int, int], int] = {}
        self._counts: dict[int, list[int]] = {0: [], 1: [1]}

    def node(self, var: int, low: int, high: int) -> int:
        """Give the family: `low`, and each of `high` with `var` added. Raises OverBudget."""
        if high == 0:
            return low
        key = (var, low, high)
        found = self._unique.get(key)
        if found is None:
            found = len(self.var)
            if found >= self.budget:
                raise OverBudget
            self._unique[key] = found
            self.var.append(var)
            self.low.append(low)
            self.high.append(high)
        return found

    def without(self, f: int, g: int) -> int:
        """Give the cuts of f that hold no cut of g."""
        if f == 0 or g == 1 or f == g:
            return 0
        if g == 0:
            return f
        if f == 1:
            return 1  # g holds no empty cut here
        key = (f, g)
        found = self._without.get(key)
        if found is None:
            self.steps_left -= 1
            if self.steps_left < 0:
                raise OverBudget
            x, y = self.var[f], self.var[g]
            if x < y:
                found = self.node(x, self.without(self.low[f], g), self.without(self.high[f], g))
            elif x > y:
                found = self.without(f, self.low[g])
            else:
                high = self.without(self.without(self.high[f], self.low[g]), self.high[g])
                found = self.node(x, self.without(self.low[f], self.low[g]), high)
            self._without[key] = found
        return found

    def union(self, f: int, g: int) -> int:
        """Give the minimal cuts of both together."""
        if f == g or g == 0:
            return f
        if f == 0:
            return g
        if f == 1 or g == 1:
            return 1
        key = (f, g) if f < g else (g, f)
        found = self._union.get(key)
        if found is None:
            x, y = self.var[f], self.var[g]
            top = x if x < y else y
            f0, f1 = (self.low[f], self.high[f]) if x == top else (f, 0)
            g0, g1 = (self.low[g], self.high[g]) if y == top else (g, 0)
            low = self.union(f0, g0)
            found = self._union[key] = self.node(top, low, self.without(self.union(f1, g1), low))
        return found

    def upto(self, f: int, order: int) -> int:
        """Give the cuts of at most `order` members."""
        if f < 2 or order == UNLIMITED:
            return f
        if order == 0:
            return self.upto(self.low[f], 0) if self.low[f] else 0
        key = (f, order)
        found = self._upto.get(key)
        if found is None:
            low, high = self.upto(self.low[f], order), self.upto(self.high[f], order - 1)
            found = self._upto[key] = self.node(self.var[f], low, high)
        return found

    def product(self, f: int, g: int, order: int) -> int:
        """Give the minimal cuts that hold one of f and one of g, up to an order."""
        if f == 0 or g == 0:
            return 0
        if f == 1:
            return self.upto(g, order)
        if g == 1:
            return self.upto(f, order)
        if order == 0:
            return 0  # a minimal family other than 1 holds no empty cut
        key = (f, g, order) if f < g else (g, f, order)
        found = self._product.get(key)
        if found is None:
            found = self._product[key] = self._multiply(f, g, order)
        return found

    def _multiply(self, f: int, g: int, order: int) -> int:
        x, y = self.var[f], self.var[g]
        if x > y:
            f, g, x, y = g, f, y, x
        if x < y:
            low = self.product(self.low[f], g, order)
            high = self.product(self.high[f], g, order - 1)
        else:
            low = self.product(self.low[f], self.low[g], order)
            high = self.product(self.high[f], self.high[g], order - 1)
            high = self.union(high, self.product(self.high[f], self.low[g], order - 1))
            high = self.union(high, self.product(self.low[f], self.high[g], order - 1))
        return self.node(x, low, self.without(high, low))

    def counts(self, top: int) -> list[int]:
        """Count the cuts by order: [of none, of one, of two, ...]. Linear in the nodes, however many cuts there are."""
        with deep():
            return self._count(top)

    def _count(self, f: int) -> list[int]:
        found = self._counts.get(f)
        if found is None:
            low, high = self._count(self.low[f]), [0, *self._count(self.high[f])]
            size = max(len(low), len(high))
            found = [(low[i] if i < len(low) else 0) + (high[i] if i < len(high) else 0) for i in range(size)]
            self._counts[f] = found
        return found

    def sets(self, top: int, order: int) -> list[tuple[int, ...]]:
        """List the cuts of at most `order` members. Ask `counts` first how many they are."""
        found: list[tuple[int, ...]] = []
        stack: list[tuple[int, tuple[int, ...]]] = [(self.upto(top, order), ())]
        while stack:
            node, taken = stack.pop()
            if node == 1:
                found.append(taken)
            elif node:
                stack.append((self.low[node], taken))
                stack.append((self.high[node], (*taken, self.var[node])))
        return found


def minimal_solutions(bdd: Bdd, top: int, budget: int) -> tuple[Zdd, int]:
    """Give the minimal cuts of a decision diagram (Rauzy's `minsol`). Raises OverBudget.

    Where the tree has complements these are the minimal sets of events that can bring it down, whatever the rest do.
    """
    zdd, memo = Zdd(budget), {0: 0, 1: 1}

    def solve(f: int) -> int:
        found = memo.get(f)
        if found is None:
            low, high = solve(bdd.low[f]), solve(bdd.high[f])
            found = memo[f] = zdd.node(bdd.var[f], low, zdd.without(high, low))
        return found

    with deep():
        return zdd, solve(top)


class LimitedSolver:
    """Builds the minimal cuts of a coherent tree bottom up, up to an order alone: for trees too large for a diagram."""

    def __init__(self, tree: Tree, places: dict[str, int], order: int, budget: int) -> None:
        self.tree, self.places, self.order = tree, places, order
        self.zdd = Zdd(budget)
        self._built: dict[int, int] = {}

    def build(self, top: int) -> int:
        """Give the family of a node. Raises OverBudget; and ValueError for a complement."""
        with deep():
            return self._node(top)

    def _node(self, node: int) -> int:
        if node < 0:
            raise ValueError("a complement has no cuts of its own")
        found = self._built.get(node)
        if found is None:
            what = self.tree.nodes[node]
            if isinstance(what, Gate):
                inputs = sorted(((self._node(n), w) for n, w in what.inputs), key=lambda pair: self.zdd.var[pair[0]])
                found = self._more(inputs, what.tolerates)
            else:
                found = self.zdd.node(self.places[what], 0, 1) if self.order > 0 else 0
            self._built[node] = found
        return found

    def _more(self, inputs: Sequence[tuple[int, int]], tolerates: int) -> int:
        left = [0] * (len(inputs) + 1)
        for place in range(len(inputs) - 1, -1, -1):
            left[place] = left[place + 1] + inputs[place][1]
        memo: dict[tuple[int, int], int] = {}

        def more(place: int, slack: int) -> int:
            if slack < 0:
                return 1
            if left[place] <= slack:
                return 0
            found = memo.get((place, slack))
            if found is None:
                node, weight = inputs[place]
                with_it = self.zdd.product(node, more(place + 1, slack - weight), self.order)
                found = memo[(place, slack)] = self.zdd.union(with_it, more(place + 1, slack))
            return found

        return more(0, tolerates)
