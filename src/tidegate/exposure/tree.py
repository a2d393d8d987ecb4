"""The fault tree: every node is an event, or falls when more of its inputs have fallen than it tolerates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tidegate.exposure.estate import AtLeast, Estate, Group, Kind, Named, Need, names_in


@dataclass(frozen=True, slots=True)
class Gate:
    """Falls when the weights of its fallen inputs sum to more than `tolerates`: or = 0, and = n - 1."""

    inputs: tuple[tuple[int, int], ...]
    """(node, weight)"""
    tolerates: int


@dataclass(slots=True)
class Tree:
    """Nodes in the order in which they were made, inputs before gates; `tops` names the nodes that are asked about.

    A node is an event's name or a `Gate`. In trees from elsewhere an input may be `~node`: the complement of a node.
    """

    nodes: list[str | Gate] = field(default_factory=lambda: [])
    tops: dict[str, int] = field(default_factory=lambda: {})
    _events: dict[str, int] = field(default_factory=lambda: {})
    _gates: dict[Gate, int] = field(default_factory=lambda: {})

    def event(self, name: str) -> int:
        """Give the node of an event; one name is one event, however often it is met."""
        if name not in self._events:
            self._events[name] = len(self.nodes)
            self.nodes.append(name)
        return self._events[name]

    def gate(self, inputs: tuple[tuple[int, int], ...], tolerates: int) -> int:
        """Give the node of a gate; a gate with one input that it does not tolerate is that input."""
        if len(inputs) == 1 and 0 <= tolerates < inputs[0][1]:
            return inputs[0][0]
        gate = Gate(inputs, tolerates)
        if gate not in self._gates:
            self._gates[gate] = len(self.nodes)
            self.nodes.append(gate)
        return self._gates[gate]

    def either(self, inputs: list[int]) -> int:
        """Give a node that falls with any one of its inputs, and with no inputs never."""
        return self.gate(tuple((node, 1) for node in dict.fromkeys(inputs)), 0)


Naming = Callable[[str], tuple[str, ...]]
"""component -> the events that take it."""


def fault_tree(estate: Estate, naming: Naming, vendor_event: Callable[[str], str], label: Callable[[str], str]) -> Tree:
    """Turn an estate into a fault tree with the services and groups as tops.

    Args:
        estate: what can fall.
        naming: the events that take a component.
        vendor_event: the event of a vendor that a service needs by name.
        label: the event of a group's or of listed devices' own `fails`.
    """
    tree = Tree()
    groups = {name: _group(tree, estate, group, naming, label) for name, group in estate.groups.items()}
    tree.tops.update({f"group:{name}": node for name, node in groups.items()})
    services: dict[str, int] = {}

    def of(need: Need) -> int:
        if isinstance(need, AtLeast):
            inputs = tuple((of(inner), 1) for inner in need.of)
            return tree.gate(inputs, len(inputs) - need.k)
        return named(need)

    def named(need: Named) -> int:
        match need.kind:
            case Kind.GROUP:
                return groups[need.name]
            case Kind.COMPONENT:
                return tree.either([tree.event(event) for event in naming(need.name)])
            case Kind.VENDOR:
                return tree.event(vendor_event(need.name))
            case Kind.SERVICE:
                return services[need.name]

    for name in in_order(estate):
        services[name] = of(estate.services[name].needs)
    tree.tops.update({f"service:{name}": services[name] for name in estate.services})
    return tree


def _group(tree: Tree, estate: Estate, group: Group, naming: Naming, label: Callable[[str], str]) -> int:
    """More devices fallen than n - k; classes that fall by the same events are counted as one."""
    lost: dict[tuple[str, ...], int] = {}
    for row in group.members:
        events = {event for component in estate.takers(group, row) for event in naming(component)}
        if estate.classes[row].fails is not None:
            events.add(label(estate.classes[row].name))
        if events and estate.classes[row].count:
            key = tuple(sorted(events))
            lost[key] = lost.get(key, 0) + estate.classes[row].count
    inputs = tuple((tree.either([tree.event(event) for event in key]), count) for key, count in sorted(lost.items()))
    node = tree.gate(inputs, estate.devices_of(group) - group.alive)
    if group.fails is None:
        return node
    return tree.either([node, tree.event(label(group.name))])


def in_order(estate: Estate) -> list[str]:
    """Sort the services so that each comes after those that it needs."""
    order: dict[str, None] = {}
    for root in estate.services:
        stack = [(root, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                order[name] = None
            elif name not in order:
                stack.append((name, True))
                stack += [(inner, False) for inner in service_needs(estate, name) if inner not in order]
    return list(order)


def service_needs(estate: Estate, name: str) -> list[str]:
    """Name the services that a service needs directly."""
    return [named.name for named in names_in(estate.services[name].needs) if named.kind is Kind.SERVICE]
