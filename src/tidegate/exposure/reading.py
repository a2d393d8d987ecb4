"""An estate file read whole, or refused with the line: unknown names, circles, k above n, negative counts, types."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from tidegate.exposure.estate import (
    UNKNOWN,
    Component,
    DeviceClass,
    Estate,
    Group,
    Kind,
    Named,
    Privilege,
    Service,
    names_in,
)
from tidegate.exposure.located import Spot, read_spots, spots_of
from tidegate.exposure.needs import EXPRESSION, Names, read_need

TOP = frozenset({"vendors", "components", "devices", "groups", "services", "version", "description"})
COMMON = frozenset({"description", "owner"})
VENDOR = COMMON | {"fails"}
COMPONENT = COMMON | {"vendor", "privilege", "kind", "role", "fails"}
ENTRY = COMMON | {"name", "count", "components", "labels", "fails"}
GROUP = COMMON | {"alive", "devices", "select", "function", "fails"}
SERVICE = COMMON | {"needs", "value_per_h", "approver"}
KINDS = ("content", "code")
MOST_DEVICES = 2_000_000_000
"""Devices in one estate: the kernel counts them in 32 bits."""


def read_estate(path: Path | str, devices: Sequence[DeviceClass] = ()) -> Estate:
    """Read an estate file (YAML or JSON).

    Args:
        path: the file.
        devices: an inventory, for groups that `select` by label; added to the file's own `devices`. Its components that
            the file does not know count as unknown.

    Raises:
        BadInput: naming file and line, for anything that cannot be understood whole.
    """
    return estate_of(read_spots(path), devices)


def parse_estate(text: bytes | str, source: str = "estate", devices: Sequence[DeviceClass] = ()) -> Estate:
    """Read an estate from text; as `read_estate`."""
    return estate_of(spots_of(text, source), devices)


def estate_of(top: Spot, devices: Sequence[DeviceClass] = ()) -> Estate:
    """Read an estate from YAML nodes; as `read_estate`."""
    parts = top.fields("the estate", TOP)
    if "services" not in parts:
        raise top.wrong("the estate has no services; name at least one under services:")
    vendors = _vendors(parts.get("vendors"))
    components = _components(parts.get("components"), vendors)
    for name in {name for one in devices for name in one.components} - components.keys():
        components[name] = Component(
            name
        )  # whose it is and where it runs is not known: counted, shown, not taken for safe
    for part in components.values():
        vendors.setdefault(part.vendor, None)
    classes = [*devices, *_entries(parts.get("devices"), "devices", components)]
    groups = _groups(parts.get("groups"), components, classes)
    if (total := sum(one.count for one in classes)) > MOST_DEVICES:
        raise top.wrong(f"the estate has {total:,} devices; there may be {MOST_DEVICES:,}")
    services = _services(parts["services"], Names(services={}, groups=groups, components=components, vendors=vendors))
    return Estate(vendors, components, tuple(classes), groups, services, top.source)


def _vendors(spot: Spot | None) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    if spot is None or spot.is_null:
        return found
    if spot.is_list:
        for one in spot.items("vendors"):
            name = one.text("a vendor")
            if name in found:
                raise one.wrong(f"vendor {name!r} stands twice")
            found[name] = None
        return found
    for name, (_, value) in spot.mapping("vendors").items():
        said = {} if value.is_null else value.fields(f"vendor {name!r}", VENDOR)
        found[name] = _fails(said)
    return found


def _components(spot: Spot | None, vendors: dict[str, float | None]) -> dict[str, Component]:
    found: dict[str, Component] = {}
    if spot is None or spot.is_null:
        return found
    declared = bool(vendors)
    for name, (_, value) in spot.mapping("components").items():
        what = f"component {name!r}"
        said = {} if value.is_null else value.fields(what, COMPONENT)
        vendor = _optional(said, "vendor", f"the vendor of {what}") or UNKNOWN
        if declared and vendor not in vendors and vendor != UNKNOWN:
            raise said["vendor"].wrong(f"{what} names vendor {vendor!r}, which is not among vendors:")
        privilege = _optional(said, "privilege", f"the privilege of {what}") or Privilege.UNKNOWN.value
        if privilege not in {p.value for p in Privilege}:
            raise said["privilege"].wrong(f"privilege must be kernel, system, user or unknown, not {privilege!r}")
        kind = _optional(said, "kind", f"the kind of {what}")
        if kind and kind not in KINDS:
            raise said["kind"].wrong(f"kind must be content or code, not {kind!r}")
        role = _optional(said, "role", f"the role of {what}")
        found[name] = Component(name, vendor, Privilege(privilege), kind, role, _fails(said))
    return found


def _entries(spot: Spot | None, what: str, components: dict[str, Component]) -> list[DeviceClass]:
    if spot is None or spot.is_null:
        return []
    found: list[DeviceClass] = []
    for number, one in enumerate(spot.items(what), 1):
        said = one.fields(f"an entry of {what}", ENTRY)
        name = _optional(said, "name", "a name") or f"{what}[{number}]"
        count = said["count"].whole("count") if "count" in said else 1
        if count > MOST_DEVICES:
            raise said["count"].wrong(f"count must be at most {MOST_DEVICES:,}, not {count:,}")
        labels = said["labels"].mapping("labels") if "labels" in said else {}
        found.append(
            DeviceClass(
                name,
                count,
                _component_names(said.get("components"), f"the components of {what}", components),
                {label: value.text(f"label {label!r}") for label, (_, value) in labels.items()},
                _fails(said),
            )
        )
    return found


def _component_names(spot: Spot | None, what: str, components: dict[str, Component]) -> tuple[str, ...]:
    if spot is None or spot.is_null:
        return ()
    found: set[str] = set()
    for one in spot.items(what):
        name = one.text("a component")
        if name not in components:
            raise one.wrong(f"{what} name {name!r}, which is not among components:")
        found.add(name)
    return tuple(sorted(found))


def _groups(spot: Spot | None, components: dict[str, Component], classes: list[DeviceClass]) -> dict[str, Group]:
    """Read the groups; devices that are listed in a group become classes of their own at the end of `classes`."""
    found: dict[str, Group] = {}
    if spot is None or spot.is_null:
        return found
    inventory = len(classes)
    index = _index(classes)
    for name, (key, value) in spot.mapping("groups").items():
        what = f"group {name!r}"
        said = value.fields(what, GROUP)
        if ("devices" in said) == ("select" in said):
            raise key.wrong(f"{what} must have either devices: or select:")
        select: tuple[tuple[str, str], ...] = ()
        if "select" in said:
            select = read_select(said["select"].text("select"), said["select"])
            members = tuple(sorted(set.intersection(*(index.get(pair, set()) for pair in select))))
        else:
            listed = _entries(said["devices"], name, components)
            members = tuple(range(len(classes), len(classes) + len(listed)))
            classes.extend(listed)
        devices = sum(classes[row].count for row in members)
        if devices == 0:
            raise key.wrong(f"{what} has no devices" + (_hint(inventory) if select else ""))
        alive = _alive(said.get("alive"), devices, what)
        function = _component_names(said.get("function"), f"the function of {what}", components)
        found[name] = Group(name, alive, members, function, select, _fails(said), key.line)
    return found


def _hint(inventory: int) -> str:
    if inventory:
        return ": none has these labels"
    return "; give an inventory with the labels (devices: in the estate, --inventory or --server)"


def read_select(text: str, spot: Spot) -> tuple[tuple[str, str], ...]:
    """Read `label=value,label=value`."""
    found: dict[str, str] = {}
    for part in text.split(","):
        label, sign, value = (word.strip() for word in part.partition("="))
        if not sign or not label or not value:
            raise spot.wrong(f"select must be LABEL=VALUE, several with commas between, not {text!r}")
        if label in found:
            raise spot.wrong(f"select names label {label!r} twice")
        found[label] = value
    return tuple(sorted(found.items()))


def _index(classes: Sequence[DeviceClass]) -> dict[tuple[str, str], set[int]]:
    found: dict[tuple[str, str], set[int]] = {}
    for row, devices in enumerate(classes):
        for pair in devices.labels.items():
            found.setdefault(pair, set()).add(row)
    return found


def _alive(spot: Spot | None, devices: int, what: str) -> int:
    """Read k: a whole number, `all`, or a share such as 60%, rounded up. Where nothing is said, all."""
    if spot is None:
        return devices
    text = spot.text(f"alive of {what}")
    if text == "all":
        return devices
    if text.endswith("%"):
        try:
            share = Fraction(text[:-1].strip()) / 100
        except (ValueError, ZeroDivisionError):
            raise spot.wrong(f"alive of {what} must be a number, all, or a share such as 60%, not {text!r}") from None
        if not 0 <= share <= 1:
            raise spot.wrong(f"alive of {what} must be from 0% to 100%, not {text}")
        return math.ceil(share * devices)
    k = spot.whole(f"alive of {what}")
    if k > devices:
        raise spot.wrong(f"alive of {what} is {k}, more than its {devices} devices")
    return k


def _services(spot: Spot, known: Names) -> dict[str, Service]:
    entries = spot.mapping("services")
    if not entries:
        raise spot.wrong("the estate has no services; name at least one under services:")
    names = Names(dict.fromkeys(entries), known.groups, known.components, known.vendors)
    found: dict[str, Service] = {}
    for name, (key, value) in entries.items():
        what = f"service {name!r}"
        bare = not value.is_mapping or bool(EXPRESSION & value.mapping(what).keys())
        said = {"needs": value} if bare else value.fields(what, SERVICE)
        if "needs" not in said:
            raise key.wrong(f"{what} does not say what it needs")
        worth = said["value_per_h"].number("value_per_h") if "value_per_h" in said else None
        owner, approver = _optional(said, "owner", "owner"), _optional(said, "approver", "approver")
        found[name] = Service(name, read_need(said["needs"], names, name), worth, owner, approver, key.line)
    _refuse_circles(found, spot)
    return found


def _refuse_circles(services: dict[str, Service], spot: Spot) -> None:
    """Walk depth first without recursion; what is met again while it is open closes a circle."""
    done: set[str] = set()
    for root in services:
        path: dict[str, list[str]] = {}
        if root not in done:
            path[root] = _inner(services[root])
        while path:
            name = next(reversed(path))
            if not path[name]:
                del path[name]
                done.add(name)
                continue
            inner = path[name].pop()
            if inner in path:
                circle = " -> ".join([*list(path)[list(path).index(inner) :], inner])
                lines = spot.mapping("services")
                raise lines[name][0].wrong(f"services need each other in a circle: {circle}")
            if inner not in done:
                path[inner] = _inner(services[inner])


def _inner(service: Service) -> list[str]:
    return [named.name for named in names_in(service.needs) if named.kind is Kind.SERVICE]


def _fails(said: dict[str, Spot]) -> float | None:
    return said["fails"].number("fails", 1.0) if "fails" in said and not said["fails"].is_null else None


def _optional(said: dict[str, Spot], key: str, what: str) -> str:
    return said[key].text(what) if key in said and not said[key].is_null else ""


__all__ = ["Named", "estate_of", "parse_estate", "read_estate", "read_select"]
