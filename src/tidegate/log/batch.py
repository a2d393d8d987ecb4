"""How a batch of events travels and rests: one record, what devices send in columns, all else as JSON.

A record is `TGB2` and then MessagePack: the number of events, a table of texts, the columns of leases, of reports and
of enrolments, and the other events. Each event keeps its offset in the batch, so that order survives the sorting into
columns. A column of whole numbers holds its least value and what lies above it, in as few bytes as that needs.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tidegate.core.model import Arm, Outcome
from tidegate.log.events import Enrolled, Event, Leased, Reported, decode, encode

MAGIC = b"TGB2"
MOST_EVENTS = 4096
"""A longer append becomes several records, so that a reader never holds more than this at once."""

Ints = npt.NDArray[np.int64]
_ID, _KEY = re.compile(r"[0-9a-f]{32}\Z"), re.compile(r"[0-9a-f]{64}\Z")
_ARMS, _OUTCOMES = (Arm.TREATED, Arm.PLACEBO), (Outcome.CONFIRMED, Outcome.REVERTED)
_ARM_CODE = {arm: code for code, arm in enumerate(_ARMS)}
_OUTCOME_CODE = {outcome: code for code, outcome in enumerate(_OUTCOMES)}
LEASED_NUMBERS = ("at_ms", "position", "index", "ring", "late", "plan_version", "attempt", "seq")
LEASED_TEXTS = ("rollout", "installed", "labels")
ENROLLED_NUMBERS = ("at_ms", "index")
ENROLLED_TEXTS = ("token_id", "labels", "facts")
_ID_WORDS, _KEY_WORDS = ("id0", "id1"), ("key0", "key1", "key2", "key3")
REPORTED_NUMBERS = ("at_ms", "position", "index", "ring", "seq", "boot_s", "condemned")
REPORTED_TEXTS = ("rollout", "probes", "note")


@dataclass(slots=True)
class Columns:
    """Events of one kind: `offset` in the batch, and a column (int64) for each field; texts are numbers of `texts`."""

    offset: Ints
    fields: dict[str, Ints]

    def __len__(self) -> int:
        return len(self.offset)


@dataclass
class Batch:
    """One record, read: its columns, and its other events by offset."""

    count: int
    texts: list[Any]
    leased: Columns | None
    reported: Columns | None
    enrolled: Columns | None
    others: list[tuple[int, bytes]]
    _decoded: list[tuple[int, Event]] | None = field(default=None, repr=False)

    def single_events(self) -> list[tuple[int, Event]]:
        """Give the events that are in no column, with their offsets."""
        if self._decoded is None:
            self._decoded = [(offset, decode(body)) for offset, body in self.others]
        return self._decoded

    @property
    def last_ms(self) -> int:
        """The time of its newest event."""
        tables = [table for table in (self.leased, self.reported, self.enrolled) if table is not None]
        single = [event.at_ms for _, event in self.single_events()]
        return max([*single, *(int(table.fields["at_ms"].max()) for table in tables)])

    @cached_property
    def events(self) -> list[Event]:
        """All events in their order, as objects."""
        found: list[Any] = [None] * self.count
        for offset, event in self.single_events():
            found[offset] = event
        if self.leased is not None:
            _rows(self.leased, self.texts, found, _leased)
        if self.reported is not None:
            _rows(self.reported, self.texts, found, _reported)
        if self.enrolled is not None:
            _rows(self.enrolled, self.texts, found, _enrolled)
        return found


def _leased(row: dict[str, Any], texts: list[Any]) -> Event:
    row["arm"] = _ARMS[row["arm"]]
    row["late"] = bool(row["late"])
    for name in LEASED_TEXTS:
        row[name] = texts[row[name]]
    return Leased(**row)


def _reported(row: dict[str, Any], texts: list[Any]) -> Event:
    row["outcome"] = _OUTCOMES[row["outcome"]]
    row["condemned"] = bool(row.get("condemned", 0))
    for name in REPORTED_TEXTS:
        row[name] = texts[row[name]]
    return Reported(**row)


def _enrolled(row: dict[str, Any], texts: list[Any]) -> Event:
    device_id = words_to_bytes([row.pop(name) for name in _ID_WORDS]).hex()
    key = words_to_bytes([row.pop(name) for name in _KEY_WORDS]).hex()
    row["public_key"] = key if row.pop("has_key") else ""
    for name in ENROLLED_TEXTS:
        row[name] = texts[row[name]]
    return Enrolled(device_id=device_id, **row)


def words_to_bytes(words: Sequence[int]) -> bytes:
    """Give the bytes behind 64-bit words, as they stand in columns."""
    return struct.pack(f">{len(words)}q", *words)


def _rows(
    columns: Columns, texts: list[Any], found: list[Any], make: Callable[[dict[str, Any], list[Any]], Event]
) -> None:
    names = list(columns.fields)
    lists = [columns.fields[name].tolist() for name in names]
    for offset, *values in zip(columns.offset.tolist(), *lists, strict=True):
        found[offset] = make(dict(zip(names, values, strict=True)), texts)


class _Texts:
    """Texts and small structures, each once."""

    def __init__(self) -> None:
        self.known: dict[bytes, int] = {}

    def number(self, value: Any) -> int:
        return self.known.setdefault(msgspec.json.encode(value), len(self.known))


def pack(events: Sequence[Event], offsets: Sequence[int] | None = None, count: int | None = None) -> bytes:
    """Write events as one record.

    Args:
        events: in order.
        offsets: where they stand in the batch, if this is a part of one; default 0, 1, 2, ...
        count: how many events the whole batch has.

    Raises:
        ValueError, TypeError: if an event cannot be written down.
    """
    places = range(len(events)) if offsets is None else offsets
    try:
        return _pack(events, places, len(events) if count is None else count)
    except OverflowError:  # a device may name a number of any size: it is kept as it was said
        body = [(at, encode(event)) for at, event in zip(places, events, strict=True)]
        return _sealed(len(events) if count is None else count, _Texts(), (None, None, None), body)


def _pack(events: Sequence[Event], places: Iterable[int], count: int) -> bytes:
    texts = _Texts()
    leased: list[tuple[int, Leased]] = []
    reported: list[tuple[int, Reported]] = []
    enrolled: list[tuple[int, Enrolled]] = []
    others: list[tuple[int, bytes]] = []
    for at, event in zip(places, events, strict=True):
        if type(event) is Leased and event.v == 1:
            leased.append((at, event))
        elif type(event) is Reported and event.v == 1 and not event.signature:
            reported.append((at, event))
        elif type(event) is Enrolled and event.v == 1 and _packable(event):
            enrolled.append((at, event))
        else:
            others.append((at, encode(event)))
    codes: dict[str, list[int]] = {"arm": [_ARM_CODE[event.arm] for _, event in leased]}
    first = _gathered(leased, LEASED_NUMBERS, LEASED_TEXTS, codes, texts)
    codes = {"outcome": [_OUTCOME_CODE[event.outcome] for _, event in reported]}
    second = _gathered(reported, REPORTED_NUMBERS, REPORTED_TEXTS, codes, texts)
    third = _gathered(enrolled, ENROLLED_NUMBERS, ENROLLED_TEXTS, _identities(enrolled), texts)
    return _sealed(count, texts, (first, second, third), others)


def _packable(event: Enrolled) -> bool:
    """Say whether an identity is what servers give: 16 bytes, and a public key of 32 or none."""
    return bool(_ID.match(event.device_id)) and (not event.public_key or bool(_KEY.match(event.public_key)))


def _identities(found: Sequence[tuple[int, Enrolled]]) -> dict[str, list[int]]:
    words = [
        struct.unpack(">6q", bytes.fromhex(event.device_id + (event.public_key or "0" * 64))) for _, event in found
    ]
    columns = dict(zip((*_ID_WORDS, *_KEY_WORDS), map(list, zip(*words, strict=True)), strict=False))
    return {**columns, "has_key": [int(bool(event.public_key)) for _, event in found]}


def _gathered(
    found: Sequence[tuple[int, Any]],
    numbers: Sequence[str],
    words: Sequence[str],
    codes: dict[str, list[int]],
    texts: _Texts,
) -> dict[str, Any] | None:
    if not found:
        return None
    columns: dict[str, list[int]] = {"": [at for at, _ in found], **codes}
    for name in numbers:
        columns[name] = [getattr(event, name) for _, event in found]
    for name in words:
        columns[name] = [texts.number(getattr(event, name)) for _, event in found]
    return {name: shrink(np.array(values, dtype=np.int64)) for name, values in columns.items()}


def _sealed(count: int, texts: _Texts, tables: tuple[Any, Any, Any], others: list[tuple[int, bytes]]) -> bytes:
    body = [count, list(texts.known), *tables, others]
    return MAGIC + msgspec.msgpack.encode(body)


def pack_columns(
    texts: Sequence[Any],
    *,
    leased: dict[str, Ints] | None = None,
    reported: dict[str, Ints] | None = None,
    enrolled: dict[str, Ints] | None = None,
) -> bytes:
    """Write a record from columns as they are: for those who have arrays and no events.

    Raises:
        ValueError: if a table does not have just the fields of its events.
    """
    known = {
        "leased": {*LEASED_NUMBERS, *LEASED_TEXTS, "arm"},
        "reported": {*REPORTED_NUMBERS, *REPORTED_TEXTS, "outcome"},
        "enrolled": {*ENROLLED_NUMBERS, *ENROLLED_TEXTS, *_ID_WORDS, *_KEY_WORDS, "has_key"},
    }
    count, tables = 0, list[Any]()
    for name, found in (("leased", leased), ("reported", reported), ("enrolled", enrolled)):
        if found is None:
            tables.append(None)
            continue
        if found.keys() != known[name]:
            raise ValueError(f"the columns of {name} should be {sorted(known[name])}, not {sorted(found)}")
        rows = len(found["index"])
        columns = {"": np.arange(count, count + rows, dtype=np.int64), **found}
        tables.append({field: shrink(column) for field, column in columns.items()})
        count += rows
    numbers = _Texts()
    for at, text in enumerate(texts):
        if numbers.number(text) != at:
            raise ValueError("a text stands twice")
    return _sealed(count, numbers, (tables[0], tables[1], tables[2]), [])


def shrink(values: Ints) -> tuple[int, int, int, bytes]:
    """Write a column as (length, least value, bytes a value, data); a constant column has no data."""
    low, high = int(values.min()), int(values.max())
    span = high - low
    size = 0 if span == 0 else 1 if span < 1 << 8 else 2 if span < 1 << 16 else 4 if span < 1 << 32 else 8
    data = b"" if size == 0 else (values - np.int64(low)).view(np.uint64).astype(f"<u{size}").tobytes()
    return len(values), low, size, data


def widen(column: Sequence[Any]) -> Ints:
    """Read what `shrink` wrote. Raises ValueError for data that does not fit its length."""
    length, low, size, data = column
    if size == 0:
        return np.full(length, low, dtype=np.int64)
    values = np.frombuffer(data, dtype=f"<u{size}")
    if len(values) != length:
        raise ValueError(f"a column has {len(values)} values and should have {length}")
    return values.astype(np.int64) + np.int64(low)


def unpack(data: bytes) -> Batch:
    """Read one record.

    Raises:
        ValueError: if it is none, or damaged.
    """
    if data[:4] != MAGIC:
        raise ValueError("it is no record of this Tidegate")
    try:
        count, texts, leased, reported, enrolled, others = msgspec.msgpack.decode(data[4:])
        return Batch(
            count,
            [msgspec.json.decode(text) for text in texts],
            _columns(leased),
            _columns(reported),
            _columns(enrolled),
            [(at, body) for at, body in others],
        )
    except (msgspec.MsgspecError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"a record is damaged: {error}") from error


def _columns(found: dict[str, Any] | None) -> Columns | None:
    if found is None:
        return None
    fields = {name: widen(column) for name, column in found.items()}
    return Columns(fields.pop(""), fields)


def merge(parts: Sequence[Batch]) -> Batch:
    """Put the parts of one batch together again."""
    if len(parts) == 1:
        return parts[0]
    events: list[Any] = [None] * parts[0].count
    for part in parts:
        for offset, event in part.single_events():
            events[offset] = event
        for columns, make in ((part.leased, _leased), (part.reported, _reported), (part.enrolled, _enrolled)):
            if columns is not None:
                _rows(columns, part.texts, events, make)
    if any(event is None for event in events):
        raise ValueError("a batch is not whole")
    return unpack(pack(events))


def records(events: Sequence[Event], first: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Cut an append into records: (number of the first event, how many, time of the last, body)."""
    for start in range(0, len(events), MOST_EVENTS):
        some = events[start : start + MOST_EVENTS]
        yield first + start, len(some), some[-1].at_ms, pack(some)
