"""What a service needs, read: a name, `all`, `any`, or `at_least` k `of` several, one in another."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tidegate.exposure.estate import AtLeast, Kind, Named, Need
from tidegate.exposure.located import Spot

EXPRESSION = frozenset({"all", "any", "at_least", "of"})
DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Names:
    """What may be named."""

    services: Collection[str]
    groups: Collection[str]
    components: Collection[str]
    vendors: Collection[str]

    def of(self, kind: Kind) -> Collection[str]:
        """Give the names of one kind."""
        return {
            Kind.SERVICE: self.services,
            Kind.GROUP: self.groups,
            Kind.COMPONENT: self.components,
            Kind.VENDOR: self.vendors,
        }[kind]


def read_need(spot: Spot, names: Names, service: str, depth: int = 0) -> Need:
    """Read one need of a service. A list stands for `all` of it.

    Raises:
        BadInput: with the line, for unknown names, k out of range, empty lists and whatever is no need.
    """
    if depth > DEEPEST:
        raise spot.wrong(f"needs of {service!r} are nested more than {DEEPEST} deep")
    if spot.is_list:
        of = _several(spot, names, service, depth)
        return AtLeast(len(of), of)
    if not spot.is_mapping:
        return _named(spot, names, service)
    said = spot.fields(f"needs of {service!r}", EXPRESSION)
    if set(said) == {"all"}:
        of = _several(said["all"], names, service, depth)
        return AtLeast(len(of), of)
    if set(said) == {"any"}:
        return AtLeast(1, _several(said["any"], names, service, depth))
    if set(said) != {"at_least", "of"}:
        raise spot.wrong(f"needs of {service!r} must be a name, all:, any:, or at_least: with of:")
    k = said["at_least"].whole("at_least", least=1)
    of = _several(said["of"], names, service, depth)
    if k > len(of):
        raise said["at_least"].wrong(f"at_least is {k}, more than the {len(of)} that follow in of:")
    return AtLeast(k, of)


def _several(spot: Spot, names: Names, service: str, depth: int) -> tuple[Need, ...]:
    of = tuple(read_need(one, names, service, depth + 1) for one in spot.items(f"needs of {service!r}"))
    if not of:
        raise spot.wrong(f"needs of {service!r} hold an empty list")
    return of


def _named(spot: Spot, names: Names, service: str) -> Named:
    """Find what a name means: a service or a group first, then a component, then a vendor; `group:NAME` says which."""
    name = spot.text(f"needs of {service!r}")
    kinds = [kind for kind in Kind if name in names.of(kind)]
    if kinds[:2] == [Kind.SERVICE, Kind.GROUP]:
        if name != service:
            raise spot.wrong(f"{name!r} is both a service and a group: say service:{name} or group:{name}")
        return Named(Kind.GROUP, name)
    if kinds:
        return Named(kinds[0], name)
    prefix, _, rest = name.partition(":")
    if prefix in {kind.value for kind in Kind} and rest in names.of(Kind(prefix)):
        return Named(Kind(prefix), rest)
    raise spot.wrong(f"service {service!r} needs {name!r}, which is no service, group, component or vendor")
