"""Answers that were given before, by the digest of all that they depend on: an unchanged part is not tried again."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import tidegate
from tidegate.core.wire import canonical
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.errors import DiskFull

MOST_ENTRIES = 20_000


def default_cache() -> Path:
    """Give the directory that is used when none is named."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tidegate" / "gate"


@functools.cache
def code_digest() -> str:
    """Name the code that gives the answers: the gate and the drivers. Another code, another answer."""
    package = Path(tidegate.__file__).parent
    text = hashlib.sha256()
    for room in ("gate", "drivers"):
        for path in sorted((package / room).rglob("*.py")):
            text.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return text.hexdigest()


class Cache:
    """A directory of answers; without a directory it knows nothing and keeps nothing."""

    def __init__(self, directory: Path | None) -> None:
        """Take the directory, which is made when something is kept."""
        self._directory = directory

    def _path(self, inputs: Any) -> Path | None:
        if self._directory is None or inputs is None:
            return None
        name = hashlib.sha256(canonical([code_digest(), inputs])).hexdigest()
        return self._directory / name[:2] / f"{name}.json"

    def get(self, inputs: Any) -> Any:
        """Give the answer that these inputs had, or None. A file that cannot be read is no answer."""
        path = self._path(inputs)
        if path is None:
            return None
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None

    def put(self, inputs: Any, answer: Any) -> None:
        """Keep an answer; a full disk keeps none, and is no reason to fail."""
        path = self._path(inputs)
        if path is None:
            return
        try:
            make_directory(path.parent, 0o700)
            write_durably(path, canonical(answer), 0o600)
        except (OSError, DiskFull):
            return
