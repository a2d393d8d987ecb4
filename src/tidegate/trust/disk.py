"""The port to the operating system's disk: what makes a file's data, its name and a rename outlive a power cut."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

F_FULLFSYNC = 51
"""macOS, <sys/fcntl.h>: flush the drive's own cache too, which fsync there leaves alone."""
_NO_FULLFSYNC = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL}
MOVEFILE_REPLACE_EXISTING, MOVEFILE_WRITE_THROUGH = 0x1, 0x8
_HELD = {5, 32}
"""Windows: access denied, sharing violation. A scanner or an indexer has the file open, for a moment."""
HELD_TRIES, HELD_WAIT_S = 20, 0.05


class Disk(Protocol):
    """Three steps; each has been done, and survives, when it returns. All raise OSError."""

    def sync_file(self, descriptor: int) -> None:
        """Make an open file's data durable."""
        ...

    def sync_dir(self, path: Path) -> None:
        """Make the names in a directory durable."""
        ...

    def replace(self, source: Path | str, target: Path) -> None:
        """Let `target` name what `source` names, in one step; durable at the latest with `sync_dir`."""
        ...


class PosixDisk:
    """Linux and its like: fsync for data, fsync of the directory for names."""

    def sync_file(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def sync_dir(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            self.sync_file(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: Path | str, target: Path) -> None:
        os.replace(source, target)


class MacDisk(PosixDisk):
    """macOS: F_FULLFSYNC, or fsync on a volume that does not know it (a network's).

    Args:
        control: fcntl.fcntl, or what stands for it.
    """

    def __init__(self, control: Callable[[int, int], object] | None = None) -> None:
        if control is None:
            import fcntl

            control = fcntl.fcntl
        self._control = control

    def sync_file(self, descriptor: int) -> None:
        try:
            self._control(descriptor, F_FULLFSYNC)
        except OSError as error:
            if error.errno not in _NO_FULLFSYNC:
                raise
            os.fsync(descriptor)


class WindowsDisk:
    """Windows: FlushFileBuffers for data (os.fsync calls it), and a move that returns when it is on the disk.

    A directory cannot be flushed there, and need not be: the move writes its names through.

    Args:
        move: (source, target, flags) -> nothing, MoveFileExW; raises OSError with `winerror`.
        pause: time.sleep, or what stands for it.
    """

    def __init__(
        self, move: Callable[[str, str, int], None] | None = None, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._move, self._pause = move or _move_file_ex, pause

    def sync_file(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def sync_dir(self, path: Path) -> None:
        """Do nothing: see above."""

    def replace(self, source: Path | str, target: Path) -> None:
        for tries_left in reversed(range(HELD_TRIES)):
            try:
                return self._move(str(source), str(target), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH)
            except OSError as error:
                if getattr(error, "winerror", None) not in _HELD or not tries_left:
                    raise
            self._pause(HELD_WAIT_S)
        return None


def _move_file_ex(source: str, target: str, flags: int) -> None:
    import ctypes

    windows = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    if not windows.MoveFileExW(ctypes.c_wchar_p(source), ctypes.c_wchar_p(target), ctypes.c_uint(flags)):
        raise ctypes.WinError(ctypes.get_last_error())  # type: ignore[attr-defined]


def system_disk(platform: str = sys.platform) -> Disk:
    """Give the disk of a platform, by its name in sys.platform."""
    if platform == "win32":
        return WindowsDisk()
    return MacDisk() if platform == "darwin" else PosixDisk()
