"""Starts, finds and stops the yara driver's scanning process, also one that an earlier agent has started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.drivers.port import DriverError, Place
from tidegate.drivers.programs import ending, environment

NOTHING_TO_RUN, BUSY = 3, 4
START_S = 20.0
"""A machine with much else to do is slow to start anything: that is no fault of the release."""
STOP_S = 1.5
POLL_S = 0.02

_children: dict[Path, subprocess.Popen[bytes]] = {}
"""What this process has started, by the directory that it works in: to be reaped, and to know how it ended."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The device's words for this component, read.

    `watch`: the directory to protect. `quarantine`: where matching files go, on the same file system. `planted`: a
    sample, relative to `watch`, that every look at health plants anew. `needs`: files, relative to `watch`, that the
    device cannot be without. `cpu_s`: CPU that one file may take. `memory_mb`: address space of the engine.
    `interval_s`: pause between two passes. `start_s`: how long a start may take until the engine watches. `compiled`: a
    directory with rules that were compiled before, by release, which nobody but the device's owner may write to; where
    there is none for a release, or no directory is named, the rules are compiled.
    """

    watch: Path
    quarantine: Path
    planted: str
    needs: tuple[str, ...]
    cpu_s: int
    memory_mb: int
    interval_s: float
    start_s: float
    compiled: str


def read_settings(place: Place) -> Settings:
    """Read the settings; `watch` and `quarantine` are needed, the rest have defaults.

    Raises:
        DriverError: naming the setting that is missing or wrong.
    """
    given = place.settings

    def directory(name: str) -> Path:
        path = Path(given.get(name, ""))
        if not path.is_absolute():
            raise DriverError(f"setting {name} of {place.component} must be an absolute path; set it on this device")
        return path

    def number(name: str, default: float, least: float) -> float:
        try:
            value = float(given.get(name, default))
        except ValueError:
            value = -1.0
        if not least <= value <= 1e6:
            raise DriverError(f"setting {name} of {place.component} must be a number from {least:g}")
        return value

    needs = tuple(name.strip() for name in given.get("needs", "").split(",") if name.strip())
    return Settings(
        directory("watch"), directory("quarantine"), given.get("planted", ""), needs,
        int(number("cpu_s", 10, 1)), int(number("memory_mb", 1024, 256)),
        number("interval_s", 1.0, 0.01), number("start_s", START_S, 0.1), given.get("compiled", ""),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Started:
    """What came of one start: `digest` of the release that the engine watches with, or why it does not."""

    digest: str | None
    code: int | None
    detail: str = ""


class EngineControl:
    """The one engine of one component on this device."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.settings = read_settings(place)
        self.status_path = place.work / "engine.json"
        self.lock_path = place.work / "engine.json.lock"
        self.log_path = place.work / "engine.log"

    def command(self) -> list[str]:
        place, settings = self.place, self.settings
        return [
            *place.launcher, sys.executable, "-m", "tidegate.drivers.yara_engine",
            "--rules", str(place.current), "--watch", str(settings.watch), "--quarantine", str(settings.quarantine),
            "--status", str(self.status_path), "--interval", str(settings.interval_s),
            "--cpu-s", str(settings.cpu_s), "--memory-mb", str(settings.memory_mb),
            *(("--compiled", settings.compiled) if settings.compiled else ()),
        ]  # fmt: skip

    def held(self) -> bool:
        """Whether an engine lives: the system lets go of its lock at the moment of its death, however it dies."""
        try:
            import fcntl
        except ImportError:
            raise DriverError("the yara driver needs a POSIX system; choose another driver for this device") from None
        try:
            descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    def lock_text(self) -> list[str]:
        try:
            return [*self.lock_path.read_text(errors="surrogateescape").splitlines(), "", ""]
        except OSError:
            return ["", ""]

    def status(self) -> dict[str, Any] | None:
        """Give what the living engine says of itself, or None if none lives or it has not spoken yet."""
        if not self.held():
            return None
        try:
            value = json.loads(self.status_path.read_bytes())
        except (OSError, ValueError):
            return None
        own = isinstance(value, dict) and str(value.get("pid")) == self.lock_text()[0]
        return value if own else None

    def _until(self, seconds: float, done: Callable[[], bool]) -> bool:
        give_up = time.monotonic() + seconds
        while not done():
            if time.monotonic() > give_up:
                return False
            time.sleep(POLL_S)
        return True

    def stop(self) -> None:
        """End the engine, whoever has started it; nothing if none runs.

        Raises:
            DriverError: it does not end, even by force.
        """
        launched = _children.get(self.place.work)
        for number, wait_s in ((signal.SIGTERM, STOP_S), (signal.SIGKILL, STOP_S)):
            if self._signalled(launched, number) or self._until(wait_s, lambda: not self._alive(launched)):
                break
        else:
            raise DriverError(f"the engine of {self.place.component} does not end; look at its process by hand")
        _children.pop(self.place.work, None)

    def _alive(self, launched: subprocess.Popen[bytes] | None) -> bool:
        return (launched is not None and launched.poll() is None) or self.held()

    def _signalled(self, launched: subprocess.Popen[bytes] | None, number: int) -> bool:
        """Send a signal to what lives; whether nothing lived. Who holds the lock is ours, by the lock."""
        if not self._alive(launched):
            return True
        if launched is not None and launched.poll() is None:
            launched.send_signal(number)
        self._until(0.5, lambda: bool(self.lock_text()[0]) or not self.held())
        pid = self.lock_text()[0]
        if pid.isdigit() and self.held() and (launched is None or int(pid) != launched.pid):
            with suppress(ProcessLookupError):
                os.kill(int(pid), number)
        return False

    def start(self) -> Started:
        """Start the engine once, through the launcher, and wait until it watches, ends, or `start_s` is over.

        Raises:
            DriverError: the command cannot be run at all.
        """
        self.place.work.mkdir(parents=True, exist_ok=True)
        self.status_path.unlink(missing_ok=True)
        try:
            with self.log_path.open("wb") as log:
                process = subprocess.Popen(
                    self.command(), cwd=self.place.work, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                    env={**environment(), "PYTHONSAFEPATH": "1"},
                )  # fmt: skip
        except OSError as error:
            raise DriverError(f"the engine of {self.place.component} cannot be started: {error.strerror}") from error
        _children[self.place.work] = process
        if not self._until(self.settings.start_s, lambda: process.poll() is not None or self._watches()):
            where = self.lock_text()[1] or "its start"
            self.stop()
            return Started(None, None, f"did not watch within {self.settings.start_s:g} s, at {where}")
        found = self.status()
        if process.poll() is None and found is not None:
            return Started(str(found["digest"]), None)
        return Started(None, process.poll(), self.last_end())

    def _watches(self) -> bool:
        found = self.status()
        return found is not None and found.get("state") == "watching"

    def last_end(self) -> str:
        """Say how the engine that this process started has ended, and at what, as far as is known."""
        process = _children.get(self.place.work)
        code = process.poll() if process is not None else None
        words = [f"ended with {ending(code)}" if code is not None else "ended"]
        if scanned := self.lock_text()[1]:
            words.append(f"while scanning {scanned}")
        with suppress(OSError):
            if lines := self.log_path.read_text(errors="replace").strip().splitlines():
                words.append(f"({lines[-1][:200]})")
        return " ".join(words)
