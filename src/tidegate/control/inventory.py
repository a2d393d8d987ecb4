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
ROWS_AT_ONCE = 1 << 18
"""An export goes through memory in parts of so many devices."""


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
    heard_s = fleet.last_heard_s[rows]
    sets = list(fleet.labels.values)
    named = {
        f"label.{name}": _Texts(pa, [labels.get(name) for labels in sets], label_sets)
        for name in sorted({name for labels in sets for name in labels})
    } | {
        f"installed.{component}": _Texts(pa, [None, *fleet.digests.values], numbers)
        for component, numbers in installed.items()
    }
    moment = pa.timestamp("ms", tz="UTC")
    writer = None
    try:
        for first in range(0, max(len(rows), 1), ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            here = rows[part]
            heard_ms = heard_s[part].astype(np.int64) * 1000
            columns: dict[str, Any] = {
                "device_id": _hexadecimal(pa, fleet.ids[here]),
                "device": pa.array(here.astype(np.int64)),
                "enrolled": pa.array(fleet.enrolled_ms[here], moment),
                "last_heard": pa.array(heard_ms, moment, mask=heard_ms == 0),
                **{name: texts.part(part) for name, texts in named.items()},
            }
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(into, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    return len(rows)


def _hexadecimal(pa: Any, ids: npt.NDArray[Any]) -> Any:
    """Give a column of texts, the hexadecimal of each row's bytes; no text becomes an object."""
    digits = 2 * ids.dtype.itemsize * (ids.shape[1] if ids.ndim == 2 else 1)
    ends = np.arange(len(ids) + 1, dtype=np.int32) * digits
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(ends), pa.py_buffer(ids.tobytes().hex().encode()))


class _Texts:
    """A column of a dictionary: `numbers` point into `values`, of which several may be the same, or None."""

    def __init__(self, pa: Any, values: list[str | None], numbers: npt.NDArray[Any]) -> None:
        known = sorted({value for value in values if value is not None})
        place = {value: number for number, value in enumerate(known)}
        self._codes = np.array([-1 if value is None else place[value] for value in values] or [-1], dtype=np.int32)
        self._pa, self._numbers, self._known = pa, numbers, pa.array(known, pa.string())

    def part(self, part: slice) -> Any:
        """Give some rows of it."""
        codes = self._codes[self._numbers[part]]
        return self._pa.DictionaryArray.from_arrays(self._pa.array(codes, mask=codes < 0), self._known)
