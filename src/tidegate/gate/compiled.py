"""Compiled rules, kept by the digest of all that they come from: one content is compiled once, not once a check.

They are made inside the sandbox and read inside it alone, by runs of the very content that they were made of: a release
that has its interpreter in hand gains nothing by them that it has not already.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidegate.core.wire import canonical
from tidegate.gate.cache import Cache

MOST_BYTES = 32 << 20


class Compiled:
    """What has been compiled: a file each below the trial's own directory, and in the cache."""

    def __init__(self, cache: Cache, directory: Path) -> None:
        """Take the cache, and a directory for this run, which is made."""
        self._cache, self._directory = cache, directory
        self._lock = threading.Lock()

    def find(self, engine: Any, files: Mapping[str, str]) -> Path | None:
        """Give the compiled rules of these files (name -> SHA-256) for an engine of this fingerprint, if there are."""
        inputs = ["compiled", engine, dict(files)]
        path = self._path(inputs)
        with self._lock:
            if not path.exists() and (data := self._cache.blob(inputs)) is not None:
                self._put(path, data)
            return path if path.exists() else None

    def keep(self, engine: Any, files: Mapping[str, str], data: bytes) -> None:
        """Keep them."""
        inputs = ["compiled", engine, dict(files)]
        with self._lock:
            self._put(self._path(inputs), data)
        self._cache.put_blob(inputs, data)

    def _path(self, inputs: Any) -> Path:
        return self._directory / hashlib.sha256(canonical(inputs)).hexdigest()

    def _put(self, path: Path, data: bytes) -> None:
        path.parent.mkdir(exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(data)
        fresh.chmod(0o444)  # the sandbox's user reads it
        fresh.replace(path)
