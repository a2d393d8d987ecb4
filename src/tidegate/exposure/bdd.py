"""Binary decision diagrams: a fault tree as one ordered graph, within a budget of nodes; probabilities exact.

Bryant 1986; for fault trees Rauzy, "New algorithms for fault trees analysis" (1993). Variables are ordered by their
first visit, depth first. Node 0 is never, node 1 is always.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tidegate.exposure.tree import Gate, Tree

Inputs = Sequence[tuple[int, int]]
"""(node, weight)"""
LAST = 1 << 60
"""The variable of the two ends: after all others."""
DEEPEST = 200_000


class OverBudget(Exception):
    """The diagram needs more nodes than it may have."""


@contextmanager
def deep() -> Iterator[None]:
    """Let recursion go as deep as there are variables."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, DEEPEST))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class Bdd:
    """A reduced ordered binary decision diagram that all tops of a tree share."""

    def __init__(self, budget: int) -> None:
        self.var, self.low, self.high = [LAST, LAST], [0, 1], [0, 1]
        self.budget = budget
        self._unique: dict[tuple[int, int, int], int] = {}
        self._and: dict[tuple[int, int], int] = {}
        self._or: dict[tuple[int, int], int] = {}
        self._not: dict[int, int] = {0: 1, 1: 0}

    def node(self, var: int, low: int, high: int) -> int:
        """Give the node for: if `var` then `high` else `low`. Raises OverBudget."""
        if low == high:
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

    def both(self, f: int, g: int) -> int:
        """Give f and g."""
        if f == g or g == 1:
            return f
        if f == 1:
            return g
        if f == 0 or g == 0:
            return 0
        key = (f, g) if f < g else (g, f)
        found = self._and.get(key)
        if found is None:
            x, y = self.var[f], self.var[g]
            top = x if x < y else y
            f0, f1 = (self.low[f], self.high[f]) if x == top else (f, f)
            g0, g1 = (self.low[g], self.high[g]) if y == top else (g, g)
            found = self._and[key] = self.node(top, self.both(f0, g0), self.both(f1, g1))
        return found

    def either(self, f: int, g: int) -> int:
        """Give f or g."""
        if f == g or g == 0:
            return f
        if f == 0:
            return g
        if f == 1 or g == 1:
            return 1
        key = (f, g) if f < g else (g, f)
        found = self._or.get(key)
        if found is None:
            x, y = self.var[f], self.var[g]
            top = x if x < y else y
            f0, f1 = (self.low[f], self.high[f]) if x == top else (f, f)
            g0, g1 = (self.low[g], self.high[g]) if y == top else (g, g)
            found = self._or[key] = self.node(top, self.either(f0, g0), self.either(f1, g1))
        return found

    def neither(self, f: int) -> int:
        """Give not f."""
        found = self._not.get(f)
        if found is None:
            found = self._not[f] = self.node(self.var[f], self.neither(self.low[f]), self.neither(self.high[f]))
        return found

    def more_than(self, inputs: Inputs, tolerates: int) -> int:
        """Give: the weights of the inputs that hold sum to more than `tolerates`.

        By dynamic programming over the inputs and what is still tolerated; inputs whose variables come last go first,
        so that what is combined grows downwards.
        """
        order = sorted(inputs, key=lambda pair: self.var[pair[0]])
        left = [0] * (len(order) + 1)
        for place in range(len(order) - 1, -1, -1):
            left[place] = left[place + 1] + order[place][1]
        return self._more(order, left, 0, tolerates, {})

    def _more(self, order: Inputs, left: list[int], place: int, slack: int, memo: dict[tuple[int, int], int]) -> int:
        if slack < 0:
            return 1
        if left[place] <= slack:
            return 0
        key = (place, slack)
        found = memo.get(key)
        if found is None:
            node, weight = order[place]
            without = self._more(order, left, place + 1, slack, memo)
            with_it = self._more(order, left, place + 1, slack - weight, memo)
            found = memo[key] = self.either(self.both(node, with_it), without)
        return found


class Solver:
    """Builds the diagrams of a tree's nodes, each at most once."""

    def __init__(self, tree: Tree, budget: int) -> None:
        self.tree, self.bdd = tree, Bdd(budget)
        self.names: list[str] = []
        """Events by variable."""
        self._places: dict[str, int] = {}
        self._built: dict[int, int] = {}

    def build(self, top: int, more: int) -> int:
        """Give the diagram of a node, with at most `more` new nodes. Raises OverBudget."""
        self.bdd.budget = len(self.bdd.var) + more
        with deep():
            self._order(top)
            return self._node(top)

    def _order(self, top: int) -> None:
        """Number the events below a node by their first visit, depth first."""
        seen, stack = set[int](), [top]
        while stack:
            node = stack.pop()
            node = ~node if node < 0 else node
            if node in seen or node in self._built:
                continue
            seen.add(node)
            what = self.tree.nodes[node]
            if isinstance(what, Gate):
                stack.extend(inner for inner, _ in reversed(what.inputs))
            elif what not in self._places:
                self._places[what] = len(self.names)
                self.names.append(what)

    def _node(self, node: int) -> int:
        if node < 0:
            return self.bdd.neither(self._node(~node))
        found = self._built.get(node)
        if found is None:
            what = self.tree.nodes[node]
            if isinstance(what, Gate):
                found = self._gate(what)
            else:
                found = self.bdd.node(self._places[what], 0, 1)
            self._built[node] = found
        return found

    def _gate(self, gate: Gate) -> int:
        """The two plain gates fold their inputs from the last variable up; the others count."""
        built = [(self._node(node), weight) for node, weight in gate.inputs]
        least = min((weight for _, weight in built), default=0)
        total = sum(weight for _, weight in built)
        if gate.tolerates < 0:
            return 1
        if least > gate.tolerates or (built and total - least <= gate.tolerates < total):
            join, found = (self.bdd.either, 0) if least > gate.tolerates else (self.bdd.both, 1)
            for node, _ in sorted(built, key=lambda pair: -self.bdd.var[pair[0]]):
                found = join(node, found)
            return found
        return self.bdd.more_than(built, gate.tolerates)

    def derivatives(self, diagram: int, fails: Mapping[str, float]) -> dict[str, float]:
        """Give Birnbaum's importance of every event in `support`: P(top, if it fails) - P(top, if it does not).

        One pass up for probabilities, one down for the chance that a path comes through a node; linear in the nodes.
        """
        bdd, chance, found = self.bdd, {0: 0.0, 1: 1.0}, dict[str, float]()
        inner = _below(bdd, diagram)
        for node in inner:
            p = fails[self.names[bdd.var[node]]]
            chance[node] = p * chance[bdd.high[node]] + (1.0 - p) * chance[bdd.low[node]]
        reach = dict.fromkeys(inner, 0.0)
        if inner:
            reach[diagram] = 1.0
        for node in sorted(inner, key=lambda one: bdd.var[one]):
            name, low, high = self.names[bdd.var[node]], bdd.low[node], bdd.high[node]
            p = fails[name]
            found[name] = found.get(name, 0.0) + reach[node] * (chance[high] - chance[low])
            for into, weight in ((high, p), (low, 1.0 - p)):
                if into > 1:
                    reach[into] += reach[node] * weight
        return found

    def support(self, diagram: int) -> list[str]:
        """Name the events that a diagram depends on, in the order of the variables."""
        seen, stack, found = {0, 1}, [diagram], set[int]()
        while stack:
            node = stack.pop()
            if node not in seen:
                seen.add(node)
                found.add(self.bdd.var[node])
                stack += [self.bdd.low[node], self.bdd.high[node]]
        return [self.names[var] for var in sorted(found)]

    def probability(self, diagram: int, fails: Mapping[str, float]) -> float:
        """Give the exact probability, events being independent. `fails` holds that of every event in `support`."""
        bdd, memo = self.bdd, {0: 0.0, 1: 1.0}
        for node in _below(bdd, diagram):
            p = fails[self.names[bdd.var[node]]]
            memo[node] = p * memo[bdd.high[node]] + (1.0 - p) * memo[bdd.low[node]]
        return memo[diagram]


def _below(bdd: Bdd, top: int) -> list[int]:
    """List the inner nodes below one, and itself; a node's number is above those of what it leads to."""
    seen, stack = {0, 1}, [top]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += [bdd.low[node], bdd.high[node]]
    return sorted(seen - {0, 1})
