"""Files that outlive a power cut: data, fsync, rename, fsync of the directory, in this order and no other."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tidegate.core.errors import BadInput, NotFound
from tidegate.core.private import too_open
from tidegate.trust.disk import Disk, system_disk
from tidegate.trust.errors import DiskFull

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_SUFFIX = ".tmp"


DISK: Disk = system_disk()


def sync_file(descriptor: int) -> None:
    """Make an open file's data durable, past the drive's own cache too."""
    DISK.sync_file(descriptor)


def sync_dir(path: Path) -> None:
    """Make a directory's names durable, where that is not done with the rename."""
    DISK.sync_dir(path)


def replace(source: Path, target: Path) -> None:
    """Let `target` name what `source` names, in one step; durable after `sync_dir` of its directory."""
    DISK.replace(source, target)


@contextlib.contextmanager
def room_for(what: str) -> Iterator[None]:
    """Turn 'no space left' into an error that says what to do.

    Raises:
        DiskFull: naming `what` could not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull(f"no room left on the disk for {what}; free some space and try again") from error
        raise


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put a whole file in place, so that at every moment the old or the new one stands there and never a part.

    Returns once the file survives a power cut.

    Raises:
        DiskFull: if there is no room; the old file is untouched.
        OSError: for all else that the system refuses.
    """
    temporary = stage(path, data, mode)
    try:
        with room_for(str(path)):
            DISK.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_dir(path.parent)


def stage(path: Path, data: bytes, mode: int = 0o644, mark: str = "") -> Path:
    """Write a whole file beside `path`, under a temporary name that holds `mark`; its data is durable, its name not.

    Raises:
        DiskFull, OSError: as `write_durably`; nothing is left behind.
    """
    with room_for(str(path)):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{mark}", suffix=_SUFFIX)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                os.chmod(temporary, mode)
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
                sync_file(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    return Path(temporary)


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Make a directory and those above it, durably; one that is there already is left as it is."""
    if path.is_dir():
        return
    if not path.parent.is_dir():
        make_directory(path.parent, 0o755)
    with contextlib.suppress(FileExistsError), room_for(str(path)):
        path.mkdir(mode=mode)
    sync_dir(path.parent)


def sweep_temporary(directory: Path) -> None:
    """Remove what an interrupted `write_durably` left behind. Only for the one process that writes here."""
    for leftover in directory.glob(f".*{_SUFFIX}"):
        leftover.unlink(missing_ok=True)


def read_bytes(path: Path, what: str) -> bytes:
    """Read a file that must be there. Raises NotFound, naming it as `what`."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"{what} is not there: {path}") from None


def read_secret(path: Path, what: str) -> bytes:
    """Read a file that holds a secret.

    Raises:
        NotFound: if there is no such file.
        BadInput: if others than its owner may read it.
    """
    data = read_bytes(path, what)
    if os.name == "posix" and (wrong := too_open(path, path.stat().st_mode)):
        raise BadInput(wrong)
    return data


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file that must be there.

    Raises:
        NotFound: if there is no such file.
        BadInput: if it is not JSON.
    """
    try:
        return json.loads(read_bytes(path, what))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what} ({path}) is not JSON: {error}") from error
