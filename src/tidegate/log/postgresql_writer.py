"""Who may write a log in PostgreSQL: a lock held by the writer's connection, and a sign of life every second.

A writer that dies lets go of the lock with its connection. One that is stopped (a paused machine, a process that hangs)
would keep it for ever: whoever waits ends its connection after three seconds of silence. That is safe however wrong
it is, since an append checks in its own transaction that nobody has taken over since.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

BEAT_S = 1.0
SILENT_S = 3
_LOCK_KEY = 0x7469646567617465
_SILENT = """
SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.classid::bigint = %s AND l.objid::bigint = %s
  AND (a.state LIKE 'idle%%' OR a.wait_event_type = 'Client')
  AND clock_timestamp() - greatest(a.query_start, a.state_change) > make_interval(secs => %s)
"""
"""A connection that the server works for is not silent, however slow the disk is."""


def take_lock(db: psycopg.Connection[Any]) -> bool:
    """Take the writer's lock; a server that has just died may hold it for a moment longer. Raises psycopg.Error."""
    schema = one(db, "SELECT hashtext(current_schema() || '/' || current_database())")
    key = _LOCK_KEY ^ (int(schema) & 0x7FFFFFFF)
    for _ in range(5):
        if one(db, "SELECT pg_try_advisory_lock(%s)", [key]):
            return True
        silent = one(db, _SILENT, [key >> 32, key & 0xFFFFFFFF, SILENT_S])
        if silent is not None:
            db.execute("SELECT pg_terminate_backend(%s)", [silent])
        time.sleep(0.1)
    return False


class Pulse:
    """Calls `beat` every second, in a thread of its own, until it is closed."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="tidegate-pulse")
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(BEAT_S):
            self._beat()

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join(5)


def one(db: psycopg.Connection[Any], query: Any, values: Any = ()) -> Any:
    """Give the first column of the first row, None if there is no row. Raises psycopg.Error."""
    row = db.execute(query, values).fetchone()
    return row[0] if row else None
