"""A pen that calls a test before each file: to cut the power there, or to look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tidegate.trust.fence import Pen


class Watched(Pen):
    """Calls `before(path, data)`, which may raise, and then does what it should."""

    def __init__(self, before: Callable[[Path, bytes], None]) -> None:
        self.before = before

    def put(self, path: Path, data: bytes) -> None:
        self.before(path, data)
        super().put(path, data)

    def put_new(self, path: Path, data: bytes) -> None:
        self.before(path, data)
        super().put_new(path, data)

    def put_forward(self, path: Path, data: bytes, number: int, number_of: Callable[[bytes], int]) -> None:
        self.before(path, data)
        super().put_forward(path, data, number, number_of)
