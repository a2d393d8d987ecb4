"""A recovery case: who can repair, where, what it takes, and which services wait for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tidegate.contingency.document import Place, read_document
from tidegate.core.errors import BadInput

MOST_DEVICES = 5_000_000
MOST_TECHNICIANS = 100_000
_CASE = ("technicians", "travel_min", "services", "devices", "start", "name")
_TECHNICIAN = ("name", "site", "skills", "count", "arrives_h", "shifts", "shift")
_SERVICE = ("value_per_h", "needs", "depends_on")
_DEVICE = ("service", "site", "minutes", "count", "needs_skill", "release_h", "name", "steps")


@dataclass(frozen=True, slots=True)
class Shifts:
    """When someone works: `windows` in hours since the start, repeated every `every_h` hours where that is not 0."""

    windows: tuple[tuple[float, float], ...]
    every_h: float = 0.0


@dataclass(frozen=True, slots=True)
class Technician:
    """One person: where they are from `arrives_h` on, what they may do, and when they work (None: always)."""

    name: str
    site: str
    skills: frozenset[str] = frozenset()
    arrives_h: float = 0.0
    shifts: Shifts | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """It is back at its `needs`-th repaired device, and after all that it depends on."""

    name: str
    value_per_h: float
    needs: int
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """Devices that are alike: `count` of them, at a site, `hours` of work each, workable from `release_h` on."""

    service: str
    site: str
    hours: float
    count: int
    skills: frozenset[str] = frozenset()
    release_h: float = 0.0
    name: str = ""
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """A whole case. `travel_h[i, j]` is hours from `sites[i]` to `sites[j]`, infinite where there is no way."""

    technicians: tuple[Technician, ...]
    services: dict[str, Service]
    batches: tuple[Batch, ...]
    sites: tuple[str, ...]
    travel_h: np.ndarray
    name: str = ""
    order: tuple[str, ...] = field(default=())
    """The services, each after all that it depends on."""

    @property
    def devices(self) -> int:
        """How many devices there are in all."""
        return sum(batch.count for batch in self.batches)


def read_case(path: Path) -> Case:
    """Read a case from YAML or JSON. Raises BadInput with the line, and NotFound."""
    return case_of(read_document(path, "the case"))


def case_of(root: Place) -> Case:
    """Read a case from an open document. Raises BadInput with the line."""
    root.fields(_CASE, ("technicians", "services", "devices"))
    technicians = _technicians(root.need("technicians"))
    services = {name: _service(name, place) for name, place in root.need("services").pairs()}
    if not services:
        root.need("services").refuse("there must be at least one service")
    places = root.need("devices").items()
    batches = [_batch(place) for place in places]
    have = dict.fromkeys(services, 0)
    for batch, place in zip(batches, places, strict=True):
        if batch.service not in services:
            place.need("service").refuse(f"there is no service {batch.service!r}; known are {', '.join(services)}")
        have[batch.service] += batch.count
    services = _whole(root, services, have)
    if sum(have.values()) > MOST_DEVICES:
        root.need("devices").refuse(f"more than {MOST_DEVICES:,} devices")
    sites, travel_h = _travel(root, [t.site for t in technicians], [b.site for b in batches])
    case = Case(
        tuple(technicians),
        services,
        tuple(batches),
        sites,
        travel_h,
        name.text() if (name := root.get("name")) else Path(root.file).stem,
        _ordered(root, services),
    )
    for at, place in can_be_reached(case, places):
        place.refuse(at)
    return case


def _technicians(root: Place) -> list[Technician]:
    found: list[Technician] = []
    for place in root.items() if isinstance(root.value, list) else [root]:
        place.fields(_TECHNICIAN, ("site",))
        count = place.need("count").whole(0, MOST_TECHNICIANS) if place.get("count") else 1
        base = name.text() if (name := place.get("name")) else f"t{len(found) + 1}" if count == 1 else ""
        one = Technician(
            base,
            place.need("site").text(),
            frozenset(skills.names()) if (skills := place.get("skills")) and skills.value else frozenset(),
            arrives.number() if (arrives := place.get("arrives_h")) else 0.0,
            _shifts(place),
        )
        first = len(found) + 1
        for n in range(count):
            name = base if count == 1 else f"{base}-{n + 1}" if base else f"t{first + n}"
            found.append(Technician(name, one.site, one.skills, one.arrives_h, one.shifts))
        if len(found) > MOST_TECHNICIANS:
            place.refuse(f"more than {MOST_TECHNICIANS:,} technicians")
    names = [one.name for one in found]
    if len(set(names)) != len(names):
        root.refuse(f"two technicians are called {next(n for n in names if names.count(n) > 1)!r}")
    if not found:
        root.refuse("there must be at least one technician")
    return found


def _shifts(place: Place) -> Shifts | None:
    daily, listed = place.get("shift"), place.get("shifts")
    if daily and listed:
        place.refuse("give `shift` (the same every day) or `shifts` (a list), not both")
    if daily:
        daily.fields(("from_h", "to_h", "every_h"), ("from_h", "to_h"))
        start, every = daily.need("from_h").number(), e.number(0, above=True) if (e := daily.get("every_h")) else 24.0
        end = daily.need("to_h").number(start, above=True)
        if end - start > every:
            daily.refuse(f"a shift of {end - start:g} h cannot come again every {every:g} h")
        return Shifts(((start, end),), every)
    if not listed:
        return None
    windows: list[tuple[float, float]] = []
    for one in listed.items():
        pair = one.items()
        if len(pair) != 2:
            one.refuse("a shift is [from_h, to_h]")
        start = pair[0].number(windows[-1][1] if windows else 0.0)
        windows.append((start, pair[1].number(start, above=True)))
    if not windows:
        listed.refuse("the list of shifts is empty: this technician would never work")
    return Shifts(tuple(windows))


def _service(name: str, place: Place) -> Service:
    place.fields(_SERVICE)
    return Service(
        name,
        value.number() if (value := place.get("value_per_h")) else 1.0,
        needs.whole() if (needs := place.get("needs")) else -1,
        depends.names() if (depends := place.get("depends_on")) and depends.value else (),
    )


def _batch(place: Place) -> Batch:
    place.fields(_DEVICE, ("service", "site", "minutes"))
    return Batch(
        place.need("service").text(),
        place.need("site").text(),
        place.need("minutes").number(0, 1e6, above=True) / 60,
        count.whole(0, MOST_DEVICES) if (count := place.get("count")) else 1,
        frozenset(skill.names()) if (skill := place.get("needs_skill")) and skill.value else frozenset(),
        release.number() if (release := place.get("release_h")) else 0.0,
        name.text() if (name := place.get("name")) else "",
        steps.names() if (steps := place.get("steps")) and steps.value else (),
    )


def _whole(root: Place, services: dict[str, Service], have: dict[str, int]) -> dict[str, Service]:
    """Check what services need; one that does not say needs all its devices."""
    found: dict[str, Service] = {}
    for name, place in root.need("services").pairs():
        one = services[name]
        needs = have[name] if one.needs < 0 else one.needs
        if needs > have[name]:
            place.need("needs").refuse(
                f"service {name} needs {needs} devices, and {have[name]} are listed: it could never come back"
            )
        for other in one.depends_on:
            if other not in services:
                place.need("depends_on").refuse(f"service {name} depends on {other!r}, which is no service here")
        found[name] = Service(name, one.value_per_h, needs, one.depends_on)
    return found


def _ordered(root: Place, services: dict[str, Service]) -> tuple[str, ...]:
    """Order services after what they depend on; a circle is refused, spelled out."""
    order: list[str] = []
    done: dict[str, bool] = {}
    for first in services:
        trail = [(first, iter(services[first].depends_on))]
        if first in done:
            continue
        done[first] = False
        while trail:
            name, rest = trail[-1]
            below = next(rest, None)
            if below is None:
                done[name] = True
                order.append(name)
                trail.pop()
            elif below not in done:
                done[below] = False
                trail.append((below, iter(services[below].depends_on)))
            elif not done[below]:
                names = [step for step, _ in trail]
                circle = [*names[names.index(below) :], below]
                place = dict(root.need("services").pairs())[name]
                place.need("depends_on").refuse(f"services wait for each other in a circle: {' -> '.join(circle)}")
    return tuple(order)


def _travel(root: Place, homes: list[str], works: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Read the matrix: a way back takes as long unless said otherwise; what is missing goes by way of other sites."""
    given = root.get("travel_min")
    rows = {name: dict(row.pairs()) for name, row in given.pairs()} if given else {}
    sites = tuple(dict.fromkeys([*homes, *works, *rows, *(to for row in rows.values() for to in row)]))
    at = {site: i for i, site in enumerate(sites)}
    direct = np.full((len(sites), len(sites)), np.inf)
    for start, row in rows.items():
        for end, place in row.items():
            direct[at[start], at[end]] = place.number(0, 1e6) / 60
    back = np.where(np.isinf(direct), direct.T, direct)
    np.fill_diagonal(back, 0.0)
    if np.isinf(back).any():
        from scipy.sparse.csgraph import floyd_warshall

        shortest = floyd_warshall(np.where(np.isinf(back), 0.0, np.maximum(back, 1e-12)))
        back = np.where(np.isinf(back), shortest, back)
        np.fill_diagonal(back, 0.0)
    return sites, back


def can_be_reached(case: Case, places: list[Place]) -> list[tuple[str, Place]]:
    """Name the first batch that nobody can repair: no skill, no way, or no shift long enough."""
    at = {site: i for i, site in enumerate(case.sites)}
    home = np.array([at[t.site] for t in case.technicians])
    longest = np.array([_longest(t) for t in case.technicians])
    able_of: dict[frozenset[str], np.ndarray] = {}
    known: dict[tuple[str, frozenset[str]], float] = {}
    for batch, place in zip(case.batches, places, strict=True):
        key = (batch.site, batch.skills)
        if key not in known:
            if batch.skills not in able_of:
                able_of[batch.skills] = np.array([batch.skills <= t.skills for t in case.technicians])
            able = able_of[batch.skills]
            if not able.any():
                return [(f"no technician has the skill {', '.join(sorted(batch.skills))}", place)]
            near = able & np.isfinite(case.travel_h[home, at[batch.site]])
            if not near.any():
                homes = ", ".join(sorted({case.sites[one] for one in home[able]}))
                return [(f"no way is given from {homes} to {batch.site}: add it to travel_min", place)]
            known[key] = float(longest[near].max())
        if batch.hours > known[key] and batch.count:
            return [(f"{batch.hours * 60:g} minutes fit into no shift of those who may do it", place)]
    return []


def _longest(technician: Technician) -> float:
    shifts = technician.shifts
    if shifts is None:
        return np.inf
    return max(end - max(start, 0 if shifts.every_h else technician.arrives_h) for start, end in shifts.windows)


__all__ = ["BadInput", "Batch", "Case", "Service", "Shifts", "Technician", "case_of", "read_case"]
