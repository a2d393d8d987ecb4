"""The diary of a running process: JSON on stderr, one object a line. No trouble with it ever stops the work."""

from __future__ import annotations

import contextlib
import os

import structlog

STDERR = 2


class Diary:
    """Writes lines straight to a descriptor, and leaves one out where that fails.

    It may be a file on the very disk that is full, or a pipe whose reader has ended.
    """

    def __init__(self, descriptor: int = STDERR) -> None:
        self._descriptor = descriptor

    def msg(self, message: str) -> None:
        """Write a line."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, f"{message}\n".encode(errors="backslashreplace"))

    debug = info = warning = error = critical = msg


def write_diary(level: str) -> None:
    """Let everything of this level and above go to stderr."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=lambda *_: Diary(),
    )
