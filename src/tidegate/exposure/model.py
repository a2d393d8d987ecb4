"""The two fault trees of an estate: as one looks at it (by vendor or component), and as its probabilities are given."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.exposure.estate import Estate
from tidegate.exposure.tree import Tree, fault_tree

VENDOR, COMPONENT = "vendor", "component"


@dataclass(frozen=True, slots=True)
class View:
    """The tree whose events are vendors or components; groups and listed devices with `fails` are events of their own.

    `causes` gives, for each event of the view, the events of the probability tree that it stands for.
    """

    by: str
    tree: Tree
    causes: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Chances:
    """The tree of independent causes and their probabilities; causes that have none are missing in `fails`."""

    tree: Tree
    fails: dict[str, float]


def view_of(estate: Estate, by: str) -> View:
    """Look at an estate by vendor or component. An event has the name of what it is; where two share one, a prefix."""
    names = set(estate.vendors if by == VENDOR else estate.components)

    def event_of(component: str) -> str:
        return estate.components[component].vendor if by == VENDOR else component

    def vendor_event(vendor: str) -> str:
        return vendor if by == VENDOR or vendor not in names else f"vendor:{vendor}"

    def label(name: str) -> str:
        return name if name not in names and (by == VENDOR or name not in estate.vendors) else f"group:{name}"

    tree = fault_tree(estate, lambda component: (event_of(component),), vendor_event, label)
    causes: dict[str, set[str]] = {}
    for component in estate.components:
        own = _causes(estate, component)
        kept = own if by == VENDOR else own[:1]
        causes.setdefault(event_of(component), set()).update(kept)
    for vendor in estate.vendors:
        causes.setdefault(vendor_event(vendor), set()).add(f"v:{vendor}")
    for name in _own_events(estate):
        causes.setdefault(label(name), set()).add(f"g:{name}")
    return View(by, tree, {name: tuple(sorted(found)) for name, found in causes.items()})


def chances_of(estate: Estate) -> Chances:
    """Take what `fails` says as independent causes: of a vendor as a whole, of a component by itself, of a group.

    A component whose own `fails` is not given fails with its vendor alone, if the vendor has one; if neither has, its
    cause has no probability, and what depends on it has none either.
    """
    tree = fault_tree(estate, lambda component: _causes(estate, component), "v:{}".format, "g:{}".format)
    fails = {f"c:{c.name}": c.fails for c in estate.components.values() if c.fails is not None}
    fails.update({f"v:{name}": p for name, p in estate.vendors.items() if p is not None})
    fails.update({f"g:{name}": p for name, p in _own_events(estate).items()})
    return Chances(tree, fails)


def _causes(estate: Estate, component: str) -> tuple[str, ...]:
    part = estate.components[component]
    own, vendor = f"c:{component}", f"v:{part.vendor}"
    if estate.vendors.get(part.vendor) is None:
        return (own,)
    return (vendor,) if part.fails is None else (own, vendor)


def _own_events(estate: Estate) -> dict[str, float]:
    found = {devices.name: devices.fails for devices in estate.classes if devices.fails is not None}
    found.update({group.name: group.fails for group in estate.groups.values() if group.fails is not None})
    return found
