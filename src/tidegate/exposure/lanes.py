"""What rollouts must respect so that no service with redundancy falls: limits per group, and lanes of alternatives.

A group with n devices of which k must be alive can spare n - k at once: that is its limit. Where a group can spare
none, another may stand in for it: then the two are lanes of the service, and never both are in flight. What is left is
unavoidable, and is named with what would free it. Sufficient by construction; `verify` holds it against the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tidegate.core.limits import Lane, Lanes, Limit
from tidegate.exposure.estate import AtLeast, Estate, Kind, Named, Need
from tidegate.exposure.tree import in_order


@dataclass(frozen=True, slots=True)
class Protection:
    """Whether a need survives any release that respects the rules; if not, what blocks it, in words."""

    kept: bool
    blocks: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()
    """Groups without slack whose devices can take it."""


@dataclass(slots=True)
class Rules:
    """Limits by group and lanes by service; `unavoidable` names services without slack, with what would free each.

    `unbound` are groups that list devices by number: a rollout cannot tell which devices they are.
    """

    limits: dict[str, int] = field(default_factory=lambda: {})
    lanes: dict[str, list[dict[str, tuple[str, ...]]]] = field(default_factory=lambda: {})
    unavoidable: dict[str, tuple[str, ...]] = field(default_factory=lambda: {})
    unbound: tuple[str, ...] = ()


def rules_of(estate: Estate) -> Rules:
    """Derive the rules of an estate."""
    return _Deriving(estate).rules


class _Deriving:
    def __init__(self, estate: Estate) -> None:
        self.estate, self.rules = estate, Rules()
        self._services: dict[str, Protection] = {}
        for name, group in estate.groups.items():
            slack = estate.devices_of(group) - group.alive
            if slack > 0:
                self.rules.limits[name] = slack
        for name in in_order(estate):
            found = self._need(estate.services[name].needs, name)
            self._services[name] = found
            if not found.kept:
                self.rules.unavoidable[name] = found.blocks
        self.rules.unavoidable = {name: self.rules.unavoidable[name] for name in estate.services if name in self}
        self.rules.unbound = tuple(name for name, group in estate.groups.items() if not group.select)

    def __contains__(self, service: str) -> bool:
        return service in self.rules.unavoidable

    def _need(self, need: Need, service: str) -> Protection:
        if isinstance(need, Named):
            return self._named(need)
        parts = [self._need(inner, service) for inner in need.of]
        kept = sum(part.kept for part in parts)
        if kept >= need.k:
            return Protection(True)
        exposed = [part for part in parts if not part.kept]
        alone = _disjoint(self.estate, exposed)
        if len(parts) - need.k >= 1 and alone:
            names = [_title(inner) for inner, part in zip(need.of, parts, strict=True) if not part.kept]
            lanes = {name: tuple(sorted(p.groups)) for name, p in zip(_unique(names), exposed, strict=True)}
            self.rules.lanes.setdefault(service, []).append(lanes)
            return Protection(True)
        blocks = tuple(dict.fromkeys(block for part in exposed for block in part.blocks))
        return Protection(False, blocks, frozenset().union(*(part.groups for part in exposed)))

    def _named(self, need: Named) -> Protection:
        match need.kind:
            case Kind.SERVICE:
                return self._services[need.name]
            case Kind.GROUP:
                return self._group(need.name)
            case _:
                what = f"it needs {need.kind.value} {need.name} itself: name an alternative beside it (any:)"
                return Protection(False, (what,))

    def _group(self, name: str) -> Protection:
        if name in self.rules.limits or self.estate.groups[name].alive == 0:
            return Protection(True)
        n = self.estate.devices_of(self.estate.groups[name])
        return Protection(False, (f"group {name} needs all of its {n} devices: add one",), frozenset({name}))


def _disjoint(estate: Estate, parts: list[Protection]) -> bool:
    """Say whether parts can be lanes: each falls by groups of devices, and none by a device of another."""
    seen: set[int] = set()
    for part in parts:
        rows = {row for group in part.groups for row in estate.groups[group].members}
        if not rows or rows & seen:
            return False
        seen |= rows
    return True


def _title(need: Need) -> str:
    if isinstance(need, Named):
        return need.name
    words = [_title(inner) for inner in need.of]
    return f"{need.k} of ({', '.join(words)})" if need.k < len(words) else " and ".join(words)


def _unique(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(names)]


def bound_rules(estate: Estate, rules: Rules) -> tuple[tuple[Limit, ...], tuple[Lanes, ...]]:
    """Give the rules as a rollout takes them: groups by the labels that choose their devices; others are left out."""
    select = {name: group.select for name, group in estate.groups.items() if group.select}
    limits = tuple(Limit(name, select[name], most) for name, most in rules.limits.items() if name in select)
    found: list[Lanes] = []
    for service, several in rules.lanes.items():
        for lanes in several:
            bound = tuple(
                Lane(name, tuple(select[group] for group in groups if group in select))
                for name, groups in lanes.items()
            )
            kept = tuple(lane for lane in bound if lane.selects)
            if len(kept) > 1:
                found.append(Lanes(service, kept))
    return limits, tuple(found)


def worst_case(estate: Estate, in_roster: dict[str, int], max_harmed: int, rules: Rules | None) -> list[str]:
    """Name the services that a release could take down.

    Args:
        estate: what can fall.
        in_roster: how many devices of each group the rollout can reach.
        max_harmed: at most so many devices are harmed.
        rules: the limits and lanes that it runs under, or None.

    Returns:
        services in the estate's order. With rules only those without slack can be among them.
    """
    down = {
        name
        for name, group in estate.groups.items()
        if min(in_roster.get(name, 0), max_harmed) > estate.devices_of(group) - group.alive
    }
    fallen: dict[str, bool] = {}
    for name in in_order(estate):
        kept = rules is not None and name not in rules.unavoidable
        fallen[name] = not kept and _falls(estate.services[name].needs, down, fallen)
    return [name for name in estate.services if fallen[name]]


def _falls(need: Need, down: set[str], fallen: dict[str, bool]) -> bool:
    if isinstance(need, AtLeast):
        return sum(not _falls(inner, down, fallen) for inner in need.of) < need.k
    if need.kind is Kind.SERVICE:
        return fallen[need.name]
    return need.kind is Kind.GROUP and need.name in down
