"""What of a device's event, or of a plan, goes into a segment of the ledger: one text each, from an event or a column.

Fields are named one by one, and their order is part of the text: it must be the same for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tidegate.core.model import Arm, Outcome
from tidegate.core.wire import canonical
from tidegate.log.batch import Batch
from tidegate.log.events import Enrolled, Event, Labelled, Leased, PlanPublished, Reported

MOST_WORDS = 2000
_encode = msgspec.json.Encoder().encode
_ARMS, _OUTCOMES = (Arm.TREATED.value, Arm.PLACEBO.value), (Outcome.CONFIRMED.value, Outcome.REVERTED.value)


class _Leaf(msgspec.Struct):
    v: int
    kind: str
    log_seq: int
    at_ms: int
    rollout: str
    index: int
    ring: int


class _LeasedLeaf(_Leaf):
    arm: str
    late: bool
    installed: str | None


class _ReportedLeaf(_Leaf):
    outcome: str
    boot_s: int
    note: str


class _EnrolledLeaf(msgspec.Struct):
    v: int
    kind: str
    log_seq: int
    at_ms: int
    index: int
    device_id: str
    labels: dict[str, str]


def digest_of(value: Any) -> str:
    """Give the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()


def leaf_text(seq: int, event: Event) -> bytes | None:
    """Say what of an event goes into its segment; None for one that is an entry of its own and nothing here."""
    make = _MAKE.get(type(event))
    return None if make is None else _encode(make(seq, event))


def event_texts(first: int, events: Sequence[Event]) -> list[bytes] | None:
    """Give the text of each event if all are leases and reports, which are no entries of their own; else None."""
    if not {*map(type, events)} <= _SPOKEN:
        return None
    return [_encode(_MAKE[type(event)](seq, event)) for seq, event in enumerate(events, start=first)]


def column_texts(first: int, batch: Batch) -> tuple[list[bytes], list[int]] | None:
    """Give the text and the time of each event of a record that holds leases alone or reports alone; else None."""
    if batch.leased is not None and len(batch.leased) == batch.count:
        return _leased_columns(first, batch)
    if batch.reported is not None and len(batch.reported) == batch.count:
        return _reported_columns(first, batch)
    return None


def _leased_columns(first: int, batch: Batch) -> tuple[list[bytes], list[int]]:
    assert batch.leased is not None
    f, texts = batch.leased.fields, batch.texts
    names = ("at_ms", "rollout", "index", "ring", "arm", "late", "installed")
    columns = [f[name].tolist() for name in names]
    rows = zip(*columns, strict=True)
    leaves = [
        _LeasedLeaf(1, "leased", seq, at_ms, texts[rollout], index, ring, _ARMS[arm], bool(late), texts[installed])
        for seq, (at_ms, rollout, index, ring, arm, late, installed) in enumerate(rows, start=first)
    ]
    return list(map(_encode, leaves)), columns[0]


def _reported_columns(first: int, batch: Batch) -> tuple[list[bytes], list[int]]:
    assert batch.reported is not None
    f, texts = batch.reported.fields, batch.texts
    names = ("at_ms", "rollout", "index", "ring", "outcome", "boot_s", "note")
    columns = [f[name].tolist() for name in names]
    rows = zip(*columns, strict=True)
    words = [text[:MOST_WORDS] if type(text) is str else text for text in texts]
    leaves = [
        _ReportedLeaf(1, "reported", seq, at_ms, texts[rollout], index, ring, _OUTCOMES[outcome], boot_s, words[note])
        for seq, (at_ms, rollout, index, ring, outcome, boot_s, note) in enumerate(rows, start=first)
    ]
    return list(map(_encode, leaves)), columns[0]


def _leased(seq: int, event: Leased) -> _LeasedLeaf:
    return _LeasedLeaf(
        1,
        "leased",
        seq,
        event.at_ms,
        event.rollout,
        event.index,
        event.ring,
        event.arm.value,
        event.late,
        event.installed,
    )


def _reported(seq: int, event: Reported) -> _ReportedLeaf:
    return _ReportedLeaf(
        1,
        "reported",
        seq,
        event.at_ms,
        event.rollout,
        event.index,
        event.ring,
        event.outcome.value,
        event.boot_s,
        event.note[:MOST_WORDS],
    )


def _head(kind: str, seq: int, event: Event) -> dict[str, Any]:
    return {"v": 1, "kind": kind, "log_seq": seq, "at_ms": event.at_ms}


def _enrolled(seq: int, event: Enrolled) -> _EnrolledLeaf:
    return _EnrolledLeaf(1, "enrolled", seq, event.at_ms, event.index, event.device_id, event.labels)


def _labelled(seq: int, event: Labelled) -> dict[str, Any]:
    more = {"index": event.index, "labels": event.labels, "who": event.who, "why": event.why[:MOST_WORDS]}
    return {**_head("labelled", seq, event), **more}


def _plan(seq: int, event: PlanPublished) -> dict[str, Any]:
    more = {"rollout": event.rollout, "component": event.component, "version": event.version}
    return {**_head("plan", seq, event), **more, "plan_sha256": digest_of(event.plan)}


_SPOKEN: frozenset[type] = frozenset({Leased, Reported})
_MAKE: dict[type, Callable[[int, Any], Any]] = {
    Leased: _leased,
    Reported: _reported,
    Enrolled: _enrolled,
    Labelled: _labelled,
    PlanPublished: _plan,
}
