"""The log in PostgreSQL, plain or managed: a partitioned table that is only appended to, and one fenced writer.

No superuser and no extension is needed: a role that may create tables in its schema. Two things keep writers apart. An
advisory lock, held by the writer's connection, tells a second one at once that the first is alive. And every append
checks, in its own transaction, that no other writer has come since: that holds whatever became of the lock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tidegate.log.batch import Batch
from tidegate.log.events import Event
from tidegate.log.pack import records
from tidegate.log.port import Busy, Fenced, LogError, events_of

try:
    import psycopg
    from psycopg import sql

    from tidegate.log.postgresql_line import Line, Pages, said
    from tidegate.log.postgresql_writer import Pulse, one, take_lock
except ImportError as error:  # an extra: the embedded log needs none of it
    raise LogError("a log in PostgreSQL needs psycopg: install tidegate[postgresql]") from error

PARTITION_EVENTS = 50_000_000
_RECONNECT_S = 20.0
_TAKEN_OVER = "the log took nothing: another writer has taken it over; this one must stop"


class PostgresqlLog:
    """A log in the tables `tidegate_record` (partitions of 50 million events) and `tidegate_writer`."""

    warning = ""

    def __init__(self, url: str, *, password_file: Path | None = None) -> None:
        """Open or create the log, as its only writer.

        Args:
            url: `postgresql://user@host:port/database`, without a password: that comes from `password_file`, from
                $PGPASSWORD or from ~/.pgpass.
            password_file: a file that holds the password alone.

        Raises:
            Busy: if another writer is alive.
            LogError: if the server cannot be reached, does not let us, or does not write to its disk.
        """
        self._lock = threading.Lock()
        self._line = Line(url, password_file)
        self._pages = Pages(self._line)
        self._doubt = False
        self._partitions = 0
        self._refused: Sequence[tuple[int, int, int, bytes]] = ()
        try:
            self._db = self._line.open()
        except psycopg.Error as error:
            raise LogError(f"cannot open the log: {said(error)}") from error
        try:
            self._take_over()
        except psycopg.Error as error:
            self._db.close()
            raise LogError(f"cannot open the log: {said(error)}") from error
        except LogError:
            self._db.close()
            raise
        self._pulse = Pulse(self._beat)

    def _beat(self) -> None:
        """Show that this writer is alive, and notice early that its connection is not."""
        if not self._lock.acquire(blocking=False):
            return  # an append is at work
        try:
            if not self._doubt:
                self._db.execute("SELECT 1")
        except psycopg.Error:
            self._doubt = True
        finally:
            self._lock.release()

    def _take_over(self) -> None:
        if one(self._db, "SHOW fsync") != "on":
            raise LogError("cannot open the log: this PostgreSQL runs with fsync off, and would lose what it confirms")
        if not take_lock(self._db):
            raise Busy("cannot open the log: another writer holds it; is another server running on it?")
        with self._db.transaction():
            self._create()
            row = self._db.execute(
                "UPDATE tidegate_writer SET epoch = epoch + 1, since = now() RETURNING epoch, last"
            ).fetchone()
        assert row is not None
        self._epoch, self._last = int(row[0]), int(row[1])
        total = one(self._db, "SELECT coalesce(sum(count), 0) FROM tidegate_record")
        if int(total) != self._last:
            raise LogError(f"the log has gaps: {total} events, the last is number {self._last}; restore a backup")

    def _create(self) -> None:
        if one(self._db, "SELECT to_regclass('tidegate_record') IS NOT NULL"):
            return
        for statement in Path(__file__).with_name("postgresql.sql").read_text().split(";\n\n"):
            self._db.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]

    @property
    def last(self) -> int:
        """The sequence number of the newest event that is known to be in the log."""
        return self._last

    def append(self, events: Sequence[Event]) -> int:
        """Append events in one transaction; give the sequence number of the last. Raises LogError, Fenced."""
        if not events:
            return self._last
        with self._lock:
            self._settle_doubt()
            try:
                rows = list(records(events, self._last + 1))
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                raise LogError(f"the log took nothing: an event cannot be written down: {error}") from error
            end = self._last + len(events)
            try:
                self._write(rows, end)
            except psycopg.Error as error:
                self._refused = rows
                self._after_failure(error, end)
            self._last, self._refused = end, ()
            return end

    def _write(self, rows: Sequence[tuple[int, int, int, bytes]], end: int, *, keep: bool = True) -> None:
        with self._db.transaction(force_rollback=not keep):
            found = self._db.execute(
                "UPDATE tidegate_writer SET last = %s WHERE epoch = %s AND last = %s", (end, self._epoch, self._last)
            )
            if found.rowcount != 1:
                raise Fenced(_TAKEN_OVER)
            self._make_room(end)
            with (
                self._db.cursor() as cursor,
                cursor.copy("COPY tidegate_record (seq, count, at_ms, body) FROM STDIN (FORMAT BINARY)") as copy,
            ):
                copy.set_types(["int8", "int4", "int8", "bytea"])
                for row in rows:
                    copy.write_row(row)

    def _make_room(self, end: int) -> None:
        """Make the partition that `end` falls into, and the one after it."""
        while self._partitions * PARTITION_EVENTS <= end + PARTITION_EVENTS:
            low = self._partitions * PARTITION_EVENTS
            self._db.execute(
                sql.SQL(
                    "CREATE TABLE IF NOT EXISTS {} PARTITION OF tidegate_record FOR VALUES FROM ({}) TO ({})"
                ).format(
                    sql.Identifier(f"tidegate_record_{self._partitions:05}"),
                    sql.Literal(low),
                    sql.Literal(low + PARTITION_EVENTS),
                )
            )
            self._partitions += 1

    def _after_failure(self, error: psycopg.Error, end: int) -> None:
        """Find out whether a commit whose answer was lost came through; returns if it did."""
        self._partitions = 0  # a partition that was rolled back is made again
        if not self._db.closed and not self._db.broken:
            raise LogError(f"the log took nothing: {said(error)}; free disk space or check the server") from error
        self._doubt = True
        self._settle_doubt()
        if self._last != end:
            raise LogError(f"the log took nothing: {said(error)}") from error

    def _settle_doubt(self, patience_s: float = _RECONNECT_S) -> None:
        """After a broken connection: connect again, take the lock, and learn where the log ends."""
        if not self._doubt:
            return
        until = time.monotonic() + patience_s
        while True:
            try:
                with contextlib.suppress(psycopg.Error):
                    self._db.close()
                self._db = self._line.open()
                if take_lock(self._db):
                    break
                raise Fenced(_TAKEN_OVER)
            except psycopg.Error as error:
                if time.monotonic() > until:
                    raise LogError(f"the log took nothing that is known of: {said(error)}") from error
                time.sleep(0.2)
        row = self._db.execute("SELECT epoch, last FROM tidegate_writer").fetchone()
        assert row is not None
        if int(row[0]) != self._epoch:
            raise Fenced(_TAKEN_OVER)
        self._last, self._doubt = int(row[1]), False

    def check(self) -> None:
        """See whether this is still the writer, and what was refused would be taken now. Raises LogError, Fenced."""
        with self._lock:
            self._settle_doubt()
            try:
                epoch = one(self._db, "SELECT epoch FROM tidegate_writer")
                if int(epoch) == self._epoch and self._refused:
                    self._try_again()
            except psycopg.Error as error:  # whoever took over has ended this line, or the server is away: which?
                self._doubt = True
                try:
                    self._settle_doubt(patience_s=0)
                except Fenced:
                    raise
                except LogError:
                    raise LogError(f"the log cannot be reached: {said(error)}") from error
                return
            if int(epoch) != self._epoch:
                raise Fenced(_TAKEN_OVER)

    def _try_again(self) -> None:
        """Write what was refused, and take it back. Raises LogError if it is refused again, psycopg.Error otherwise."""
        rows, self._refused = self._refused, ()
        if rows[0][0] != self._last + 1:
            return  # it came through after all
        try:
            self._write(rows, rows[-1][0] + rows[-1][1] - 1, keep=False)
        except psycopg.Error as error:
            self._refused = rows
            if self._db.closed or self._db.broken:
                raise
            raise LogError(f"the log takes nothing: {said(error)}; free disk space or check the server") from error
        finally:
            self._partitions = 0  # what was made for it is gone again

    def read(self, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Give the events after `after`, in order. Raises LogError."""
        return events_of(self.read_batches(after), after)

    def read_batches(self, after: int = 0) -> Iterator[tuple[int, Batch]]:
        """Give whole records from the one that holds event `after + 1`. Raises LogError."""
        with self._lock:
            self._settle_doubt()
        yield from self._pages.batches(after)

    def close(self) -> None:
        """Close the connections; the lock goes with them."""
        self._pulse.close()
        with self._lock:
            self._db.close()
        self._pages.close()
