"""Published files that never go back: whoever was replaced and wakes up late, at whatever step, overwrites nothing.

Two processes may write the same directory for a moment: one that was paused, and the one that took over meanwhile. A
lock would not do, since the paused one would hold it for ever. So a number's file is made once and never replaced, and
a file that moves on (the timestamp, a ledger's checkpoint) is put in place by a rename of a temporary file that carries
the number in its name: whoever has a higher number removes the temporary files of the lower ones before it goes on, and
a rename of what is gone does nothing. Either the late one sees the higher number, or it has nothing left to rename.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tidegate.core.errors import Refused
from tidegate.trust.durable import replace, room_for, stage, sync_dir, write_durably

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class Overtaken(Refused):
    """Another process has published something newer: this one must publish nothing more."""


class Pen:
    """How published files are put in place; each is durable when its method returns.

    All raise DiskFull or OSError, and then what was there before stands.
    """

    def put(self, path: Path, data: bytes) -> None:
        """Put a file whose name says what is in it."""
        write_durably(path, data)

    def put_new(self, path: Path, data: bytes) -> None:
        """Make a file that nobody may make twice. Raises Overtaken if it is there already."""
        temporary = stage(path, data)
        try:
            with room_for(str(path)):
                _link(temporary, path)
        except FileExistsError:
            raise Overtaken(f"{path} was written by another process; this one stops") from None
        finally:
            temporary.unlink(missing_ok=True)
        sync_dir(path.parent)

    def put_forward(self, path: Path, data: bytes, number: int, number_of: Callable[[bytes], int]) -> None:
        """Replace a file by one of the same or a higher number.

        Args:
            path: the file.
            data: what it shall hold.
            number: the number of `data`, not negative.
            number_of: gives the number of what stands there.

        Raises:
            Overtaken: if somebody has put a higher one there, or is about to. What is there stands.
        """
        temporary = stage(path, data, mark=f"{number:020}.")
        try:
            for other, theirs in _others(path):
                if theirs > number:
                    raise Overtaken(_newer(path, theirs, number))
                if theirs < number:
                    other.unlink(missing_ok=True)
            standing = number_of(path.read_bytes()) if path.exists() else -1
            if standing > number:
                raise Overtaken(_newer(path, standing, number))
            with room_for(str(path)):
                replace(temporary, path)
        except FileNotFoundError:
            raise Overtaken(f"{path} was taken over by another process as number {number} was written") from None
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        sync_dir(path.parent)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():  # a file system without links: as near as it comes
            raise FileExistsError(path) from None
        replace(temporary, path)


def _others(path: Path) -> Iterator[tuple[Path, int]]:
    """Give the temporary files that are to become `path`, each with its number; our own is among them."""
    form = re.compile(rf"\.{re.escape(path.name)}\.(\d{{20}})\.\w+\.tmp\Z")
    for name in os.listdir(path.parent):
        if found := form.match(name):
            yield path.parent / name, int(found[1])


def _newer(path: Path, theirs: int, ours: int) -> str:
    return f"{path} is at number {theirs} by another process, and {ours} would go back; this one stops"
