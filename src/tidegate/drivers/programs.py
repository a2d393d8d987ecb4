"""Runs the programs that a manifest names: filled in from the device's settings, no shell, bounded in time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from tidegate.drivers.port import DriverError, Place

_HOLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "SYSTEMROOT", "COVERAGE_PROCESS_START")
TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: `code` as subprocess gives it (negative: the signal), None if its time ran out."""

    code: int | None
    last_line: str

    @property
    def sentence(self) -> str:
        """What a person should read about it."""
        said = f": {self.last_line}" if self.last_line else ""
        if self.code is None:
            return f"did not end in time and was stopped{said}"
        return f"ended with {ending(self.code)}{said}"


def ending(code: int) -> str:
    """Say an exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def environment() -> dict[str, str]:
    """The part of this process's environment that other programs get: nothing that may be a secret."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def fill(command: Sequence[str], place: Place, what: str) -> list[str]:
    """Fill `{current}`, `{work}`, `{component}` and the device's settings into a command, each word by itself.

    Raises:
        DriverError: if the command names what the device's settings do not have.
    """
    known = {**place.settings, "current": str(place.current), "work": str(place.work), "component": place.component}

    def value(hole: re.Match[str]) -> str:
        if hole[1] not in known:
            raise DriverError(
                f"{what} needs {{{hole[1]}}}, which this device's settings for {place.component} do not have; add it"
            )
        return known[hole[1]]

    return [_HOLE.sub(value, word) for word in command]


def fill_all(place: Place) -> None:
    """Fill in every program that the manifest names, to see that the device's settings have what they need.

    Raises:
        DriverError: as `fill` does.
    """
    manifest = place.manifest
    if manifest is None:
        return
    fill(manifest.activate, place, "the activate program")
    fill(manifest.deactivate, place, "the deactivate program")
    for probe in manifest.health.probes:
        fill(probe.command, place, f"the probe {probe.name!r}")


def run_program(command: Sequence[str], place: Place, timeout_s: float) -> Ended:
    """Run a filled-in command in `place.work` and wait for it; what it leaves running is not waited for.

    Raises:
        DriverError: if it cannot be started at all.
    """
    try:
        process = subprocess.Popen(
            list(command),
            cwd=place.work,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
    except (OSError, ValueError) as error:
        raise DriverError(f"{command[0]} cannot be run: {getattr(error, 'strerror', None) or error}") from error
    assert process.stdout is not None
    tail = bytearray()
    reader = threading.Thread(target=_keep_tail, args=(process.stdout, tail), daemon=True)
    reader.start()
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        code = None
    except BaseException:
        _end(process)
        raise
    if code is None:
        _end(process)
    reader.join(0.5)
    lines = bytes(tail).decode(errors="replace").strip().splitlines()
    return Ended(code, lines[-1].strip()[:300] if lines else "")


def _keep_tail(stream: IO[bytes], tail: bytearray) -> None:
    """Read all that a program says, so that it never waits for us, and keep the end of it."""
    with suppress(OSError, ValueError), stream:
        while chunk := os.read(stream.fileno(), 65536):
            tail += chunk
            del tail[:-TAIL_BYTES]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a program and what it has started: first asked, half a second later by force."""
    _signal(process, signal.SIGTERM)
    give_up = time.monotonic() + 0.5
    while process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
