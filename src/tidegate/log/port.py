"""What a log must be able to do: append events durably, in one order, and give them back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from tidegate.core.errors import TidegateError
from tidegate.log.events import Event


class LogError(TidegateError):
    """The log could not take or give events; what was to be appended is not in it, or not known to be."""


class Log(Protocol):
    """An append-only sequence of events; sequence numbers begin at 1 and have no gaps."""

    def append(self, events: Sequence[Event]) -> int:
        """Append events as one whole; give the sequence number of the last.

        When this returns, they are durable. When it raises, none of them is in the log.

        Raises:
            LogError: if they could not be made durable (disk full, file damaged, another writer).
        """
        ...

    def read(self, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Give the events after sequence number `after`, in order."""
        ...

    def close(self) -> None:
        """Let go of the log; everything appended stays."""
        ...
