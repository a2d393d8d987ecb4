"""CycloneDX (JSON): suppliers, drivers and firmware, dependsOn; k of n by a property, else everything is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tidegate.core.errors import BadInput
from tidegate.exposure.imports.result import PRIVILEGES, Imported, Json, at_least_of, needs_of, read_json, rows_of, word

BY_TYPE = {
    "device-driver": "kernel",
    "firmware": "kernel",
    "operating-system": "kernel",
    "application": "user",
    "framework": "user",
    "library": "user",
    "container": "user",
    "file": "",
    "device": "",
    "platform": "",
    "data": "",
}
AT_LEAST, PRIVILEGE, VALUE = "tidegate:at_least", "tidegate:privilege", "tidegate:value_per_h"


def read_cyclonedx(path: Path) -> Imported:
    """Read a CycloneDX file. Raises BadInput where it is none."""
    bom = read_json(path)
    if not isinstance(bom, dict) or bom.get("bomFormat") != "CycloneDX":
        raise BadInput(f"{path}: no CycloneDX JSON: bomFormat is not CycloneDX")
    found = Imported()
    parts = _parts(bom, found)
    names = _names(parts)
    inner: dict[str, list[str]] = {}
    for row in rows_of(bom.get("dependencies"), "dependencies", found):
        ref, on = word(row, "ref"), row.get("dependsOn") or []
        if ref not in parts:
            found.miss(f"dependencies {ref!r}", "is no component or service of this file")
        elif isinstance(on, list) and on:
            inner[ref] = [str(one) for one in on]
    for ref, part in parts.items():
        _component(ref, part, names, found)
    for ref, on in inner.items():
        _service(ref, on, parts, names, inner, found)
    return found


def _parts(bom: Json, found: Imported) -> dict[str, Json]:
    """Take all components, nested ones too, and services, by their reference."""
    top = (bom.get("metadata") or {}).get("component") if isinstance(bom.get("metadata"), dict) else None
    queue = [*([top] if isinstance(top, dict) else []), *rows_of(bom.get("components"), "components", found)]
    queue += [{"type": "service", **row} for row in rows_of(bom.get("services"), "services", found)]
    parts: dict[str, Json] = {}
    while queue:
        part = queue.pop(0)
        name, ref = word(part, "name"), word(part, "bom-ref") or word(part, "name")
        if not name:
            found.miss("components", f"one has no name ({ref or 'and no bom-ref'})")
        elif ref in parts:
            found.miss(f"components {ref!r}", "stands twice; the first is taken")
        else:
            parts[ref] = part
        queue += rows_of(part.get("components"), f"components of {name}", found)
    for key in sorted(bom.keys() & {"compositions", "formulation", "vulnerabilities", "annotations", "declarations"}):
        found.miss(key, "is not read")
    return parts


def _names(parts: dict[str, Json]) -> dict[str, str]:
    """Call each by its name; by name and version, or its reference, where several share one."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for ref, part in parts.items():
        for wish in (word(part, "name"), f"{word(part, 'name')}@{word(part, 'version')}", ref):
            if wish not in taken:
                break
        names[ref] = wish
        taken.add(wish)
    return names


def _component(ref: str, part: Json, names: dict[str, str], found: Imported) -> None:
    kind = word(part, "type")
    properties = _properties(part)
    privilege = properties.get(PRIVILEGE, BY_TYPE.get(kind, ""))
    if privilege and privilege not in PRIVILEGES:
        found.miss(f"{names[ref]}", f"{PRIVILEGE} {privilege!r} is not one of {', '.join(PRIVILEGES)}")
        privilege = ""
    if kind not in BY_TYPE and kind != "service":
        found.miss(names[ref], f"type {kind!r} says nothing of where it runs")
    vendor = _organisation(part, "supplier") or _organisation(part, "manufacturer") or _organisation(part, "provider")
    found.component(names[ref], vendor or word(part, "publisher"), privilege)
    found.count("components")


def _organisation(part: Json, key: str) -> str:
    value: Any = part.get(key)
    return word(value, "name") if isinstance(value, dict) else ""


def _properties(part: Json) -> dict[str, str]:
    rows = part.get("properties") or []
    return (
        {word(row, "name"): word(row, "value") for row in rows if isinstance(row, dict)}
        if isinstance(rows, list)
        else {}
    )


def _service(
    ref: str, on: list[str], parts: dict[str, Json], names: dict[str, str], inner: dict[str, list[str]], found: Imported
) -> None:
    name, properties = names[ref], _properties(parts[ref])
    needs: list[str] = []
    for one in on:
        if one not in parts:
            found.miss(name, f"depends on {one!r}, which is not in the file; it counts as unknown")
            found.component(one)
            needs.append(f"component:{one}")
        else:
            needs.append(f"service:{names[one]}" if one in inner else f"component:{names[one]}")
    least = at_least_of(properties.get(AT_LEAST, ""), len(needs), name, found)
    service: Json = {"needs": needs_of([f"component:{name}"], needs, least)}
    try:
        if VALUE in properties:
            service["value_per_h"] = float(properties[VALUE])
    except ValueError:
        found.miss(name, f"{VALUE} {properties[VALUE]!r} is no number")
    found.estate["services"][name] = service
    found.count("services")
