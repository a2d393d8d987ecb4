"""What the controller does beside its work: it has checkpoints written, and gives back memory that it does not need.

A checkpoint is written by a child that holds the state as it was at one moment, while the controller goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

import structlog

from tidegate.control.beside import Child, can_fork
from tidegate.control.checkpoints import Checkpoint, Checkpoints, about, seal
from tidegate.control.following import Followed
from tidegate.control.state import ServerState
from tidegate.log.port import Log, LogError

LEAST_TO_SAVE = 2_000
"""A server that stops writes a checkpoint if reading these events again would be noticed."""
WORTH_READING = 1_000_000
"""To read a checkpoint of a large fleet takes as long as to fold so many events."""
LONGEST_S = 600.0
"""A child that takes longer is ended; the log has everything."""
RELAX_EVERY_S = 30.0


class Keeping:
    """The checkpoints of one controller's state, and when they are due."""

    def __init__(self, log: Log, checkpoints: Checkpoints | None) -> None:
        """Name the places; without checkpoints nothing is written."""
        self._log, self._checkpoints = log, checkpoints
        self._every = checkpoints.every if checkpoints else 0
        self._saved = 0
        """The last event that a checkpoint covers, as far as is known."""
        self._tried = 0
        self._child: Child | None = None
        self._relax_at = 0.0

    def newest(self, followed: Followed | None = None) -> Checkpoint | None:
        """Give the newest state that is there: one that has followed this log, or a checkpoint. Raises LogError."""
        if followed is not None and not self._is_ours(followed):
            followed = None
        beyond = followed.seq + WORTH_READING if followed else 0
        found = self._checkpoints.newest(self._log, beyond) if self._checkpoints else None
        self._saved = self._tried = found.seq if found else followed.saved if followed else 0
        return Checkpoint(followed.seq, followed.state) if followed and not found else found

    def _is_ours(self, followed: Followed) -> bool:
        return followed.seq <= self._log.last and followed.seal == seal(self._log, followed.seq)

    def empty(self) -> ServerState:
        """Give the state before the first event."""
        return ServerState(self._checkpoints.room() if self._checkpoints else "")

    async def look(self, state: ServerState) -> None:
        """Begin a checkpoint if it is time for one; all that the state holds must be in the log."""
        if time.monotonic() >= self._relax_at:
            state.devices.relax()
            self._relax_at = time.monotonic() + RELAX_EVERY_S
        if self._child is not None:
            self._hear(self._child)
        elif self._checkpoints is not None and self._log.last - self._tried >= self._every:
            self._tried = self._log.last
            if can_fork():
                await self._begin(self._checkpoints, state)
            else:
                await self._write(self._checkpoints, state)

    async def end(self, state: ServerState) -> None:
        """Write a last checkpoint, if it is worth it."""
        self.stop()
        if self._checkpoints is not None and self._log.last - self._saved >= LEAST_TO_SAVE:
            await self._write(self._checkpoints, state)

    def stop(self) -> None:
        """End the child, if there is one; what it has begun is swept away with the next checkpoint."""
        if self._child is not None:
            self._child.end()
            self._child = None

    async def _write(self, checkpoints: Checkpoints, state: ServerState) -> None:
        if await asyncio.to_thread(checkpoints.save, self._log, state):
            self._saved = self._log.last

    async def _begin(self, checkpoints: Checkpoints, state: ServerState) -> None:
        with contextlib.suppress(LogError, OSError):  # no log: that is looked after elsewhere; no child: later again
            head = await asyncio.to_thread(about, self._log)
            rows = state.devices.rows_in_files()
            self._child = Child(lambda: checkpoints.write(head, state, rows), head.seq)

    def _hear(self, child: Child) -> None:
        if not child.ended and child.runs_s < LONGEST_S:
            return
        trouble = child.end()
        self._child = None
        if not trouble:
            self._saved = child.about
        else:
            structlog.get_logger().warning("no checkpoint could be written", trouble=trouble)
