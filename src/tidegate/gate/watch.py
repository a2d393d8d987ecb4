"""What a sandboxed run uses now, read from /proc: its processes and their resident memory."""

from __future__ import annotations

import os
from contextlib import suppress

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def family(pid: int) -> list[int]:
    """Give a process and all that descend from it; what ends meanwhile is left out."""
    found, waiting = [], [pid]
    while waiting:
        found.append(one := waiting.pop())
        with suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with suppress(OSError), open(f"/proc/{one}/task/{task}/children", encoding="ascii") as file:
                    waiting += [int(word) for word in file.read().split()]
    return found


def resident_mb(pids: list[int]) -> float:
    """Give the resident memory of processes together, in MB; pages that they share count for each."""
    pages = 0
    for pid in pids:
        with suppress(OSError, IndexError, ValueError), open(f"/proc/{pid}/statm", encoding="ascii") as file:
            pages += int(file.read().split()[1])
    return pages * _PAGE / (1 << 20)
