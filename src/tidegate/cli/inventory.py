"""`tidegate inventory`: labels and devices brought in by the million, counted, and written out again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

from cyclopts import App
from rich.console import Console

from tidegate.cli.devices import export
from tidegate.cli.label_file import Rows, read_rows
from tidegate.cli.office import OfficeClient
from tidegate.cli.show import out, out_json, table
from tidegate.control.joining import PART
from tidegate.core.errors import BadInput, TidegateError

app = App(name="inventory", help="Labels and devices by the million: bring in, count, write out.")
app.command(export, name="export")


@app.command(name="import")
def import_(
    file: Path, /, *, why: str = "", replace: bool = False, home: Path | None = None, json: bool = False
) -> None:
    """Set devices' labels from a CSV or Parquet file: a row a device, a column a label.

    One column names the device: device_id, device (its number here), or public_key. Devices that are known by a public
    key alone are entered, and get this identity when they enrol with that key. All rows are checked first: a file with
    a bad row changes nothing, and the row is named. An empty cell takes that label away.

    Args:
        file: The file. What `tidegate inventory export` writes can be changed and brought in again.
        why: The reason, for the record.
        replace: Take away labels for which the file has no column.
        home: The control plane's directory.
        json: Print JSON.
    """
    office, started = OfficeClient(home), time.monotonic()
    console = Console(stderr=True)
    with console.status(f"reads {file}") as status:
        rows = read_rows(file, lambda count: status.update(f"reads {file}: {count:,} rows"))
        status.update(f"sends {len(rows):,} rows")
        if rows.way == "public_key":
            done = _enter(office, rows, why, replace, status.update)
        else:
            query = {"why": why, "replace": str(replace).lower(), "word": rows.word}
            try:
                done = office.send("/api/v1/inventory/labels", rows.arrays(), query)
            except BadInput as error:
                raise BadInput(f"{file}: {error}") from error
    if json:
        out_json({"rows": len(rows), "sets": len(rows.sets), **done, "seconds": round(time.monotonic() - started, 3)})
        return
    entered = f"{done['entered']:,} devices entered, " if "entered" in done else ""
    out(f"{entered}{done['labelled']:,} devices labelled, in {len(rows.sets):,} different ways.")


def _enter(office: OfficeClient, rows: Rows, why: str, replace: bool, say: Callable[[str], None]) -> dict[str, int]:
    name = f"import-{secrets.token_hex(4)}"
    query = {"why": why, "replace": str(replace).lower(), "import": name}
    done = {"entered": 0, "labelled": 0}
    for start in range(0, len(rows), PART):
        say(f"enters devices: {start:,} of {len(rows):,}")
        try:
            found = office.send("/api/v1/inventory/devices", rows.arrays(start, start + PART), query)
        except TidegateError as error:
            so_far = f"{sum(done.values()):,} of {len(rows):,} devices are in; run it again: they are left as they are"
            raise type(error)(f"{error} ({so_far})") from error
        done = {key: done[key] + found[key] for key in done}
    return done


@app.command
def labels(*, home: Path | None = None, json: bool = False) -> None:
    """Count devices by label and value.

    Args:
        home: The control plane's directory.
        json: Print JSON.
    """
    found = OfficeClient(home).get("/api/v1/inventory/labels")
    if json:
        out_json(found)
        return
    rows = [
        (name, len(values), ", ".join(f"{value} {count:,}" for value, count in list(values.items())[:5]))
        for name, values in found["labels"].items()
    ]
    empty = "No device has a label: give tokens labels (tidegate token create --label), or import them."
    table(f"Labels of {found['devices']:,} devices", ("label", "values", "largest groups"), rows, empty=empty)
