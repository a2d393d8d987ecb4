"""Devices from an inventory: a CSV file with a row for each device or class, or plain values from a control plane."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tidegate.core.errors import BadInput
from tidegate.exposure.estate import DeviceClass

OWN = frozenset({"device_id", "name", "count", "components"})
_SEPARATORS = re.compile(r"[;\s]+")


def read_inventory(path: Path | str) -> list[DeviceClass]:
    """Read a CSV inventory: `components` (names with ; between), `count` (default 1); any other column is a label.

    Rows that are alike become one class, so that its size is that of the differences and not of the fleet.

    Raises:
        BadInput: naming file and line.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if not rows.fieldnames or "components" not in rows.fieldnames:
                raise BadInput(f"{path}:1: an inventory needs a column named components")
            return classes_of(_row(row, path, rows.line_num) for row in rows)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: no CSV in UTF-8: {error}") from error


def _row(row: dict[str, Any], path: Path | str, line: int) -> dict[str, Any]:
    if None in row or None in row.values():
        raise BadInput(f"{path}:{line}: this row has not as many fields as the first line has names")
    count = row.get("count") or "1"
    if not count.isascii() or not count.isdecimal():
        raise BadInput(f"{path}:{line}: count must be a whole number, not {count!r}")
    components = [name for name in _SEPARATORS.split(row["components"]) if name]
    labels = {label: value for label, value in row.items() if label not in OWN and value}
    return {"count": int(count), "components": components, "labels": labels}


def classes_of(rows: Iterable[Mapping[str, Any]], known: Iterable[str] | None = None) -> list[DeviceClass]:
    """Make classes of plain rows {count, components, labels}.

    Args:
        rows: devices or classes.
        known: components that matter; others are left out. None: all.
    """
    kept = None if known is None else set(known)
    found: Counter[tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = Counter()
    for row in rows:
        names = {str(name) for name in row["components"]}
        components = tuple(sorted(names if kept is None else names & kept))
        found[components, tuple(sorted(row["labels"].items()))] += row["count"]
    return [
        DeviceClass(f"inventory[{place}]", count, components, dict(labels))
        for place, ((components, labels), count) in enumerate(found.items(), 1)
    ]
