"""One run in the gate's sandbox: what it is given, within which limits, and how it ended. Standard library alone."""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

OVER = 128 + 24
"""The code of a run that used more CPU than it was allowed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may use. MB are 2**20 bytes; `memory_mb` is address space of each process, and counts as resident
    memory for all of them together; `disk_mb` is what it can write altogether, in memory; `wall_s` ends everything."""

    memory_mb: int = 2048
    cpu_s: int = 60
    wall_s: float = 120.0
    processes: int = 64
    file_mb: int = 64
    disk_mb: int = 256
    open_files: int = 256
    output_mb: int = 16

    def within(self, cpu_s: int) -> Limits:
        """Give the same with less CPU, and a clock that allows for some waiting; 0 changes nothing."""
        if not cpu_s:
            return self
        return replace(self, cpu_s=min(self.cpu_s, cpu_s), wall_s=min(self.wall_s, 1.5 * cpu_s + 2))


@dataclass(frozen=True, slots=True)
class Job:
    """One run: a command, what it may read besides the system (source -> place inside), its input and its limits.

    `local_sockets`: its processes may talk to each other by AF_UNIX sockets, as a daemon of its own needs; to nothing
    outside, for the sandbox has a network namespace and files of its own. `writable`: directories that are its own,
    empty and in memory, where a device's programs could write; one within another stands behind it.
    """

    command: tuple[str, ...]
    read: tuple[tuple[Path, str], ...] = ()
    stdin: bytes = b""
    env: dict[str, str] = field(default_factory=lambda: {})
    limits: Limits = Limits()
    local_sockets: bool = False
    writable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended: `code` as a shell has it (128 + n: signal n), or `stopped` by which limit of the parent's."""

    code: int
    stopped: str
    wall_s: float
    peak_mb: float
    stdout: bytes
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self.code == 0 and not self.stopped

    @property
    def crashed(self) -> bool:
        """Whether a signal or a limit ended it."""
        return bool(self.stopped) or self.code > 128

    @property
    def sentence(self) -> str:
        """How it ended, in words."""
        if self.stopped:
            return f"was stopped: {self.stopped}"
        if self.code > 128:
            with suppress(ValueError):
                return f"was ended by {signal.Signals(self.code - 128).name}"
        return f"ended with exit code {self.code}"

    @property
    def last_line(self) -> str:
        """The last thing that it said on standard error."""
        lines = self.stderr.strip().splitlines()
        return lines[-1][:300] if lines else ""
