"""Records folded in columns: what `ServerState.apply` does to one event after the other, for thousands at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from tidegate.control.device_row import Reverted
from tidegate.control.scratch import trim
from tidegate.control.state import ServerState
from tidegate.core.evidence import LeaseState
from tidegate.log.batch import Batch
from tidegate.log.columns import Columns
from tidegate.log.events import Enrolled, Event, Reported
from tidegate.log.pack import gather

Ints = npt.NDArray[np.int64]
_ENDS = np.array([LeaseState.CONFIRMED, LeaseState.REVERTED], dtype=np.uint8)
RELAX_EVERY = 64
LEAST = 16
"""Fewer events than this are folded one by one: arrays would be slower."""


def fold_batches(batches: Iterable[tuple[int, Batch]], state: ServerState | None = None) -> ServerState:
    """Replay records; into a state that holds all before them, or from the beginning."""
    found = state or ServerState()
    for number, (_, batch) in enumerate(batches, 1):
        apply_batch(found, batch)
        if number % RELAX_EVERY == 0:
            found.devices.relax()
    found.devices.relax()
    trim()
    return found


def fold_reports(state: ServerState, events: Sequence[Event]) -> None:
    """Fold reports, no two of one device, as `ServerState.apply` does one after the other."""
    if len(events) >= LEAST:
        plain = [event for event in events if type(event) is Reported and not event.signature]
        try:
            batch = gather(plain, range(len(plain)), len(plain))
        except OverflowError:  # a number beyond 64 bits is kept as it was said, and in no column
            pass
        else:
            apply_batch(state, batch)
            events = [event for event in events if type(event) is not Reported or event.signature]
    for event in events:
        state.apply(event)


def fold_events(state: ServerState, events: Sequence[Event]) -> None:
    """Fold events as `ServerState.apply` does one after the other; enrolments that follow each other in columns."""
    for kind, some in groupby(events, type):
        run = list(some)
        if kind is Enrolled and len(run) >= LEAST:
            apply_batch(state, gather(run, range(len(run)), len(run)))
        else:
            for event in run:
                state.apply(event)


def apply_batch(state: ServerState, batch: Batch) -> None:
    """Fold one record. The events that are in no column part it: order between them and the columns is kept."""
    if batch.enrolled is not None and len(batch.enrolled) == batch.count >= LEAST and _in_a_row(state, batch.enrolled):
        _fold_enrolled(state, batch, batch.enrolled)
        return
    if batch.count < LEAST or batch.enrolled is not None or (batch.leased is None and batch.reported is None):
        for event in batch.events:
            state.apply(event)
        return
    start = 0
    for offset, event in sorted(batch.single_events(), key=lambda found: found[0]):
        _stretch(state, batch, start, offset)
        state.apply(event)
        start = offset + 1
    _stretch(state, batch, start, batch.count)


def _in_a_row(state: ServerState, columns: Columns) -> bool:
    wanted = np.arange(len(state.devices), len(state.devices) + len(columns), dtype=np.int64)
    return bool(np.array_equal(columns.fields["index"], wanted))


def _fold_enrolled(state: ServerState, batch: Batch, columns: Columns) -> None:
    fleet, found = state.devices, columns.fields
    first, end = len(fleet), len(fleet) + len(columns)
    ids = np.stack([found["id0"], found["id1"]], axis=1).astype(">i8").view(np.uint8)
    keys = np.stack([found[name] for name in ("key0", "key1", "key2", "key3")], axis=1).view(np.uint64)
    fleet.add_many(first, ids, keys, found["has_key"] != 0, found["at_ms"])
    for column, interned, name in (
        ("label_set", fleet.labels, "labels"),
        ("fact_set", fleet.facts, "facts"),
        ("token_set", fleet.tokens, "token_id"),
    ):
        numbers = np.zeros(len(batch.texts), dtype=np.int64)
        for number in _distinct(found[name]):
            numbers[number] = interned.number(batch.texts[number])
        fleet.describe(slice(first, end), column, numbers[found[name]])
    for number, count in enumerate(np.bincount(found["token_id"]).tolist()):
        if count:
            state.tokens[batch.texts[number]].used += count
    state.last_ms = max(state.last_ms, int(found["at_ms"].max()))


def _stretch(state: ServerState, batch: Batch, start: int, end: int) -> None:
    """Fold the leases and reports from offset `start` up to `end`."""
    if start >= end:
        return
    leased, reported = _between(batch.leased, start, end), _between(batch.reported, start, end)
    whole = [columns for columns in (leased, reported) if columns is not None]
    indices = np.concatenate([columns.fields["index"] for columns in whole]) if whole else np.empty(0, dtype=np.int64)
    if len(indices) < LEAST or _any_twice(indices):
        for event in batch.events[start:end]:
            state.apply(event)
        return
    state.last_ms = max(state.last_ms, *(int(columns.fields["at_ms"].max()) for columns in whole))
    if leased is not None:
        _fold_leased(state, batch, leased)
    if reported is not None:
        _fold_reported(state, batch, reported)


def _any_twice(indices: Ints) -> bool:
    ordered = np.sort(indices.astype(np.int32))
    return bool((ordered[1:] == ordered[:-1]).any())


def _between(columns: Columns | None, start: int, end: int) -> Columns | None:
    if columns is None:
        return None
    first, last = np.searchsorted(columns.offset, [start, end])
    if first == last:
        return None
    if last - first == len(columns.offset):
        return columns
    return Columns(columns.offset[first:last], {name: column[first:last] for name, column in columns.fields.items()})


def _distinct(numbers: Ints) -> list[int]:
    """List the texts' numbers that stand in a column, each once."""
    return np.flatnonzero(np.bincount(numbers)).tolist()


def _by_rollout(batch: Batch, columns: Columns) -> Iterable[tuple[str, dict[str, Ints]]]:
    numbers = columns.fields["rollout"]
    for number in _distinct(numbers):
        mine = numbers == number
        fields = columns.fields if mine.all() else {name: column[mine] for name, column in columns.fields.items()}
        yield batch.texts[number], fields


def _fold_leased(state: ServerState, batch: Batch, columns: Columns) -> None:
    for name, found in _by_rollout(batch, columns):
        rollout = state.rollouts[name]
        component = rollout.spec.component
        indices, treated = found["index"], found["arm"] == 0
        state.devices.heard_many(indices, found["seq"], found["at_ms"])
        said = found["installed"]
        for number in _distinct(said):
            state.devices.run_many(indices[said == number], component, batch.texts[number])
        rollout.lease_many(found["position"], found["ring"], treated, found["at_ms"], found["late"] != 0)
        if treated.any():
            labels = found["labels"][treated]
            sets = np.zeros(len(batch.texts), dtype=np.int64)
            for number in _distinct(labels):
                sets[number] = state.in_flight.set_of(batch.texts[number])
            state.in_flight.enter_many(indices[treated], component, sets[labels])


def _fold_reported(state: ServerState, batch: Batch, columns: Columns) -> None:
    for name, found in _by_rollout(batch, columns):
        rollout = state.rollouts[name]
        spec = rollout.spec
        indices, positions, outcome = found["index"], found["position"], found["outcome"]
        state.devices.heard_many(indices, found["seq"], found["at_ms"])
        treated = rollout.evidence.treated_lease[positions]
        news = rollout.evidence.report_many(positions, found["ring"], _ENDS[outcome])
        confirmed = indices[news & treated & (outcome == 0)]
        state.in_flight.leave_many(confirmed, spec.component)
        state.devices.run_many(confirmed, spec.component, spec.candidate.sha256)
        if state.devices.anyone_reverted:
            for index in indices[outcome == 0].tolist():
                state.devices.said(index, None)
        for place in np.flatnonzero(found["condemned"]).tolist():
            moment = int(found["at_ms"][place])
            state.identities.condemn(int(indices[place]), spec.component, spec.candidate.sha256, moment)
        back = outcome == 1
        for index, note in zip(indices[back].tolist(), found["note"][back].tolist(), strict=True):
            state.devices.said(index, Reverted(name, batch.texts[note]))
