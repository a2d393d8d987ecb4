"""The estate: vendors, components, devices in classes, groups with k of n, and services with what they need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

UNKNOWN = "unknown"
"""The vendor of all components whose vendor is not known: they may share one, so they are taken to fail together."""


class Privilege(str, Enum):
    """Where a component runs. A kernel component that fails takes the device; any other takes its function alone."""

    KERNEL = "kernel"
    SYSTEM = "system"
    USER = "user"
    UNKNOWN = "unknown"

    @property
    def takes_device(self) -> bool:
        """Unknown is never taken for safe."""
        return self in (Privilege.KERNEL, Privilege.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Component:
    """A thing on devices that gets updated. `fails` is the probability that it fails by itself, None if not said.

    `role` is what it does (`edr`, `dns`): components of one role can stand in for each other.
    """

    name: str
    vendor: str = UNKNOWN
    privilege: Privilege = Privilege.UNKNOWN
    kind: str = ""
    role: str = ""
    fails: float | None = None


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """Devices that are alike: the same components, the same labels. `fails` is one event that takes all of them."""

    name: str
    count: int
    components: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=lambda: {})
    fails: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Devices of which `alive` must live. `members` are rows of `Estate.classes`.

    `function` names the components without which a device does nothing for this group, whatever their privilege.
    `select` is how the devices were chosen, as (label, value) that must all hold; empty if they were listed.
    """

    name: str
    alive: int
    members: tuple[int, ...]
    function: tuple[str, ...] = ()
    select: tuple[tuple[str, str], ...] = ()
    fails: float | None = None
    line: int = 0


class Kind(str, Enum):
    """What a name in `needs` names."""

    SERVICE = "service"
    GROUP = "group"
    COMPONENT = "component"
    VENDOR = "vendor"


@dataclass(frozen=True, slots=True)
class Named:
    """A need for one thing."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A need for at least `k` of several; `all` is k = n, `any` is k = 1. A thing listed twice counts twice."""

    k: int
    of: tuple[Need, ...]


Need = Named | AtLeast


@dataclass(frozen=True, slots=True)
class Service:
    """A service and what it needs; `value_per_h` is what an hour without it costs, None if not said."""

    name: str
    needs: Need
    value_per_h: float | None = None
    owner: str = ""
    approver: str = ""
    """Whose word a rollout needs that could take the service down; empty: nobody's."""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Estate:
    """Everything that can fail and everything that can fall. Names are unique within each mapping.

    `vendors` gives each vendor's `fails`. `services` has no circle.
    """

    vendors: Mapping[str, float | None]
    components: Mapping[str, Component]
    classes: tuple[DeviceClass, ...]
    groups: Mapping[str, Group]
    services: Mapping[str, Service]
    source: str = "estate"

    def devices_of(self, group: Group) -> int:
        """How many devices a group has."""
        return sum(self.classes[row].count for row in group.members)

    def takers(self, group: Group, row: int) -> tuple[str, ...]:
        """Name the components whose failure makes a device of a class useless to a group, sorted."""
        carried = self.classes[row].components
        return tuple(c for c in carried if self.components[c].privilege.takes_device or c in group.function)

    def values(self) -> dict[str, float]:
        """Give each service's value. Where no service has one, each counts 1; else those without count 0."""
        said = {name: s.value_per_h for name, s in self.services.items()}
        if all(value is None for value in said.values()):
            return dict.fromkeys(said, 1.0)
        return {name: value or 0.0 for name, value in said.items()}


def names_in(need: Need) -> Iterator[Named]:
    """Name all that a need asks for, in the order in which it stands there."""
    if isinstance(need, Named):
        yield need
        return
    for inner in need.of:
        yield from names_in(inner)
