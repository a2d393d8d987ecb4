"""An inventory file read whole before anything is sent: CSV or Parquet, each row a device and its labels."""

from __future__ import annotations

import csv
import io
import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from tidegate.core.errors import BadInput
from tidegate.core.model import check_name
from tidegate.core.printable import is_plain

WAYS = {"device_id": 16, "public_key": 32, "device": 0}
"""Columns that name a device, and their bytes; `device` is its number here. The first that a file has counts."""
LEFT_OUT = frozenset({"device_id", "public_key", "device", "enrolled", "last_heard"})
"""Columns of an export that are no labels, besides `installed.*`."""
MOST_VALUE = 100
BLOCK_ROWS = 65_536
_HEX = np.full(256, 255, dtype=np.uint8)
for _digits in ("0123456789abcdef", "0123456789ABCDEF"):
    _HEX[np.frombuffer(_digits.encode(), dtype=np.uint8)] = np.arange(16)


@dataclass
class Rows:
    """What a file holds. `named` are the bytes that name devices (or numbers, 8 bytes each), one after the other."""

    way: str
    word: str
    named: bytearray = field(default_factory=bytearray)
    lines: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[int] = field(default_factory=lambda: array("i"))
    sets: list[dict[str, str | None]] = field(default_factory=lambda: [])

    def __len__(self) -> int:
        return len(self.lines)

    def twice(self) -> tuple[int, int] | None:
        """Give two lines that name the same device, if there are any."""
        named = np.frombuffer(self.named, dtype=np.uint8).reshape(-1, WAYS[self.way] or 8)
        words = named[:, :8].copy().view("<u8")[:, 0]
        ordered = np.sort(words)
        alike = ordered[1:][ordered[1:] == ordered[:-1]]
        del ordered  # there may be millions of rows
        seen: dict[bytes, int] = {}
        for place in np.flatnonzero(np.isin(words, alike)).tolist() if len(alike) else ():
            first = seen.setdefault(named[place].tobytes(), place)
            if first != place:
                return self.lines[first], self.lines[place]
        return None

    def arrays(self, start: int = 0, end: int | None = None) -> bytes:
        """Give rows as the file of arrays that the server takes."""
        names = {"device_id": "ids", "public_key": "keys", "device": "rows"}
        width = WAYS[self.way] or 8
        raw = np.frombuffer(self.named, dtype=np.uint8).reshape(-1, width)[start:end]
        numbers = np.frombuffer(self.numbers, dtype=np.int32)[start:end]
        used, places = np.unique(numbers, return_inverse=True)
        into = io.BytesIO()
        columns = {
            names[self.way]: raw if WAYS[self.way] else raw.copy().view("<i8")[:, 0],
            "numbers": places.astype(np.int32),
            "lines": np.frombuffer(self.lines, dtype=np.int64)[start:end],
            "sets": np.frombuffer(json.dumps([self.sets[one] for one in used.tolist()]).encode(), dtype=np.uint8),
        }
        np.savez(into, allow_pickle=False, **columns)
        return into.getvalue()


def read_rows(path: Path, progress: Callable[[int], None] = lambda rows: None) -> Rows:
    """Read a file, by its ending or else by its first bytes.

    Raises:
        BadInput: naming the line (in Parquet: the row) of the first thing that cannot be.
    """
    try:
        with path.open("rb") as file:
            columnar = file.read(4) == b"PAR1"
            file.seek(0)
            rows = _parquet(path, progress) if columnar else _csv(path, file, progress)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    if twice := rows.twice():
        raise BadInput(f"{path}:{twice[1]}: this device stands in {rows.word} {twice[0]} already; nothing was imported")
    return rows


def _csv(path: Path, file: IO[bytes], progress: Callable[[int], None]) -> Rows:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    try:
        names = next(reader, [])
        found, labels, key = _header(path, names)
        rows = _Reader(path, Rows(found, "line"), labels)
        for nth, cells in enumerate(reader, 1):
            if len(cells) != len(names):
                if not cells:
                    continue
                rows.refuse(reader.line_num, f"{len(cells)} fields, and the first line names {len(names)}")
            rows.take(reader.line_num, cells[key], [cells[place] for place, _ in labels])
            if not nth % BLOCK_ROWS:
                progress(nth)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}:{reader.line_num + 1}: no CSV in UTF-8: {error}") from error
    return rows.rows


def _parquet(path: Path, progress: Callable[[int], None]) -> Rows:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise BadInput("reading Parquet needs pyarrow: pip install pyarrow; or give CSV") from error
    try:
        table = pq.ParquetFile(path)
        names = list(table.schema_arrow.names)
        found, labels, key = _header(path, names)
        rows = _Reader(path, Rows(found, "row"), labels)
        wanted = [names[key], *(names[place] for place, _ in labels)]
        nth = 0
        for batch in table.iter_batches(BLOCK_ROWS, columns=wanted):
            columns = [_texts(path, name, batch.column(name)) for name in wanted]
            if not rows.take_many(nth + 1, columns[0], columns[1:]):
                for place, cells in enumerate(zip(*(column.to_pylist() for column in columns), strict=True), 1):
                    rows.take(nth + place, cells[0], cells[1:])
            nth += len(batch)
            progress(nth)
    except pa.ArrowException as error:
        raise BadInput(f"{path}: no Parquet file: {str(error).splitlines()[0]}") from error
    return rows.rows


def _texts(path: Path, name: str, column: Any) -> Any:
    """Give a column as texts, empty ones for nulls. Raises BadInput for what is neither text nor whole number."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    takes = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_null)
    if not any(fits(kind) for fits in takes):
        raise BadInput(f"{path}: the column {name} must hold texts, not {kind}")
    return pc.fill_null(column.cast(kind).cast(pa.string()), "")


def _header(path: Path, names: Sequence[str]) -> tuple[str, list[tuple[int, str]], int]:
    """Give how devices are named, the label columns (place, label), and the place of the name. Raises BadInput."""
    way = next((way for way in WAYS if way in names), "")
    if not way:
        raise BadInput(f"{path}:1: an inventory needs a column device_id, public_key or device, and a column a label")
    labels = [
        (place, name.removeprefix("label."))
        for place, name in enumerate(names)
        if name not in LEFT_OUT and not name.startswith("installed.")
    ]
    if len({name for _, name in labels}) != len(labels) or names.count(way) > 1:
        raise BadInput(f"{path}:1: a column stands twice")
    for _, name in labels:
        try:
            check_name("label", name)
        except ValueError as error:
            raise BadInput(f"{path}:1: {error}") from error
    return way, labels, names.index(way)


class _Reader:
    """Takes rows up, each checked; what many rows share is kept once."""

    def __init__(self, path: Path, rows: Rows, labels: Sequence[tuple[int, str]]) -> None:
        self.path, self.rows = path, rows
        self._names = [name for _, name in labels]
        self._known: dict[tuple[str, ...], int] = {}
        self._width = WAYS[rows.way]

    def refuse(self, line: int, why: str) -> None:
        raise BadInput(f"{self.path}:{line}: {why}; nothing was imported")

    def take(self, line: int, named: str, cells: Sequence[str]) -> None:
        """Take one row."""
        if self._width:
            try:
                data = bytes.fromhex(named)
            except ValueError:
                data = b""
            if len(data) != self._width or len(named) != 2 * self._width:
                self.refuse(line, f"{self.rows.way} must have {2 * self._width} hexadecimal digits, not {named[:80]!r}")
        else:
            if not (named.isascii() and named.isdecimal() and len(named) < 11):
                self.refuse(line, f"device must be a device's number, not {named[:80]!r}")
            data = int(named).to_bytes(8, "little")
        key = tuple(cells)
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = self._set(line, key)
        self.rows.named += data
        self.rows.lines.append(line)
        self.rows.numbers.append(number)

    def take_many(self, first: int, named: Any, columns: Sequence[Any]) -> bool:
        """Take a batch of rows (Arrow arrays of texts) at once; False, and nothing taken, if one must be looked at."""
        digits = 2 * self._width
        offsets = np.frombuffer(named.buffers()[1], dtype=np.int32)[named.offset : named.offset + len(named) + 1]
        if not digits or (np.diff(offsets) != digits).any():
            return False
        text = np.frombuffer(named.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]].reshape(-1, digits)
        values = _HEX[text]
        if (values > 15).any():
            return False
        codes = np.zeros(len(named), dtype=np.int64)
        dictionaries: list[list[str]] = []
        for column in columns:
            coded = column.dictionary_encode()
            dictionaries.append(coded.dictionary.to_pylist())
            if not dictionaries[-1] or int(codes.max(initial=0)) >= 2**62 // len(dictionaries[-1]):
                return False
            codes = codes * len(dictionaries[-1]) + coded.indices.to_numpy()
        kinds, places, counts = np.unique(codes, return_index=True, return_inverse=True)
        numbers = np.empty(len(kinds), dtype=np.int32)
        for nth, place in enumerate(places.tolist()):
            key = tuple(column[place].as_py() for column in columns)
            if key not in self._known:
                self._known[key] = self._set(first + place, key)
            numbers[nth] = self._known[key]
        self.rows.named += (values[:, ::2] << 4 | values[:, 1::2]).tobytes()
        self.rows.lines.frombytes(np.arange(first, first + len(named), dtype=np.int64).tobytes())
        self.rows.numbers.frombytes(numbers[counts].tobytes())
        return True

    def _set(self, line: int, cells: tuple[str, ...]) -> int:
        for name, value in zip(self._names, cells, strict=True):
            if len(value) > MOST_VALUE:
                self.refuse(line, f"label {name}: the value must have 1 to {MOST_VALUE} characters")
            if not is_plain(value):
                self.refuse(line, f"label {name}: {value[:40]!r} holds a character that no label can")
        self.rows.sets.append({name: value or None for name, value in zip(self._names, cells, strict=True)})
        return len(self.rows.sets) - 1
