"""What a log must be able to do: append events durably, in one order, and give them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from tidegate.core.errors import TidegateError
from tidegate.log.batch import Batch, unpack
from tidegate.log.events import Event


class LogError(TidegateError):
    """The log could not take or give events; what was to be appended is not in it, or not known to be."""


class Busy(LogError):
    """Another writer is at work on this log; a standby asks again until it has gone."""


class Fenced(LogError):
    """Another writer has taken this log over: whoever gets this must stop, and decide nothing more."""


class Overloaded(LogError):
    """More is asked than can be made durable in time; nothing was done, and it may be asked again."""


class LogReader(Protocol):
    """A log that may be read while another process writes it. What it has given once is durable, and stays."""

    @property
    def last(self) -> int:
        """The sequence number of the newest event. Raises LogError."""
        ...

    def read_batches(self, after: int = 0) -> Iterator[tuple[int, Batch]]:
        """Give whole records, columnar, each with the number of its first event.

        The first may begin at or before `after`. Raises LogError.
        """
        ...

    def close(self) -> None:
        """Let go of the log."""
        ...


class Log(LogReader, Protocol):
    """An append-only sequence of events; sequence numbers begin at 1 and have no gaps.

    At most one writer: opening a second raises `Busy`, and an old one that is alive after all gets `Fenced`.
    """

    warning: str
    """What whoever runs it should know of its store, or nothing."""

    @property
    def last(self) -> int:
        """The sequence number of the newest event that is known to be in the log, 0 for an empty one."""
        ...

    def append(self, events: Sequence[Event]) -> int:
        """Append events as one whole; give the sequence number of the last.

        When this returns, they are durable. When it raises, none of them is in the log, or it is not known whether
        they are: what `read` then gives decides.

        Raises:
            LogError: if they could not be made durable (disk full, file damaged, server away).
            Fenced: if another writer has taken over.
        """
        ...

    def check(self) -> None:
        """See whether the log is there and is still this writer's own; costs about one message to its server.

        After an append that failed it is tried, as far as that can be done without leaving anything, whether one like
        it would be taken now.

        Raises:
            LogError: if it does not answer, or would take nothing.
            Fenced: if another writer has taken over.
        """
        ...

    def read(self, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Give the events after sequence number `after`, in order. Raises LogError."""
        ...

    def close(self) -> None:
        """Let go of the log; everything appended stays."""
        ...


def batches_of(page: Callable[[int], Sequence[tuple[int, int, bytes]]], after: int) -> Iterator[tuple[int, Batch]]:
    """Give records, unpacked, from the one that holds event `after + 1`, out of a store that is read by the page.

    Args:
        page: gives (number of the first event, how many, body) of records from the one that holds an event.
        after: an event's number.

    Raises:
        LogError: at one that cannot be read, and as `page` does.
    """
    at = after + 1
    while rows := page(at):
        for seq, count, body in rows:
            try:
                yield seq, unpack(body)
            except ValueError as error:
                raise LogError(f"the record of event {seq} cannot be read: {error}; restore a backup") from error
            at = seq + count


def events_of(batches: Iterator[tuple[int, Batch]], after: int) -> Iterator[tuple[int, Event]]:
    """Give single events out of records. Raises LogError at one that cannot be read."""
    for first, batch in batches:
        try:
            found = batch.events
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise LogError(
                f"event {_culprit(first, batch)} cannot be read: {error}; is it from a newer Tidegate?"
            ) from (error)
        for seq, event in enumerate(found, start=first):
            if seq > after:
                yield seq, event


def _culprit(first: int, batch: Batch) -> int:
    from tidegate.log.events import decode

    for offset, body in batch.others:
        try:
            decode(body)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return first + offset
    return first
