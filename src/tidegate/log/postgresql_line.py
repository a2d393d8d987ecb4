"""Connections to PostgreSQL as the log needs them, and the one that reads its records by the page."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tidegate.log.batch import Batch
from tidegate.log.port import LogError, batches_of

_PAGE_EVENTS = 200_000
_SESSION = (
    # A role or a pool may have it off: then an acknowledged lease could be lost. Stricter than on is left as it is.
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')",
    "SET lock_timeout = '5s'",
    "SET idle_in_transaction_session_timeout = '10s'",
    "SET client_min_messages = warning",
)
_ALIVE = {"keepalives": 1, "keepalives_idle": 2, "keepalives_interval": 1, "keepalives_count": 2}
_ALIVE["tcp_user_timeout"] = 4000  # what was sent and is not taken by the other end: the same, in milliseconds
_SERVER_ALIVE = (
    "SET tcp_keepalives_idle = 2",  # the server lets go of a dead writer's lock in seconds, not in hours
    "SET tcp_keepalives_interval = 1",
    "SET tcp_keepalives_count = 2",
    "SET tcp_user_timeout = 4000",
)


@dataclass(frozen=True, slots=True)
class Line:
    """The way to one database."""

    url: str
    password_file: Path | None

    def open(self) -> psycopg.Connection[Any]:
        """Connect; what such a connection acknowledges is durable, and what is dead is noticed in seconds.

        Raises:
            psycopg.Error: if that fails.
        """
        password = self.password_file.read_text().strip() if self.password_file else None
        more: dict[str, Any] = {"password": password} if password else {}
        found = psycopg.connect(
            self.url, autocommit=True, connect_timeout=4, application_name="tidegate", **_ALIVE, **more
        )
        for line in _SESSION:
            found.execute(line)
        for line in _SERVER_ALIVE:
            with contextlib.suppress(psycopg.Error):  # a socket in the file system has none of it
                found.execute(line)
        return found


class Pages:
    """Reads records beside the writer, over a connection of its own."""

    def __init__(self, line: Line) -> None:
        self._line, self._reading = line, threading.Lock()
        self._reader: psycopg.Connection[Any] | None = None

    def batches(self, after: int) -> Iterator[tuple[int, Batch]]:
        """Give records, unpacked, from the one that holds event `after + 1`. Raises LogError."""
        return batches_of(self._page, after)

    def _page(self, at: int) -> list[tuple[int, int, bytes]]:
        """Give (number, count, body) of records from the one that holds event `at`."""
        rows = self._ask(
            "SELECT seq, count, body FROM tidegate_record WHERE seq >= "
            "coalesce((SELECT seq FROM tidegate_record WHERE seq <= %s ORDER BY seq DESC LIMIT 1), 0)"
            " AND seq < %s ORDER BY seq LIMIT 2000",
            (at, at + _PAGE_EVENTS),
        )
        return [(seq, count, body) for seq, count, body in rows if seq + count > at]

    def last(self) -> int:
        """Give the number of the newest event. Raises LogError."""
        return int(self._ask("SELECT last FROM tidegate_writer", ())[0][0])

    def _ask(self, query: str, values: tuple[int, ...]) -> list[tuple[Any, ...]]:
        with self._reading:
            for attempt in (1, 2):
                try:
                    if self._reader is None or self._reader.closed:
                        self._reader = self._line.open()
                    return self._reader.execute(query, values, binary=True).fetchall()  # pyright: ignore[reportArgumentType, reportCallIssue]
                except psycopg.Error as error:
                    if self._reader is not None:
                        self._reader.close()
                    self._reader = None
                    if attempt == 2:
                        raise LogError(f"the log cannot be read: {said(error)}") from error
        raise AssertionError

    def close(self) -> None:
        """Close the connection."""
        with self._reading:
            if self._reader is not None:
                self._reader.close()


def said(error: psycopg.Error) -> str:
    """Give the first line of what PostgreSQL said; it never holds a password."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class PostgresqlReader:
    """The log in PostgreSQL beside its writer: it takes no lock, and sees what has been committed."""

    def __init__(self, url: str, *, password_file: Path | None = None) -> None:
        """Name the log, as for its writer; the first question connects."""
        self._pages = Pages(Line(url, password_file))

    @property
    def last(self) -> int:
        """The sequence number of the newest event. Raises LogError."""
        return self._pages.last()

    def read_batches(self, after: int = 0) -> Iterator[tuple[int, Batch]]:
        """Give whole records from the one that holds event `after + 1`. Raises LogError."""
        return self._pages.batches(after)

    def close(self) -> None:
        """Close the connection."""
        self._pages.close()
