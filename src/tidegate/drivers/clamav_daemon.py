"""One private clamd of the clamav driver: its configuration, its databases, its socket; started, reloaded, stopped.

It may have been started by an earlier agent: whoever answers on the socket in the component's directory is ours.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from tidegate.drivers.clamav_parts import database_files, limits, program, read_settings
from tidegate.drivers.port import DriverError, Place
from tidegate.drivers.programs import ending, environment

OWN = "tidegate.hsb"
STOP_S = 3.0
POLL_S = 0.02
SCAN_LIMIT = 64 << 20
"""Bytes of one file that are scanned; what is larger is no sample."""

_children: dict[Path, subprocess.Popen[bytes]] = {}
"""What this process has started, by the directory that it works in: to be reaped, and to know how it ended."""


class Daemon:
    """The clamd of one component on this device."""

    def __init__(self, place: Place) -> None:
        self.place, self.settings = place, read_settings(place)
        self.work = place.work
        self.database, self.socket, self.log = (self.work / name for name in ("database", "clamd.sock", "clamd.log"))

    def stage(self, payload: Path) -> None:
        """Put the release's databases where clamd reads them, with a signature of our own that tells this loading from
        every other: what finds the marker has loaded just these files."""
        self.work.mkdir(parents=True, exist_ok=True)
        staged = self.work / f"database-{secrets.token_hex(8)}"
        staged.mkdir()
        for path in database_files(payload):
            try:
                os.link(path, staged / path.name)
            except OSError:
                shutil.copyfile(path, staged / path.name)
        marker = f"tidegate {payload.name} {staged.name}".encode()
        (staged / OWN).write_text(f"{sha256(marker).hexdigest()}:{len(marker)}:Tidegate.Release.{payload.name}\n")
        (staged / "marker").write_bytes(marker)
        pointer = self.work / ".database.new"
        pointer.unlink(missing_ok=True)
        pointer.symlink_to(staged.name)
        pointer.replace(self.database)
        for old in self.work.glob("database-*"):
            if old != staged:
                shutil.rmtree(old, ignore_errors=True)

    def loaded(self) -> str | None:
        """Give the name of the slot whose databases clamd has loaded, as last staged; None if it has not. OSError."""
        found = self.scan((self.database / "marker").read_bytes())
        return found.removeprefix("Tidegate.Release.").removesuffix(".UNOFFICIAL") if found else None

    def scan(self, data: bytes) -> str | None:
        """Let clamd look at some bytes.

        Returns:
            The signature that it found, or None.

        Raises:
            OSError: clamd does not answer, not in time, or not with a result.
        """
        answer = self.ask("INSTREAM", data)
        if answer == "stream: OK":
            return None
        if not answer.endswith(" FOUND"):
            raise OSError(f"clamd said {answer[:200]!r}")
        return answer.removeprefix("stream: ").removesuffix(" FOUND")

    def ask(self, command: str, data: bytes | None = None) -> str:
        """Say something to clamd and give its answer. Raises OSError."""
        with self._connected() as line:
            line.sendall(f"z{command}\0".encode())
            if data is not None:
                line.sendall(len(data).to_bytes(4, "big") + data + bytes(4) if data else bytes(4))
            answer = bytearray()
            while chunk := line.recv(4096):
                answer += chunk
        return answer.decode(errors="replace").strip("\0\n ")

    def lives(self) -> bool:
        try:
            return self.ask("PING") == "PONG"
        except OSError:
            return False

    def start(self) -> str:
        """Start clamd on what is staged, and wait until it has loaded that.

        Returns:
            Why it did not, as a sentence; nothing if it did.

        Raises:
            DriverError: there is no clamd here.
        """
        command = [*limits(self.settings.memory_mb), program("clamd"), "--config-file=clamd.conf"]
        (self.work / "clamd.conf").write_text(self._configuration())
        self.log.unlink(missing_ok=True)
        with (self.work / "clamd.err").open("wb") as errors:
            process = subprocess.Popen(
                command, cwd=self.work, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                env=environment(), start_new_session=True,
            )  # fmt: skip
        _children[self.work] = process
        if self._until(self.settings.start_s, lambda: process.poll() is not None or self._has_loaded()):
            if process.poll() is None:
                return ""
            return f"clamd {self.last_end()}"
        self.stop()
        return f"clamd did not load the databases within {self.settings.start_s:g} s"

    def reload(self) -> str:
        """Let the clamd that runs load what is staged; it scans with what it has meanwhile. As `start`."""
        try:
            if (answer := self.ask("RELOAD")) != "RELOADING":
                return f"clamd said {answer[:200]!r} to a reload"
        except OSError as error:
            return f"clamd did not take a reload: {error}"
        refused = "Database reload failed"
        done = self._until(
            self.settings.start_s, lambda: self._has_loaded() or refused in self._last_words() or not self.lives()
        )
        if self._has_loaded():
            return ""
        if not self.lives():
            return f"clamd {self.last_end()} while it reloaded"
        return f"clamd did not load the databases: {self._last_words() if done else 'it took too long'}"

    def stop(self) -> None:
        """End clamd, whoever has started it; nothing if none runs. Raises DriverError: it does not end."""
        child = _children.get(self.work)
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = child.pid if child is not None and child.poll() is None else self.pid()
            if pid is None:
                break
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            if self._until(STOP_S, lambda: (child is None or child.poll() is not None) and self.pid() is None):
                break
        else:
            raise DriverError(f"clamd of {self.place.component} does not end; look at its process by hand")
        _children.pop(self.work, None)

    def pid(self) -> int | None:
        """Give the process that listens on our socket, as the system knows it."""
        try:
            with self._connected() as line:
                if not hasattr(socket, "SO_PEERCRED"):
                    return self._written_pid()
                return int.from_bytes(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
        except OSError:
            return None

    def last_end(self) -> str:
        """Say how the clamd that this process started has ended, as far as is known."""
        process = _children.get(self.work)
        code = process.poll() if process is not None else None
        said = self._last_words()
        return (f"ended with {ending(code)}" if code is not None else "ended") + (f" ({said})" if said else "")

    def _has_loaded(self) -> bool:
        try:
            return self.loaded() is not None
        except OSError:
            return False

    def _last_words(self) -> str:
        """The last error that clamd wrote; libclamav says which file cannot be loaded."""
        lines: list[str] = []
        for path in (self.work / "clamd.err", self.log):
            with suppress(OSError):
                lines += path.read_text(errors="replace").splitlines()
        wrong = [line for line in lines if "rror" in line or "WARNING" in line or "failed" in line]
        return "; ".join(line.split(" -> ")[-1].strip()[:200] for line in wrong[-2:])

    def _written_pid(self) -> int | None:
        try:
            return int((self.work / "clamd.pid").read_text())
        except (OSError, ValueError):
            return None

    def _configuration(self) -> str:
        """Everything is the driver's own; the machine's clamd.conf plays no part. A name may hold a blank."""
        settings = self.settings
        lines = {
            "Foreground": "yes", "LocalSocket": self.socket.name, "LocalSocketMode": "600",
            "PidFile": str(self.work.absolute() / "clamd.pid"), "LogFile": str(self.log.absolute()),
            "LogFileMaxSize": "1M", "DatabaseDirectory": str(self.database.absolute()), "SelfCheck": "0",
            "ConcurrentDatabaseReload": "yes", "StreamMaxLength": f"{SCAN_LIMIT}", "MaxThreads": "4",
            "MaxScanTime": f"{int(settings.scan_s * 1000)}", "ReadTimeout": f"{max(1, int(settings.scan_s))}",
        }  # fmt: skip
        return "".join(f"{name} {value}\n" for name, value in lines.items())

    def _connected(self) -> socket.socket:
        """Connect to the socket. Its path may be longer than the system takes: then by way of its directory."""
        line = socket.socket(socket.AF_UNIX)
        line.settimeout(self.settings.scan_s)
        try:
            path = os.fsencode(self.socket.absolute())
            if len(path) < 100 or not Path("/proc/self/fd").is_dir():
                line.connect(path)
                return line
            directory = os.open(self.work, os.O_RDONLY | os.O_CLOEXEC)
            try:
                line.connect(f"/proc/self/fd/{directory}/{self.socket.name}")
            finally:
                os.close(directory)
        except BaseException:
            line.close()
            raise
        return line

    def _until(self, seconds: float, done: Callable[[], bool]) -> bool:
        give_up = time.monotonic() + seconds
        while not done():
            if time.monotonic() > give_up:
                return False
            time.sleep(POLL_S)
        return True
