"""A state that keeps up with a log while another controller writes it: a standby that takes over has read it all."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog

from tidegate.control.batch_fold import fold_batches
from tidegate.control.checkpoints import Checkpoints, record_seal
from tidegate.control.state import ServerState
from tidegate.log.batch import Batch
from tidegate.log.port import LogError, LogReader

EVERY_S = 0.3
AGAIN_S = 2.0
TAKEN_WITHIN_S = 1.0
"""Whoever takes over does not wait longer for a read that is under way: it reads the log anew instead."""
OpenReader = Callable[[], LogReader | None]


@dataclass(frozen=True, slots=True)
class Followed:
    """The state after event `seq`, whose record has this seal; `saved` is the event that a checkpoint covers."""

    seq: int
    seal: str
    saved: int
    state: ServerState


class Following:
    """Reads in a thread of its own, since a store that hangs must not keep a standby from taking over."""

    def __init__(self, open_reader: OpenReader, checkpoints: Checkpoints) -> None:
        """Begin; with a log that cannot be read beside its writer (None) there is nothing to do."""
        self._open, self._checkpoints = open_reader, checkpoints
        self._over, self._still = threading.Event(), threading.Event()
        self._reader: LogReader | None = None
        self._state: ServerState | None = None
        self._seq = self._saved = 0
        self._newest: tuple[int, Batch] | None = None
        self._warned = False
        self._thread = threading.Thread(target=self._run, daemon=True, name="tidegate-following")
        self._thread.start()

    @property
    def seq(self) -> int:
        """The newest event that has been read."""
        return self._seq

    def take(self) -> Followed | None:
        """End it; give what has been read, or None where that is nothing, or a read is still under way."""
        self._over.set()
        if not self._still.wait(TAKEN_WITHIN_S) or self._state is None or self._newest is None:
            return None
        return Followed(self._seq, record_seal(*self._newest), self._saved, self._state)

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            self._still.set()  # the line to the store is closed after that: a cluster in trouble takes its time
            self._close()

    def _follow(self) -> None:
        wait_s = 0.0
        while not self._over.wait(wait_s):
            wait_s = EVERY_S
            try:
                if not self._look():
                    return
            except LogError as error:  # the store is away, or not there yet
                self._close()
                self._warn("the standby cannot read the log", str(error))
                wait_s = AGAIN_S
            except Exception as error:  # what is half folded is no state; whoever takes over reads the log anew
                self._state = None
                self._warn("the standby follows the log no more, and will read it when it takes over", repr(error))
                return

    def _look(self) -> bool:
        if self._reader is None:
            self._reader = self._open()
        if self._reader is None:
            return False
        if self._state is None:
            self._begin(self._reader)
        if self._reader.last > self._seq:
            fold_batches(self._new(self._reader), self._state).devices.prepare()
        self._warned = False
        return True

    def _begin(self, reader: LogReader) -> None:
        found = self._checkpoints.newest(reader)
        if found is not None:
            self._seq = self._saved = found.seq
            self._newest = next(reader.read_batches(found.seq - 1), None)
        self._state = found.state if found is not None else ServerState(self._checkpoints.room())

    def _new(self, reader: LogReader) -> Iterator[tuple[int, Batch]]:
        """Give the records after the newest one; each counts as read once the next is asked for."""
        for first, batch in reader.read_batches(self._seq):
            if self._over.is_set():
                return
            if first != self._seq + 1:
                raise ValueError(f"the record of event {first} came after event {self._seq}")
            yield first, batch
            self._seq, self._newest = first + batch.count - 1, (first, batch)

    def _close(self) -> None:
        if self._reader is not None:
            with contextlib.suppress(Exception):
                self._reader.close()
        self._reader = None

    def _warn(self, what: str, trouble: str) -> None:
        if not self._warned:
            structlog.get_logger().warning(what, trouble=trouble)
        self._warned = True
