"""The board on which the processes of a swarm write how far they are: a small file that all of them map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

COLUMNS = 3
"""Devices begun, devices confirmed, answers."""


class Board:
    """One line for each process, and a cell that ends them all. Counts may be a moment old, and are never half written.

    Args:
        path: the file.
        lines: how many processes write on it; given by the one that makes it, 0 to open it.
    """

    def __init__(self, path: str | Path, lines: int = 0) -> None:
        if lines:
            Path(path).write_bytes(bytes(8 * (1 + lines * COLUMNS)))
        self._cells = np.memmap(path, dtype=np.int64, mode="r+")
        self._lines = self._cells[1:].reshape(-1, COLUMNS)

    def tell(self, place: int, begun: int, confirmed: int, answers: int) -> None:
        """Write one process's line."""
        self._lines[place] = (begun, confirmed, answers)

    def sums(self) -> tuple[int, int, int]:
        """Give devices begun, devices confirmed and answers, of all processes together."""
        begun, confirmed, answers = self._lines.sum(axis=0).tolist()
        return begun, confirmed, answers

    def stop(self) -> None:
        """Ask all to end early."""
        self._cells[0] = 1

    @property
    def stopped(self) -> bool:
        """Say whether all are asked to end."""
        return bool(self._cells[0])
