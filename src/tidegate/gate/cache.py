"""Answers that were given before, by the digest of all that they depend on: an unchanged part is not tried again.

What is kept is the gate's own word alone: it is believed only if nobody else can have written it, and if it is whole.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import tidegate
from tidegate.core.wire import canonical
from tidegate.trust.durable import make_directory
from tidegate.trust.errors import DiskFull

MOST_ENTRIES = 20_000
"""Beyond these the ones that were not asked for longest go, and as many again as a tenth."""
MOST_BLOBS = 24
_ROOMS = ("core", "drivers", "gate", "trust")
_BLOBS = "compiled"
_SUM = 32


def default_cache() -> Path:
    """Give the directory that is used when none is named."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tidegate" / "gate"


@functools.cache
def code_digest() -> str:
    """Name the code that gives the answers: the gate, and the rooms that it leads. Another code, another answer."""
    package = Path(tidegate.__file__).parent
    text = hashlib.sha256()
    for room in _ROOMS:
        for path in sorted((package / room).rglob("*.py")):
            text.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return text.hexdigest()


def code_of(thing: object) -> str:
    """Name the code of a plug-in's class by its file, which may lie in another package."""
    try:
        return hashlib.sha256(Path(inspect.getfile(type(thing))).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return ""


class Cache:
    """A directory of answers; without a directory it knows nothing and keeps nothing."""

    def __init__(self, directory: Path | None) -> None:
        """Take the directory, which is made when something is kept."""
        self._directory = directory

    @staticmethod
    def _name(inputs: Any) -> str:
        return hashlib.sha256(canonical([code_digest(), inputs])).hexdigest()

    def get(self, inputs: Any) -> Any:
        """Give the answer that these inputs had, or None. A file that cannot be believed is no answer."""
        return self.look(inputs)[0]

    def look(self, inputs: Any) -> tuple[Any, float]:
        """Give (answer, when it was kept, in seconds since 1970), or (None, 0)."""
        if self._directory is None or inputs is None:
            return None, 0.0
        name = self._name(inputs)
        data = _read(self._directory / name[:2] / f"{name}.json", name)
        if data is None:
            return None, 0.0
        try:
            found = json.loads(data)
            return found["answer"], float(found["at"])
        except (ValueError, RecursionError, KeyError, TypeError):
            return None, 0.0

    def put(self, inputs: Any, answer: Any) -> None:
        """Keep an answer; a full disk keeps none, and is no reason to fail."""
        if self._directory is None or inputs is None:
            return
        name = self._name(inputs)
        data = canonical({"answer": answer, "at": int(time.time())})
        _write(self._directory / name[:2] / f"{name}.json", name, data)

    def blob(self, inputs: Any) -> bytes | None:
        """Give bytes that were kept, or None."""
        if self._directory is None:
            return None
        name = self._name(inputs)
        return _read(self._directory / _BLOBS / name, name)

    def put_blob(self, inputs: Any, data: bytes) -> None:
        """Keep bytes; of many the ones that were not asked for longest go."""
        if self._directory is None:
            return
        name = self._name(inputs)
        _write(self._directory / _BLOBS / name, name, data)
        _tidy(list((self._directory / _BLOBS).glob("[0-9a-f]*")), MOST_BLOBS)

    def tidy(self) -> None:
        """Let go of what was not asked for longest, where there is too much."""
        if self._directory is not None:
            _tidy(list(self._directory.glob("[0-9a-f][0-9a-f]/*.json")), MOST_ENTRIES)


def _read(path: Path, name: str) -> bytes | None:
    """Read what is kept, if it is whole, bears its own name, and no other user can have written it."""
    try:
        with open(path, "rb") as file:
            for found in (os.fstat(file.fileno()), os.stat(path.parent)):
                if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    return None
            data = file.read()
        with suppress(OSError):
            os.utime(path)
    except OSError:
        return None
    return data[_SUM:] if data[:_SUM] == _sum(name, data[_SUM:]) else None


def _sum(name: str, data: bytes) -> bytes:
    return hashlib.sha256(name.encode() + data).digest()


def _write(path: Path, name: str, data: bytes) -> None:
    """Put it in place whole. It need not outlive a power cut: what is torn then does not fit its sum."""
    try:
        make_directory(path.parent, 0o700)
        descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with open(descriptor, "wb") as file:
                file.write(_sum(name, data) + data)
            os.replace(fresh, path)
        except OSError:
            os.unlink(fresh)
    except (OSError, DiskFull):
        return


def _tidy(paths: list[Path], most: int) -> None:
    if len(paths) <= most:
        return
    with suppress(OSError):
        paths.sort(key=lambda path: path.stat().st_mtime)
    for path in paths[: len(paths) - most + most // 10]:
        path.unlink(missing_ok=True)
