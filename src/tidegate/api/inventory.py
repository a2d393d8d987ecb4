"""Operators' routes for the inventory as a whole: counts, export, and labels or devices brought in by the million."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tidegate.api.array_file import check_arrays
from tidegate.api.reading import labels_of, number_of, only, who_of
from tidegate.control.inventory import classes, label_counts, write_parquet
from tidegate.control.joining import MOST_AT_ONCE, join
from tidegate.control.labelling import Ints, Partial, labels_set, rows_of
from tidegate.control.state import ServerState
from tidegate.core.errors import BadInput
from tidegate.log.events import Event

MOST_CLASSES = 10_000
MOST_BYTES = 2 * 1024**3
SPARE_BYTES, DEVICE_BYTES, SPARE_ROWS = 64 << 20, 640, 1_000_000
"""What an import unpacks to: more than the labels of every enrolled device take, and of a million besides."""
ID, KEY = 16, 32
NAMES = frozenset({"sets", "numbers", "lines", "ids", "keys", "rows"})


@dataclass(frozen=True, slots=True)
class Brought:
    """What an import brings: one of `ids` (n, 16), `keys` (n, 32) and `rows`; where each stands in its file; labels."""

    ids: npt.NDArray[np.uint8] | None
    keys: npt.NDArray[np.uint8] | None
    rows: Ints | None
    lines: Ints
    sets: list[Partial]
    numbers: Ints

    def __len__(self) -> int:
        return len(self.lines)


async def inventory(request: Request) -> Response:
    """Count devices by labels and what is installed: what exposure is computed from. In pages: `limit`, `after`."""
    only(request, "limit", "after")
    fleet = request.app.state.office.controller.state.devices
    limit = min(max(number_of(request, "limit", MOST_CLASSES), 1), MOST_CLASSES)
    after = request.query_params.get("after", "-1")
    if not after.removeprefix("-").isdecimal() or len(after) > 19:
        raise BadInput(f"after must be what the page before gave as next, not {after!r}")
    found, following = await asyncio.to_thread(classes, fleet, int(after), limit)
    return JSONResponse({"devices": len(fleet), "classes": found, "next": following})


async def labels(request: Request) -> Response:
    """Count devices by label and value."""
    fleet = request.app.state.office.controller.state.devices
    return JSONResponse({"devices": len(fleet), "labels": await asyncio.to_thread(label_counts, fleet)})


async def export(request: Request) -> Response:
    """Give the devices with every `label=name=value` given as a Parquet file."""
    only(request, "label")
    fleet = request.app.state.office.controller.state.devices
    name = _temporary(".parquet")
    try:
        await asyncio.to_thread(write_parquet, fleet, labels_of(request), Path(name))
    except BaseException:
        os.unlink(name)
        raise
    return FileResponse(name, media_type="application/vnd.apache.parquet", background=BackgroundTask(os.unlink, name))


async def bring(request: Request) -> Response:
    """Set labels of enrolled devices: all that are named, or none."""
    controller = request.app.state.office.controller
    by = who_of(dict(request.query_params))
    replace = request.query_params.get("replace") == "true"
    brought = await _brought(request)
    word = request.query_params.get("word", "row")
    rows = await asyncio.to_thread(_known_rows, controller.state, brought, word)

    def act(state: ServerState, now_ms: int) -> tuple[list[Event], int]:
        return labels_set(state.devices, now_ms, by, rows, brought.sets, brought.numbers, replace=replace)

    return JSONResponse({"labelled": await controller.ask(act)})


async def enter(request: Request) -> Response:
    """Enter devices by their public keys before they come, and label those that are known: one part of an import."""
    controller = request.app.state.office.controller
    query = dict(request.query_params)
    by, name, replace = who_of(query), query.get("import", ""), query.get("replace") == "true"
    brought = await _brought(request)
    if brought.keys is None or len(brought) > MOST_AT_ONCE:
        raise BadInput(f"this takes public keys, at most {MOST_AT_ONCE:,} at once")
    keys, ids = brought.keys, secrets.token_bytes(ID * len(brought))

    def act(state: ServerState, now_ms: int) -> tuple[list[Event], tuple[int, int]]:
        return join(state, now_ms, by, keys, brought.sets, brought.numbers, token_id=name, ids=ids, replace=replace)

    fresh, known = await controller.ask(act)
    return JSONResponse({"entered": fresh, "labelled": known})


async def _brought(request: Request) -> Brought:
    """Take a file of arrays in, and read it. Raises BadInput."""
    name, size = _temporary(".npz"), 0
    try:
        with open(name, "wb") as file:
            async for part in request.stream():
                size += len(part)
                if size > MOST_BYTES:
                    raise BadInput(f"an import is at most {MOST_BYTES:,} bytes; cut the file in two")
                file.write(part)
        return await asyncio.to_thread(_read, name, len(request.app.state.office.controller.state.devices))
    finally:
        os.unlink(name)


def _read(name: str, enrolled: int) -> Brought:
    check_arrays(name, NAMES, min(MOST_BYTES, SPARE_BYTES + DEVICE_BYTES * enrolled), enrolled + SPARE_ROWS)
    try:
        with np.load(name, allow_pickle=False) as found:
            sets = msgspec.json.decode(found["sets"].tobytes(), type=list[dict[str, str | None]])
            numbers, lines = found["numbers"].astype(np.int64), found["lines"].astype(np.int64)
            ids, keys = _bytes(found, "ids", ID), _bytes(found, "keys", KEY)
            rows = found["rows"].astype(np.int64) if "rows" in found else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, msgspec.MsgspecError) as error:
        raise BadInput(f"the import is no file of arrays: {error}") from error
    which = [column for column in (ids, keys, rows) if column is not None]
    if len(which) != 1 or not len(which[0]) == len(numbers) == len(lines):
        raise BadInput("an import names its devices in one way, with a line and a set of labels for each")
    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(sets):
        raise BadInput("an import names a set of labels that it does not hold")
    return Brought(ids, keys, rows, lines, sets, numbers)


def _bytes(found: Any, name: str, width: int) -> npt.NDArray[np.uint8] | None:
    if name not in found:
        return None
    column = found[name]
    if column.dtype != np.uint8 or column.ndim != 2 or column.shape[1] != width:
        raise ValueError(f"{name} must have {width} bytes each")
    return column


def _known_rows(state: ServerState, brought: Brought, word: str) -> Ints:
    """Find the devices that an import names. Raises BadInput naming the first line with one that is not known here."""
    fleet = state.devices
    if brought.ids is not None:
        rows = rows_of(fleet, brought.ids)
        names = [one.tobytes().hex() for one in brought.ids[rows < 0][:1]]
    elif brought.rows is not None:
        rows = np.where((brought.rows >= 0) & (brought.rows < len(fleet)), brought.rows, -1)
        names = [f"number {one}" for one in brought.rows[rows < 0][:1].tolist()]
    else:
        raise BadInput("labels are set by device_id or device number; public keys are entered")
    if names:
        missing = int((rows < 0).sum())
        more = f", nor are {missing - 1:,} others" if missing > 1 else ""
        line = int(brought.lines[np.flatnonzero(rows < 0)[0]])
        raise BadInput(f"{word} {line}: device {names[0]} is not enrolled here{more}; nothing was changed")
    order = np.argsort(rows, kind="stable")
    again = np.flatnonzero(rows[order][1:] == rows[order][:-1])
    if len(again):
        one, two = sorted(int(brought.lines[order[place]]) for place in (again[0], again[0] + 1))
        raise BadInput(f"{word} {two}: this device stands in {word} {one} already; nothing was changed")
    return rows


def _temporary(suffix: str) -> str:
    descriptor, name = tempfile.mkstemp(suffix=suffix)
    os.close(descriptor)
    return name


ROUTES = [
    Route("/api/v1/inventory", inventory),
    Route("/api/v1/inventory/labels", labels),
    Route("/api/v1/inventory/labels", bring, methods=["POST"]),
    Route("/api/v1/inventory/devices", enter, methods=["POST"]),
    Route("/api/v1/inventory.parquet", export),
]
