"""What a peer must do to be measured: stand with so many devices, be polled and reported to, and be weighed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

CORE = 0
"""The core on which each server runs, with its database; the client has the others."""
START_S = 600.0


class Skip(Exception):
    """This peer cannot be measured here; the message says why."""


class Peer(Protocol):
    """A server with a fleet in it. Made with a directory for its data and one where what was built is kept."""

    name: str
    port: int
    once: bool
    """Each device is polled for but once: who polls again soon would cost less than devices do."""

    def stand(self, devices: int) -> None:
        """Run, with so many devices in it; called with ever more of them. Raises Skip."""
        ...

    def end(self) -> None:
        """Stop, however far it came."""
        ...

    def poll(self, device: int) -> Sequence[bytes]:
        """Give the requests with which a device finds out that there is nothing new."""
        ...

    def reports(self, first: int, count: int) -> list[bytes]:
        """Give one report of each of these devices: its update is done. May prepare what that needs."""
        ...

    def kept(self) -> int:
        """Give how many reports it has taken up, by its own store: some answer what they drop just the same."""
        ...

    def cpu_s(self) -> float:
        """Give the processor time of server and database so far."""
        ...


def pinned() -> None:
    """Bind this process to the server's core; for a new process, before its program begins."""
    os.sched_setaffinity(0, {CORE})


def start(command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a server on its core, with what it says in a file."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [str(word) for word in command],
            stdout=file,
            stderr=file,
            env={**os.environ, **(env or {})},
            cwd=log.parent,
            preexec_fn=pinned,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes] | None) -> None:
    """End a server that was started here."""
    if process is not None and process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def tree_cpu_s(pids: Sequence[int]) -> float:
    """Give the processor time of these processes and all that they started, ended ones included once waited for."""
    parents: dict[int, list[int]] = {}
    times: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(entry.name))
        times[int(entry.name)] = sum(int(fields[place]) for place in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")
    found, left = 0.0, list(pids)
    while left:
        pid = left.pop()
        found += times.get(pid, 0.0)
        left += parents.get(pid, [])
    return found


def memory_mb(pids: Sequence[int]) -> float:
    """Give the resident memory of these processes, without what they started."""
    found = 0.0
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        found += int(status.partition("VmRSS:")[2].split()[0]) / 1024
    return found


def wait_for(what: str, ready: object, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `ready()` says so. Raises Skip if the server ends before, or takes too long."""
    assert callable(ready)
    deadline = time.monotonic() + START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Skip(f"{what} did not start: {log.read_text(errors='replace')[-400:]}")
        time.sleep(0.2)


def answers(port: int, path: str, statuses: Sequence[int] = (200,)) -> bool:
    """Say whether a server answers a GET with one of these statuses."""
    import http.client

    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().status in statuses
    except OSError:
        return False


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """Write one HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(body)}"] if body or method != "GET" else []
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
