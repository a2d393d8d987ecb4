"""Attends a sandboxed run: reads what it says, watches its memory and the clock, and ends it when it goes too far.

Memory is what /proc says its processes hold, and what the kernel holds for them where no limit of a process counts it:
what waits in sockets, and the entries of its file systems in memory.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import IO

from tidegate.gate.jobs import Job, Limits, Ran

POLL_S = 0.05
_NAP_S = 0.01
"""What is said in small pieces is gathered for so long: waking for each would take the cores from those who say it."""
_SMALL = 4096
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_IN_MEMORY = ("/tmp", "/dev/shm")
_ENTRY_BYTES = 1536
"""A file in memory without content: its inode, its name, what stands beside it."""
_PIECE_BYTES = 65536
"""A sender may go so far beyond the size of a socket's buffer, for the kernel looks before it takes a piece."""


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


def held_mb(pids: list[int], places: Iterable[str] = _IN_MEMORY) -> float:
    """Give an upper bound of what the kernel holds for a run, in MB. The first process stands outside the sandbox.

    Each socket of its network namespace counts as full: a sandboxed process may not make its buffer larger.
    """
    for pid in pids[1:]:
        with suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{pid}/net/sockstat", encoding="ascii") as file:
                sockets = int(file.readline().split()[2])
            return (sockets * _socket_bytes() + _entries(pid, places) * _ENTRY_BYTES) / (1 << 20)
    return 0.0


def _entries(pid: int, places: Iterable[str]) -> int:
    """Count the files, with content or without, that a run has in memory."""
    found = 0
    for place in places:
        with suppress(OSError):  # an ordinary user may not look into every process
            inside = f"/proc/{pid}/root{place}"
            if os.stat(inside).st_dev != os.stat(place).st_dev:  # the same while bubblewrap is still at work
                room = os.statvfs(inside)
                found += room.f_files - room.f_ffree
    return found


def _socket_bytes() -> int:
    with open("/proc/sys/net/core/wmem_default", encoding="ascii") as file:
        return int(file.read()) + _PIECE_BYTES


def attend(process: subprocess.Popen[bytes], job: Job, began: float, heard: Callable[[bytes], None] | None) -> Ran:
    """Read what a run says, watch its memory and the clock, and end it when it goes too far."""
    limits, stopped, peak_mb, looked = job.limits, "", 0.0, 0.0
    assert process.stdout is not None and process.stderr is not None
    said: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    try:
        with selectors.DefaultSelector() as selector:
            for stream in said:
                selector.register(stream, selectors.EVENT_READ, said[stream])
            while selector.get_map():
                sizes: list[int] = []
                for key, _ in selector.select(POLL_S):
                    piece = os.read(key.fd, 1 << 16)
                    sizes.append(len(piece))
                    key.data.extend(piece)
                    if not piece:
                        selector.unregister(key.fileobj)
                    elif heard is not None and key.fileobj is process.stdout:
                        heard(piece)
                now = time.monotonic()
                if now - looked >= POLL_S:
                    looked, pids = now, family(process.pid)
                    peak_mb = max(peak_mb, resident_mb(pids) + held_mb(pids, (*_IN_MEMORY, *job.writable)))
                stopped = stopped or _excess(limits, now - began, peak_mb, said.values())
                if stopped:
                    break
                if sizes and min(sizes) > 0 and max(sizes) < _SMALL:
                    time.sleep(_NAP_S)
    except BaseException:
        stopped = "it was interrupted"
        raise
    finally:
        if stopped:  # all of it lives in a process namespace whose first process dies with bubblewrap
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        process.stdout.close()
        process.stderr.close()
    out, errors = (bytes(each) for each in said.values())
    ended = code if code >= 0 else 128 - code
    text = errors[-20_000:].decode(errors="replace")
    return Ran(ended, stopped, time.monotonic() - began, peak_mb, out, text)


def _excess(limits: Limits, wall_s: float, peak_mb: float, said: Iterable[bytearray]) -> str:
    if wall_s > limits.wall_s:
        return f"it did not end within {limits.wall_s:g} s"
    if peak_mb > limits.memory_mb * 1.25:
        return f"it used {peak_mb:.0f} MB of memory, {limits.memory_mb} are allowed"
    size = sum(len(each) for each in said)
    if size > limits.output_mb << 20:
        return f"it wrote more than {limits.output_mb} MB of output"
    return ""
