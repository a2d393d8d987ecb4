"""The inventory as one columnar table: a row a device, a column for each label and for each component."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.core.errors import Refused

if TYPE_CHECKING:
    from tidegate.control.fleet import Fleet


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
    columns: dict[str, Any] = {
        "device_id": pa.array([fleet.device_id(row) for row in rows.tolist()], pa.string()),
        "device": pa.array(rows.astype(np.int64)),
        "enrolled": pa.array(fleet.enrolled_ms[rows], pa.timestamp("ms", tz="UTC")),
        "last_heard": pa.array(
            fleet.last_heard_ms[rows], pa.timestamp("ms", tz="UTC"), mask=fleet.last_heard_ms[rows] == 0
        ),
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
