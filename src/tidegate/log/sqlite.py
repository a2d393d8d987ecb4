"""The embedded log: one SQLite file, written ahead and synced at every append."""

from __future__ import annotations

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
"""


class SqliteLog:
    """A log in one file. WAL and `synchronous=FULL`: a commit that has returned survives a power cut.

    One process may write at a time: the file is locked for as long as the log is open.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the log.

        Raises:
            LogError: if the file is no log, cannot be written, or another process has it open.
        """
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
            row = self._db.execute("SELECT coalesce(max(seq), 0), count(*) FROM event").fetchone()
        except sqlite3.Error as error:
            hint = "is another server running on it?" if "locked" in str(error) else "is it a Tidegate log?"
            raise LogError(f"cannot open the log {path}: {error}; {hint}") from error
        if row[0] != row[1]:
            raise LogError(f"the log {path} has gaps: {row[1]} events, the last is number {row[0]}; restore a backup")
        self._last: int = row[0]

    @property
    def last(self) -> int:
        """The sequence number of the newest event, 0 for an empty log."""
        return self._last

    def append(self, events: Sequence[Event]) -> int:
        """Append events in one transaction; give the sequence number of the last. Raises LogError."""
        if not events:
            return self._last
        with self._lock:
            rows = [
                (self._last + offset, type(event).__struct_config__.tag, event.at_ms, encode(event))
                for offset, event in enumerate(events, start=1)
            ]
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT INTO event (seq, kind, at_ms, body) VALUES (?, ?, ?, ?)", rows)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise LogError(f"the log took nothing: {error}; free disk space or check the disk") from error
            self._last += len(rows)
            return self._last

    def read(self, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Give the events after `after`, in order. Raises LogError at one that cannot be read."""
        while True:
            with self._lock:
                rows = self._db.execute(
                    "SELECT seq, body FROM event WHERE seq > ? ORDER BY seq LIMIT ?", (after, _PAGE)
                ).fetchall()
            if not rows:
                return
            for seq, body in rows:
                try:
                    yield seq, decode(body)
                except msgspec.DecodeError as error:
                    raise LogError(f"event {seq} cannot be read: {error}; is it from a newer Tidegate?") from error
                after = seq

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
