"""The inventory in columns: counts by class and by label, and all of it as a Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tidegate.core.errors import Refused

if TYPE_CHECKING:
    from tidegate.control.fleet import Fleet

COUNTED_BELOW = 1 << 24


def classes(fleet: Fleet, after: int, limit: int) -> tuple[list[dict[str, Any]], int | None]:
    """Count devices that have the same labels and run the same components, in columns.

    Args:
        after: what the page before gave as its second value; -1 for the first page.
        limit: how many classes at most.

    Returns:
        The classes, and what the next page begins after, or None if there is none.
    """
    count = len(fleet)
    installed = [(component, column) for component, column in sorted(fleet.installed.items())]
    codes = fleet.label_set[:count].astype(np.int64) << len(installed)
    for bit, (_, column) in enumerate(installed):
        codes |= (column[:count] != 0).astype(np.int64) << bit
    found, sizes = _counted(codes)
    start = int(np.searchsorted(found, after, side="right"))
    page = range(start, min(start + limit, len(found)))
    rows = [
        {
            "count": int(sizes[place]),
            "labels": fleet.labels.values[int(found[place]) >> len(installed)],
            "components": [name for bit, (name, _) in enumerate(installed) if int(found[place]) >> bit & 1],
        }
        for place in page
    ]
    return rows, int(found[page[-1]]) if page and page[-1] + 1 < len(found) else None


def label_counts(fleet: Fleet) -> dict[str, dict[str, int]]:
    """Count devices by label and value, the largest group first."""
    sizes = np.bincount(fleet.label_set[: len(fleet)], minlength=len(fleet.labels.values)).tolist()
    found: dict[str, dict[str, int]] = {}
    for labels, size in zip(list(fleet.labels.values), sizes, strict=False):
        for name, value in labels.items() if size else ():
            values = found.setdefault(name, {})
            values[value] = values.get(value, 0) + size
    return {name: dict(sorted(found[name].items(), key=lambda item: (-item[1], item[0]))) for name in sorted(found)}


def _counted(codes: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Give the different codes in order, and how often each comes; without sorting where they are small."""
    if len(codes) and int(codes.max()) < COUNTED_BELOW:
        sizes = np.bincount(codes)
        found = np.flatnonzero(sizes)
        return found, sizes[found]
    return np.unique(codes, return_counts=True)


def write_parquet(fleet: Fleet, wanted: Mapping[str, str], into: Path) -> int:
    """Write the devices that have all of these labels; give how many. No device becomes an object on the way.

    Columns: `device_id`, `device`, `enrolled`, `last_heard` (null if never), `label.NAME` and `installed.COMPONENT`
    (null where there is none), sorted by name.

    Raises:
        Refused: where pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise Refused("an export to Parquet needs pyarrow on the server: pip install pyarrow") from error
    rows = np.flatnonzero(fleet.labelled(wanted))
    # Numbers before the values that they point to: devices may enrol meanwhile, and nothing known ever changes.
    label_sets = fleet.label_set[rows]
    installed = {component: fleet.installed[component][rows] for component in sorted(fleet.installed)}
    heard_s = fleet.last_heard_s[rows].astype(np.int64)
    columns: dict[str, Any] = {
        "device_id": pa.array([fleet.device_id(row) for row in rows.tolist()], pa.string()),
        "device": pa.array(rows.astype(np.int64)),
        "enrolled": pa.array(fleet.enrolled_ms[rows], pa.timestamp("ms", tz="UTC")),
        "last_heard": pa.array(heard_s * 1000, pa.timestamp("ms", tz="UTC"), mask=heard_s == 0),
    }
    sets = list(fleet.labels.values)
    for name in sorted({name for labels in sets for name in labels}):
        values = [labels.get(name) for labels in sets]
        columns[f"label.{name}"] = _texts(pa, values, label_sets)
    for component, numbers in installed.items():
        columns[f"installed.{component}"] = _texts(pa, [None, *fleet.digests.values], numbers)
    pq.write_table(pa.table(columns), into)
    return len(rows)


def _texts(pa: Any, values: list[str | None], numbers: Any) -> Any:
    """Give a dictionary column: `numbers` point into `values`, of which several may be the same, or None."""
    known = sorted({value for value in values if value is not None})
    place = {value: number for number, value in enumerate(known)}
    codes = np.array([-1 if value is None else place[value] for value in values] or [-1], dtype=np.int32)[numbers]
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(known, pa.string()))
