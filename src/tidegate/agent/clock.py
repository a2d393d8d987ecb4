"""The agent's time: what the wall says, and what has passed since the machine started, which nobody can set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Time as the agent needs it; tests bring one that they move by hand."""

    boot_id: str

    def wall(self) -> float:
        """Give seconds since 1970; people and networks can set it."""
        ...

    def boot_s(self) -> float:
        """Give seconds since the machine started, time asleep included; it never goes back within one `boot_id`."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self.boot_id = _boot_id()
        self._kind = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))

    def wall(self) -> float:
        return time.time()

    def boot_s(self) -> float:
        return time.monotonic() if self._kind is None else time.clock_gettime(self._kind)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # without one, the minute in which the machine started names the boot well enough
        return f"started-{round((time.time() - time.monotonic()) / 60)}"


def stamp(clock: Clock) -> tuple[str, float]:
    """Give a moment that stays meaningful for as long as the machine runs: (boot_id, boot_s)."""
    return clock.boot_id, clock.boot_s()


def seconds_since(clock: Clock, moment: tuple[str, float] | None) -> float | None:
    """Give seconds since a stamped moment, or None if it lies before this start of the machine (or is unknown)."""
    if moment is None or moment[0] != clock.boot_id:
        return None
    return clock.boot_s() - moment[1]
