"""What falls with a trigger: services, groups and components of an estate, each with the chain that takes it down."""

from __future__ import annotations

from tidegate.contingency.plan import PlanSet
from tidegate.exposure.estate import AtLeast, Estate, Group, Kind, Named
from tidegate.exposure.estate import Need as Wants


class Fallen:
    """All that is down while one vendor, component or site is. The rules are exposure's own: docs/exposure.md."""

    def __init__(self, estate: Estate, trigger: tuple[str, str]) -> None:
        """Take the failing thing down, and find out the rest when asked."""
        self._estate = estate
        self._kind, self._name = trigger
        self._services: dict[str, str] = {}

    def component(self, name: str) -> str:
        """Say why a component is down, or give the empty text."""
        if (self._kind, self._name) == ("component", name):
            return f"{name} is what fails"
        vendor = self._estate.components[name].vendor
        if (self._kind, self._name) == ("vendor", vendor):
            return f"component {name} is made by {vendor}"
        return ""

    def group(self, name: str) -> str:
        """Say why a group is down, or give the empty text."""
        group = self._estate.groups[name]
        lost = {row: why for row in group.members if (why := self._device(group, row))}
        alive = sum(self._estate.classes[row].count for row in group.members if row not in lost)
        if alive >= group.alive or not lost:
            return ""
        why = next(iter(lost.values()))
        return f"group {name} keeps {alive} of the {group.alive} devices that it needs, as {why}"

    def _device(self, group: Group, row: int) -> str:
        if self._kind == "site" and self._estate.classes[row].labels.get("site") == self._name:
            return f"they stand at {self._name}"
        for one in self._estate.takers(group, row):
            why = self.component(one)
            if why:
                return why
        return ""

    def service(self, name: str) -> str:
        """Say why a service is down, or give the empty text."""
        if name not in self._services:
            self._services[name] = ""  # an estate has no circles; this only keeps a mistake from running for ever
            why = self._want(self._estate.services[name].needs)
            self._services[name] = f"service {name} is down: {why}" if why else ""
        return self._services[name]

    def _want(self, want: Wants) -> str:
        if isinstance(want, AtLeast):
            lost = [why for one in want.of if (why := self._want(one))]
            return lost[0] if len(want.of) - len(lost) < want.k else ""
        return self.named(want)

    def named(self, one: Named) -> str:
        """Say why a named thing is down, or give the empty text."""
        if one.kind is Kind.SERVICE:
            return self.service(one.name)
        if one.kind is Kind.GROUP:
            return self.group(one.name)
        if one.kind is Kind.COMPONENT:
            return self.component(one.name)
        return f"vendor {one.name} is what fails" if (self._kind, self._name) == ("vendor", one.name) else ""


def kinds_of(estate: Estate, name: str) -> list[Named]:
    """Give what a name can mean, in the order in which exposure reads it."""
    known = (
        (Kind.SERVICE, estate.services),
        (Kind.GROUP, estate.groups),
        (Kind.COMPONENT, estate.components),
        (Kind.VENDOR, estate.vendors),
    )
    found = [Named(kind, name) for kind, names in known if name in names]
    if not found and name in {component.vendor for component in estate.components.values()}:
        found = [Named(Kind.VENDOR, name)]
    return found


def required_services(estate: Estate, service: str) -> set[str]:
    """Give the services without which this one cannot be: those that no alternative can stand in for."""
    found: set[str] = set()

    def walk(want: Wants) -> None:
        if isinstance(want, AtLeast):
            if want.k >= len(want.of):
                for one in want.of:
                    walk(one)
        elif want.kind is Kind.SERVICE:
            found.add(want.name)

    walk(estate.services[service].needs)
    return found


class Told:
    """What plans alone tell, where there is no estate: a service that has a plan for a trigger falls with it."""

    def __init__(self, plans: PlanSet, trigger: tuple[str, str]) -> None:
        """Follow what plans say that services depend on."""
        self._plans, self._trigger = plans, trigger

    def service(self, name: str, seen: frozenset[str] = frozenset()) -> str:
        """Say why a service is down, or give the empty text."""
        for plan in self._plans.of(name):
            if plan.trigger == self._trigger:
                return f"plan {plan.name} says that {name} falls with {self._trigger[1]}"
        for plan in self._plans.of(name):
            for below in plan.depends_on:
                why = self.service(below, seen | {name}) if below not in seen else ""
                if why:
                    return f"{name} depends on {below}, and {why}"
        return ""
