"""The embedded log: one SQLite file, written ahead and synced at every append."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tidegate.log.batch import Batch, unpack
from tidegate.log.events import Event, decode
from tidegate.log.pack import records
from tidegate.log.port import Busy, LogError, batches_of, events_of

_PAGE_BYTES = 8 << 20
_SPARE_BYTES = 1 << 20
"""More than what was refused must fit, so that a disk that is nearly full is not tried again and again."""
_INSERT = "INSERT INTO record (seq, count, at_ms, body) VALUES (?, ?, ?, ?)"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    seq   INTEGER PRIMARY KEY,  -- the number of its first event
    count INTEGER NOT NULL CHECK (count > 0),
    at_ms INTEGER NOT NULL,
    body  BLOB NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS record_is_final BEFORE UPDATE ON record
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS record_stays BEFORE DELETE ON record
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS record_is_next BEFORE INSERT ON record
    WHEN NEW.seq IS NOT (SELECT coalesce((SELECT seq + count FROM record ORDER BY seq DESC LIMIT 1), 1))
    BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
"""


def _make_private(path: Path) -> None:
    """Make the file of a new log, which nobody else may read; what SQLite lays beside it gets the same mode."""
    with contextlib.suppress(OSError):  # SQLite says what is wrong
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _only_the_owners(path: Path) -> None:
    """Take the log of an older Tidegate, and what lies beside it, from other users."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            os.chmod(f"{path}{suffix}", 0o600)


class SqliteLog:
    """A log in one file. WAL and `synchronous=FULL`: a commit that has returned survives a power cut.

    One process may write at a time: the file is locked for as long as the log is open.
    """

    warning = ""

    def __init__(self, path: Path) -> None:
        """Open or create the log.

        Raises:
            Busy: if another process has it open.
            LogError: if the file is no log (it is left as it was), or cannot be written.
        """
        self._lock = threading.Lock()
        self._path = path
        self._refused: Sequence[tuple[int, int, int, bytes]] = ()
        _make_private(path)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)
        except sqlite3.Error as error:
            raise LogError(f"cannot open the log {path}: {error}; can its directory be written?") from error
        try:
            self._last = self._open()
        except sqlite3.Error as error:
            self._db.close()
            if "locked" in str(error):
                raise Busy(f"cannot open the log {path}: {error}; is another server running on it?") from error
            raise LogError(f"cannot open the log {path}: {error}; is it a Tidegate log?") from error
        except LogError:
            self._db.close()
            raise

    def _open(self) -> int:
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        tables = [row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        columns = [row[1] for row in self._db.execute(f"PRAGMA table_info({tables[0]})")] if tables else []
        old = tables == ["event"] and columns == ["seq", "kind", "at_ms", "body"]
        if tables and not old and (tables != ["record"] or columns != ["seq", "count", "at_ms", "body"]):
            raise LogError(f"cannot open the log {self._path}: it is the database of something else; name another file")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        if old:
            self._bring_forward()
        last, count = self._db.execute("SELECT coalesce(max(seq + count - 1), 0), total(count) FROM record").fetchone()
        if last != count:
            raise LogError(
                f"the log {self._path} has gaps: {count:.0f} events, the last is number {last}; restore a backup"
            )
        _only_the_owners(self._path)
        return int(last)

    def _bring_forward(self) -> None:
        """Turn a log of the first form, a row an event, into records: in one transaction, whole or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        rows = self._db.execute("SELECT seq, body FROM event ORDER BY seq").fetchall()
        try:
            if [seq for seq, _ in rows] != list(range(1, len(rows) + 1)):
                raise LogError(f"the log {self._path} has gaps: {len(rows)} events; restore a backup")
            made = list(records([decode(body) for _, body in rows], 1))
            self._db.executemany(_INSERT, made)
            self._db.execute("DROP TABLE event")
            self._db.execute("COMMIT")
        except (msgspec.DecodeError, ValueError) as error:
            raise LogError(f"the log {self._path} cannot be read: {error}; is it from a newer Tidegate?") from error
        finally:
            self._roll_back()

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
                rows = list(records(events, self._last + 1))
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                raise LogError(f"the log took nothing: an event cannot be written down: {error}") from error
            self._write(rows)
            self._last += len(events)
            return self._last

    def check(self) -> None:
        """See whether the last append would be taken now, if it was not. Raises LogError.

        Nothing else can have happened: the file is locked for as long as it is open.
        """
        with self._lock:
            if not self._refused:
                return
            try:
                self._try_room()
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(_INSERT, self._refused)
            except (sqlite3.Error, OSError) as error:
                raise LogError(f"the log takes nothing: {error}; free disk space or check the disk") from error
            finally:
                self._roll_back()
            self._refused = ()

    def _try_room(self) -> None:
        """Write as much as an append would, beside the log, and take it away again. Raises OSError.

        SQLite itself writes nothing before a commit, and a file system may pack what can be packed.
        """
        spare = self._path.with_name(f"{self._path.name}-room")
        size = _SPARE_BYTES + 2 * sum(len(body) for *_, body in self._refused)
        try:
            with open(os.open(spare, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb", buffering=0) as file:
                left = memoryview(os.urandom(size))
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
        finally:
            spare.unlink(missing_ok=True)

    def append_records(self, bodies: Sequence[bytes]) -> int:
        """Append records that are packed already, in one transaction: for imports. Raises LogError, ValueError."""
        rows: list[tuple[int, int, int, bytes]] = []
        with self._lock:
            end = self._last
            for body in bodies:
                batch = unpack(body)
                rows.append((end + 1, batch.count, batch.last_ms, body))
                end += batch.count
            self._write(rows)
            self._last = end
            return end

    def _write(self, rows: Sequence[tuple[int, int, int, bytes]]) -> None:
        try:
            if len(rows) == 1:  # a statement is a transaction; each step more waits for the interpreter's lock
                self._db.execute(_INSERT, rows[0])
            else:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(_INSERT, rows)
                self._db.execute("COMMIT")
            self._refused = ()
        except sqlite3.Error as error:
            self._roll_back()
            self._refused = rows
            raise LogError(f"the log took nothing: {error}; free disk space or check the disk") from error

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):  # the disk may be gone altogether; the error to tell is the first
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def read(self, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Give the events after `after`, in order. Raises LogError at one that cannot be read."""
        return events_of(self.read_batches(after), after)

    def read_batches(self, after: int = 0) -> Iterator[tuple[int, Batch]]:
        """Give whole records from the one that holds event `after + 1`. Raises LogError."""
        return batches_of(self._page, after)

    def _page(self, at: int) -> list[tuple[int, int, bytes]]:
        """Read records from the one that holds event `at`, a few megabytes of them."""
        found: list[tuple[int, int, bytes]] = []
        size = 0
        try:
            with self._lock:
                start = self._db.execute("SELECT coalesce(max(seq), 1) FROM record WHERE seq <= ?", (at,)).fetchone()[0]
                rows = self._db.execute("SELECT seq, count, body FROM record WHERE seq >= ? ORDER BY seq", (start,))
                for seq, count, body in rows:
                    if seq + count <= at:
                        continue
                    found.append((seq, count, body))
                    size += len(body)
                    if size > _PAGE_BYTES:
                        break
                rows.close()
        except sqlite3.Error as error:
            raise LogError(
                f"the log {self._path} cannot be read after event {at - 1}: {error}; restore a backup"
            ) from error
        return found

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
