"""The diary of a running process: JSON on stderr, one object a line. No trouble with it ever stops the work."""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading

import structlog

STDERR = 2
MOST_WAITING = 10_000
LAST_WORDS_S = 2.0


class Diary:
    """Writes lines to a descriptor, from a thread of its own.

    It may be a file on the very disk that is full or hangs, or a pipe whose reader has ended or does not read: a line
    that cannot be written is left out, and so is what comes while too many wait.
    """

    def __init__(self, descriptor: int = STDERR) -> None:
        self._descriptor = descriptor
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, daemon=True, name="tidegate-diary")
        self._thread.start()
        atexit.register(self.close)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            with contextlib.suppress(OSError):
                os.write(self._descriptor, f"{line}\n".encode(errors="backslashreplace"))

    def msg(self, message: str) -> None:
        """Write a line, soon."""
        if self._lines.qsize() < MOST_WAITING:
            self._lines.put(message)

    debug = info = warning = error = critical = msg

    def close(self) -> None:
        """Write what waits, as far as that is done in a moment."""
        self._lines.put(None)
        self._thread.join(LAST_WORDS_S)


def write_diary(level: str) -> None:
    """Let everything of this level and above go to stderr."""
    diary = Diary()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=lambda *_: diary,
    )
