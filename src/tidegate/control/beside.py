"""A child that does one piece of work on a copy of this process's memory, while the process goes on (`fork`).

The child touches nothing that it shares with its parent: it closes every file and socket but its own, runs no thread,
no event loop and no clean-up, and dies with its parent. What it does must need no lock that another thread of the
parent may have held at that moment: no imports, no logging, no OpenSSL, no database.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import time
import warnings
from collections.abc import Callable

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_LONGEST_WORD = 1000
_prctl = getattr(ctypes.CDLL(None), "prctl", None) if os.name == "posix" else None


def can_fork() -> bool:
    """Say whether this system has children of that kind that also end with their parent."""
    return hasattr(os, "fork") and _prctl is not None


class Child:
    """One child at work."""

    def __init__(self, work: Callable[[], object], about: int) -> None:
        """Start it: `work` runs in the child; an exception is its trouble. `about` is for the caller's memory."""
        self.about = about
        self._began = time.monotonic()
        self._status: int | None = None
        self._said = ""
        parent = os.getpid()
        self._ear, mouth = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads: see above
            self._pid = os.fork()
        if self._pid == 0:
            _live(work, mouth, parent)
        os.close(mouth)

    @property
    def runs_s(self) -> float:
        """For how long it has been at work."""
        return time.monotonic() - self._began

    @property
    def ended(self) -> bool:
        """Whether it has ended; never waits."""
        if self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            self._status = status if pid else None
        return self._status is not None

    def end(self) -> str:
        """End it if it has not ended; give what went wrong, or nothing."""
        if not self.ended:
            os.kill(self._pid, signal.SIGKILL)
            self._status = os.waitpid(self._pid, 0)[1]
        if self._ear >= 0:
            with open(self._ear, "rb") as ear:
                self._said = ear.read(_LONGEST_WORD).decode(errors="replace")
            self._ear = -1
        if self._status == 0:
            return ""
        return self._said or f"the process that writes it was ended (status {self._status})"


def _live(work: Callable[[], object], mouth: int, parent: int) -> None:
    """The child's whole life."""
    code = 1
    try:
        gc.disable()  # it would touch every object, and each page that is touched is copied
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if _prctl is not None:
            _prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            os.closerange(3, mouth)
            os.closerange(mouth + 1, os.sysconf("SC_OPEN_MAX"))
            with contextlib.suppress(OSError):
                os.nice(5)
            work()
            code = 0
    except BaseException as error:  # whatever it is, it must not go up into the parent's code
        with contextlib.suppress(BaseException):
            os.write(mouth, str(error).encode()[:_LONGEST_WORD])
    finally:
        os._exit(code)
