"""Writing records: events, or columns as they are, into the form that `log/batch.py` describes and reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from tidegate.log.batch import (
    ARMS,
    ENROLLED_NUMBERS,
    ENROLLED_TEXTS,
    ID_WORDS,
    KEY_WORDS,
    LEASED_NUMBERS,
    LEASED_TEXTS,
    MAGIC,
    OUTCOMES,
    REPORTED_NUMBERS,
    REPORTED_TEXTS,
    Batch,
    unpack,
)
from tidegate.log.columns import Columns, Ints, shrink
from tidegate.log.events import Enrolled, Event, Leased, Reported, encode

MOST_EVENTS = 4096
"""A longer append becomes several records, so that a reader never holds more than this at once."""
_ID, _KEY = re.compile(r"[0-9a-f]{32}\Z"), re.compile(r"[0-9a-f]{64}\Z")
_NO_KEY = "0" * 64
_ARM_CODE = {arm: code for code, arm in enumerate(ARMS)}
_OUTCOME_CODE = {outcome: code for code, outcome in enumerate(OUTCOMES)}

_encode = msgspec.json.Encoder().encode


class _Texts:
    """Texts and small structures, each once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._known: dict[bytes | str, int] = {}

    def number(self, value: Any) -> int:
        key = value if type(value) is str else _encode(value)  # a text is its own key
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self.values)
            self.values.append(value)
        return known


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
        return seal(gather(events, places, len(events) if count is None else count))
    except OverflowError:  # a device may name a number of any size: it is kept as it was said
        body = [(at, encode(event)) for at, event in zip(places, events, strict=True)]
        return seal(Batch(len(events) if count is None else count, [], None, None, None, body))


def gather(events: Sequence[Event], places: Iterable[int], count: int) -> Batch:
    """Put events into columns, as they stand in the record that `seal` makes. Raises OverflowError beyond 64 bits."""
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
    return Batch(count, texts.values, first, second, third, others)


def _packable(event: Enrolled) -> bool:
    """Say whether an identity is what servers give: 16 bytes, and a public key of 32 or none."""
    return bool(_ID.match(event.device_id)) and (not event.public_key or bool(_KEY.match(event.public_key)))


def _identities(found: Sequence[tuple[int, Enrolled]]) -> dict[str, Ints]:
    if not found:
        return {}
    digits = "".join([event.device_id + (event.public_key or _NO_KEY) for _, event in found])
    words = np.frombuffer(bytes.fromhex(digits), dtype=">i8").reshape(len(found), -1).astype(np.int64)
    columns = {name: words[:, place] for place, name in enumerate((*ID_WORDS, *KEY_WORDS))}
    return {**columns, "has_key": np.array([bool(event.public_key) for _, event in found], dtype=np.int64)}


def _gathered(
    found: Sequence[tuple[int, Any]],
    numbers: Sequence[str],
    words: Sequence[str],
    codes: Mapping[str, Ints | list[int]],
    texts: _Texts,
) -> Columns | None:
    if not found:
        return None
    events = [event for _, event in found]
    columns = {name: np.array(values, dtype=np.int64) for name, values in codes.items()}
    for name in numbers:
        columns[name] = np.array(list(map(attrgetter(name), events)), dtype=np.int64)
    for name in words:
        columns[name] = np.array(list(map(texts.number, map(attrgetter(name), events))), dtype=np.int64)
    return Columns(np.array([at for at, _ in found], dtype=np.int64), columns)


def seal(batch: Batch) -> bytes:
    """Write a batch as one record."""
    tables = [
        None if table is None else {"": shrink(table.offset), **{name: shrink(c) for name, c in table.fields.items()}}
        for table in (batch.leased, batch.reported, batch.enrolled)
    ]
    texts = [msgspec.json.encode(value) for value in batch.texts]
    return MAGIC + msgspec.msgpack.encode([batch.count, texts, *tables, batch.others])


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
        "enrolled": {*ENROLLED_NUMBERS, *ENROLLED_TEXTS, *ID_WORDS, *KEY_WORDS, "has_key"},
    }
    count, tables = 0, list[Columns | None]()
    for name, found in (("leased", leased), ("reported", reported), ("enrolled", enrolled)):
        if found is None:
            tables.append(None)
            continue
        if found.keys() != known[name]:
            raise ValueError(f"the columns of {name} should be {sorted(known[name])}, not {sorted(found)}")
        rows = len(found["index"])
        tables.append(Columns(np.arange(count, count + rows, dtype=np.int64), found))
        count += rows
    numbers = _Texts()
    for at, text in enumerate(texts):
        if numbers.number(text) != at:
            raise ValueError("a text stands twice")
    return seal(Batch(count, numbers.values, tables[0], tables[1], tables[2], []))


def merge(parts: Sequence[Batch]) -> Batch:
    """Put the parts of one batch together again."""
    if len(parts) == 1:
        return parts[0]
    events: list[Any] = [None] * parts[0].count
    for part in parts:
        for at, event in enumerate(part.events):
            if event is not None:
                events[at] = event
    if any(event is None for event in events):
        raise ValueError("a batch is not whole")
    return unpack(pack(events))


def records(events: Sequence[Event], first: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Cut an append into records: (number of the first event, how many, time of the last, body)."""
    for start in range(0, len(events), MOST_EVENTS):
        some = events[start : start + MOST_EVENTS]
        yield first + start, len(some), some[-1].at_ms, pack(some)
