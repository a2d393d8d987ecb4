"""How a batch of events travels and rests: one record, what devices send in columns, all else as JSON.

A record is `TGB2` and then MessagePack: the number of events, a table of texts, the columns of leases, of reports and
of enrolments, and the other events. Each event keeps its offset in the batch, so that order survives the sorting into
columns. A column of whole numbers holds its least value and what lies above it, in as few bytes as that needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec

from tidegate.core.model import Arm, Outcome
from tidegate.log.columns import Columns, widen, words_to_bytes
from tidegate.log.events import Enrolled, Event, Leased, Reported, decode

MAGIC = b"TGB2"
ARMS, OUTCOMES = (Arm.TREATED, Arm.PLACEBO), (Outcome.CONFIRMED, Outcome.REVERTED)
LEASED_NUMBERS = ("at_ms", "position", "index", "ring", "late", "plan_version", "attempt", "seq")
LEASED_TEXTS = ("rollout", "installed", "labels")
ENROLLED_NUMBERS = ("at_ms", "index")
ENROLLED_TEXTS = ("token_id", "labels", "facts")
ID_WORDS, KEY_WORDS = ("id0", "id1"), ("key0", "key1", "key2", "key3")
REPORTED_NUMBERS = ("at_ms", "position", "index", "ring", "seq", "boot_s", "condemned")
REPORTED_TEXTS = ("rollout", "probes", "note")


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
    row["arm"] = ARMS[row["arm"]]
    row["late"] = bool(row["late"])
    for name in LEASED_TEXTS:
        row[name] = texts[row[name]]
    return Leased(**row)


def _reported(row: dict[str, Any], texts: list[Any]) -> Event:
    row["outcome"] = OUTCOMES[row["outcome"]]
    row["condemned"] = bool(row.get("condemned", 0))
    for name in REPORTED_TEXTS:
        row[name] = texts[row[name]]
    return Reported(**row)


def _enrolled(row: dict[str, Any], texts: list[Any]) -> Event:
    device_id = words_to_bytes([row.pop(name) for name in ID_WORDS]).hex()
    key = words_to_bytes([row.pop(name) for name in KEY_WORDS]).hex()
    row["public_key"] = key if row.pop("has_key") else ""
    for name in ENROLLED_TEXTS:
        row[name] = texts[row[name]]
    return Enrolled(device_id=device_id, **row)


def _rows(
    columns: Columns, texts: list[Any], found: list[Any], make: Callable[[dict[str, Any], list[Any]], Event]
) -> None:
    names = list(columns.fields)
    lists = [columns.fields[name].tolist() for name in names]
    for offset, *values in zip(columns.offset.tolist(), *lists, strict=True):
        found[offset] = make(dict(zip(names, values, strict=True)), texts)


def unpack(data: bytes) -> Batch:
    """Read one record.

    Raises:
        ValueError: if it is none, or damaged.
    """
    if data[:4] != MAGIC:
        raise ValueError("it is no record of this Tidegate")
    try:
        found = msgspec.msgpack.decode(data[4:])
        if len(found) == 5:  # the first form of a record had no columns for enrolments
            found.insert(4, None)
        count, texts, leased, reported, enrolled, others = found
        return Batch(
            count,
            _texts(texts),
            _columns(leased),
            _columns(reported),
            _columns(enrolled),
            [(at, body) for at, body in others],
        )
    except (msgspec.MsgspecError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"a record is damaged: {error}") from error


_KNOWN: dict[bytes, Any] = {}
"""Texts that were read lately: records name the same labels, rollouts and digests again and again."""
_MOST_KNOWN, _LONGEST_KNOWN = 8192, 256


def _texts(found: list[bytes]) -> list[Any]:
    values = list(map(_KNOWN.get, found))
    for at, value in enumerate(values):
        if value is None:
            text = found[at]
            values[at] = made = msgspec.json.decode(text)
            if len(text) <= _LONGEST_KNOWN:
                if len(_KNOWN) >= _MOST_KNOWN:
                    _KNOWN.clear()
                _KNOWN[text] = made
    return values


def _columns(found: dict[str, Any] | None) -> Columns | None:
    if found is None:
        return None
    fields = {name: widen(column) for name, column in found.items()}
    return Columns(fields.pop(""), fields)
