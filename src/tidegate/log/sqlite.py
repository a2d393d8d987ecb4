"""The embedded log: one SQLite file, written ahead and synced at every append."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tidegate.log.events import Event, decode, encode
from tidegate.log.port import LogError

_PAGE = 2000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS event (
    seq  INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS event_is_final BEFORE UPDATE ON event
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS event_stays BEFORE DELETE ON event
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS event_is_next BEFORE INSERT ON event
    WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM event)
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
"""


class SqliteLog:
    """A log in one file. WAL and `synchronous=FULL`: a commit that has returned survives a power cut.

    One process may write at a time: the file is locked for as long as the log is open.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the log.

        Raises:
            LogError: if the file is no log (it is left as it was), cannot be written, or another process has it open.
        """
        self._lock = threading.Lock()
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)
        except sqlite3.Error as error:
            raise LogError(f"cannot open the log {path}: {error}; can its directory be written?") from error
        try:
            self._last = self._open()
        except sqlite3.Error as error:
            self._db.close()
            hint = "is another server running on it?" if "locked" in str(error) else "is it a Tidegate log?"
            raise LogError(f"cannot open the log {path}: {error}; {hint}") from error
        except LogError:
            self._db.close()
            raise

    def _open(self) -> int:
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        tables = [row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = [row[1] for row in self._db.execute("PRAGMA table_info(event)")]
        if tables and (tables != ["event"] or columns != ["seq", "kind", "at_ms", "body"]):
            raise LogError(f"cannot open the log {self._path}: it is the database of something else; name another file")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        last, count = self._db.execute("SELECT coalesce(max(seq), 0), count(*) FROM event").fetchone()
        if last != count:
            raise LogError(
                f"the log {self._path} has gaps: {count} events, the last is number {last}; restore a backup"
            )
        return int(last)

    @property
    def last(self) -> int:
        """The sequence number of the newest event, 0 for an empty log."""
        return self._last

    def append(self, events: Sequence[Event]) -> int:
        """Append events in one transaction; give the sequence number of the last. Raises LogError."""
        if not events:
            return self._last
        with self._lock:
            try:
                rows = [
                    (self._last + offset, type(event).__struct_config__.tag, event.at_ms, encode(event))
                    for offset, event in enumerate(events, start=1)
                ]
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT INTO event (seq, kind, at_ms, body) VALUES (?, ?, ?, ?)", rows)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise LogError(f"the log took nothing: {error}; free disk space or check the disk") from error
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                self._roll_back()
                raise LogError(f"the log took nothing: an event cannot be written down: {error}") from error
            self._last += len(rows)
            return self._last

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # the disk may be gone altogether; the error to tell is the first
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def read(self, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Give the events after `after`, in order. Raises LogError at one that cannot be read."""
        while rows := self._page(after):
            for seq, body in rows:
                try:
                    yield seq, decode(body)
                except (msgspec.DecodeError, ValueError, RecursionError) as error:
                    raise LogError(f"event {seq} cannot be read: {error}; is it from a newer Tidegate?") from error
                after = seq

    def _page(self, after: int) -> list[tuple[int, bytes]]:
        try:
            with self._lock:
                return self._db.execute(
                    "SELECT seq, body FROM event WHERE seq > ? ORDER BY seq LIMIT ?", (after, _PAGE)
                ).fetchall()
        except sqlite3.Error as error:
            raise LogError(f"the log {self._path} cannot be read after event {after}: {error}; restore a backup") from (
                error
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
