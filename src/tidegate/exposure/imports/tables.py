"""CSV tables of people's own: components, devices, groups and services, each told by its columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from tidegate.core.errors import BadInput
from tidegate.exposure.imports.result import PRIVILEGES, Imported, Json, at_least_of, read_bytes

COMPONENTS, SERVICES, GROUPS, DEVICES = {"component"}, {"service", "needs"}, {"group"}, {"components"}
OWN = {"device_id", "name", "count", "components"}


def read_tables(paths: Sequence[Path]) -> Imported:
    """Read CSV files.

    Columns: `component, vendor, privilege, kind, role, fails`; `service, needs, at_least, value_per_h, owner` (needs
    with ; between); `group, alive, select, function`; `components, count` and any labels for devices.

    Raises:
        BadInput: where a file is no CSV, or has none of these columns.
    """
    found = Imported()
    for path in paths:
        for line, row in _rows(path, found):
            where, columns = f"{path.name}:{line}", set(row)
            if columns >= SERVICES:
                _service(row, where, found)
            elif columns >= GROUPS:
                _group(row, where, found)
            elif columns >= COMPONENTS:
                _component(row, where, found)
            else:
                _device(row, where, found)
    return found


def _rows(path: Path, found: Imported) -> list[tuple[int, dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(read_bytes(path).decode("utf-8-sig"), newline=""))
        columns = set(reader.fieldnames or ())
        if not any(columns >= some for some in (SERVICES, GROUPS, COMPONENTS, DEVICES)):
            raise BadInput(f"{path}:1: needs a column component, group, components, or service and needs")
        kept = []
        for row in reader:
            if None in row or None in row.values():
                found.miss(f"{path.name}:{reader.line_num}", "has not as many fields as there are columns")
            else:
                kept.append((reader.line_num, {key.strip(): value.strip() for key, value in row.items()}))
        return kept
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: no CSV in UTF-8: {error}") from error


def _component(row: dict[str, str], where: str, found: Imported) -> None:
    name, privilege = row["component"], row.get("privilege", "")
    if not name:
        found.miss(where, "no name")
        return
    if privilege and privilege not in PRIVILEGES:
        found.miss(where, f"privilege {privilege!r} is not one of {', '.join(PRIVILEGES)}")
        privilege = ""
    more: Json = {key: row[key] for key in ("role",) if row.get(key)}
    if row.get("kind"):
        if row["kind"] in ("content", "code"):
            more["kind"] = row["kind"]
        else:
            found.miss(where, f"kind {row['kind']!r} is not content or code")
    fails = _number(row, "fails", where, found)
    if fails is not None and fails > 1:
        found.miss(where, f"fails {fails:g} is no probability")
        fails = None
    found.component(name, row.get("vendor", ""), privilege, fails=fails, **more)
    found.count("components")


def _service(row: dict[str, str], where: str, found: Imported) -> None:
    inner = [name.strip() for name in row["needs"].split(";") if name.strip()]
    if not row["service"] or not inner:
        found.miss(where, "a service needs a name, and something that it needs")
        return
    least = at_least_of(row.get("at_least", ""), len(inner), where, found)
    service: Json = {"needs": {"at_least": least, "of": inner} if least else {"all": inner}}
    value = _number(row, "value_per_h", where, found)
    service |= {} if value is None else {"value_per_h": value}
    service |= {"owner": row["owner"]} if row.get("owner") else {}
    found.estate["services"][row["service"]] = service
    found.count("services")


def _group(row: dict[str, str], where: str, found: Imported) -> None:
    if not row["group"] or not row.get("select"):
        found.miss(where, "a group needs a name, and select")
        return
    group: Json = {"select": row["select"]}
    alive = row.get("alive", "")
    if alive:
        group["alive"] = int(alive) if alive.isascii() and alive.isdecimal() else alive
    if row.get("function"):
        group["function"] = [name.strip() for name in row["function"].split(";")]
    found.estate.setdefault("groups", {})[row["group"]] = group
    found.count("groups")


def _device(row: dict[str, str], where: str, found: Imported) -> None:
    count = row.get("count") or "1"
    if not (count.isascii() and count.isdecimal()):
        found.miss(where, f"count {count!r} is no whole number")
        return
    names = [name for name in row["components"].replace(";", " ").split() if name]
    for name in names:
        found.component(name)
    labels = {key: value for key, value in row.items() if key not in OWN and value}
    entry = {"count": int(count), "components": names, "labels": labels}
    found.estate.setdefault("devices", []).append(entry)
    found.count("devices", int(count))


def _number(row: dict[str, str], key: str, where: str, found: Imported) -> float | None:
    if not row.get(key):
        return None
    try:
        value = float(row[key])
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        found.miss(where, f"{key} {row[key]!r} is no number")
        return None
    return value
