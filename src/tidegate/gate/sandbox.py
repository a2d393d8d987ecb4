"""The gate's sandbox: a release's content runs in bubblewrap, behind a seccomp filter, within limits, and sees little.

No network, a read-only system, a /proc of its own, no capabilities, another user; memory, CPU, processes, files and the
clock are bounded. As root it drops to a user that nothing else has; as an ordinary user it takes a user namespace.
Where bubblewrap is missing it refuses: nothing runs unprotected. Standard library alone.
"""

from __future__ import annotations

import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import tidegate
from tidegate.core.errors import Refused
from tidegate.gate import seccomp
from tidegate.gate.watch import family, resident_mb

POLL_S = 0.05
_USERS = range(2_000_000_000, 2_100_000_000)
"""User ids that no system hands out; each run as root takes one, so that limits per user are limits per run."""
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")


class NoSandbox(Refused):
    """There is no sandbox on this machine; nothing has been run."""


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


@dataclass(frozen=True, slots=True)
class Job:
    """One run: a command, what it may read besides the system (source -> place inside), its input and its limits.

    `local_sockets`: its processes may talk to each other by AF_UNIX sockets, as a daemon of its own needs; to nothing
    outside, for the sandbox has a network namespace and files of its own.
    """

    command: tuple[str, ...]
    read: tuple[tuple[Path, str], ...] = ()
    stdin: bytes = b""
    env: dict[str, str] = field(default_factory=lambda: {})
    limits: Limits = Limits()
    local_sockets: bool = False


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


class Sandbox:
    """Runs jobs. `also` are further places of this machine that every job may read, as an interpreter's own."""

    def __init__(self, also: Sequence[Path] = (), *, bwrap: str = "bwrap") -> None:
        """Take places that every job may read. Nothing is looked at yet."""
        self._also = tuple(also)
        self._bwrap = bwrap
        self._works = False
        self._live: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def stop(self) -> None:
        """End all that runs, and run nothing more: whoever waits for it must not wait for a release's content."""
        self._stopped = True
        for process in list(self._live):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def check(self) -> None:
        """See that jobs can run here at all, by running one.

        Raises:
            NoSandbox: saying what is missing and how to get it.
        """
        if self._works:
            return
        if not sys.platform.startswith("linux"):
            raise NoSandbox("the gate's sandbox needs Linux; run the gate there. Nothing was run unprotected")
        for name in (self._bwrap, "prlimit", "setpriv"):
            if shutil.which(name) is None:
                package = "bubblewrap" if name == self._bwrap else "util-linux"
                raise NoSandbox(
                    f"the gate runs releases in a sandbox and needs {name}: install {package} (on Debian: apt-get"
                    f" install {package}). Nothing was run unprotected"
                )
        tried = self.run(Job(("true",), limits=Limits(wall_s=20)), checked=True)
        if not tried.ok:
            raise NoSandbox(
                f"bubblewrap cannot make a sandbox here: {tried.last_line or tried.sentence}. Allow user namespaces to"
                " this user, or run the gate as root. Nothing was run unprotected"
            )
        self._works = True

    def run(self, job: Job, heard: Callable[[bytes], None] | None = None, *, checked: bool = False) -> Ran:
        """Run a job to its end; `heard` is given each piece of its output as it comes.

        Raises:
            NoSandbox: as `check` does.
        """
        if not checked:
            self.check()
        if self._stopped:
            raise Refused("the gate was stopped")
        began = time.monotonic()
        rules = _memory_file(seccomp.bpf(seccomp.machine(), local_sockets=job.local_sockets))
        stdin = _memory_file(job.stdin)
        try:
            process = subprocess.Popen(
                self.words(job, rules),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(rules,),
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
                cwd="/",
                process_group=0,
            )
        finally:
            os.close(rules)
            os.close(stdin)
        self._live.add(process)
        try:
            return _attend(process, job, began, heard)
        finally:
            self._live.discard(process)

    def words(self, job: Job, rules: int) -> list[str]:
        """Give the whole command: limits, then the sandbox, then (as root) another user, then the job's own words."""
        limits = job.limits
        bounds: dict[str, object] = {
            "as": limits.memory_mb << 20,
            "cpu": f"{limits.cpu_s}:{limits.cpu_s + 2}",
            "fsize": limits.file_mb << 20,
            "core": 0,
        }
        bounds |= {"nofile": limits.open_files, "stack": 8 << 20, "memlock": 65536}
        root = os.geteuid() == 0
        words = ["prlimit", *(f"--{name}={value}" for name, value in bounds.items()), "--", self._bwrap]
        words += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        words += ["--die-with-parent", "--new-session", "--hostname", "gate", "--cap-drop", "ALL"]
        if root:
            words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
        else:
            words += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
        words += self._places(job)
        words += ["--clearenv", *_environment(job), "--chdir", "/tmp", "--seccomp", str(rules), "--"]
        if root:
            user = str(random.choice(_USERS))
            words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
            words += ["--inh-caps=-all", "--bounding-set=-all", "--"]
        # Counted per user: outside, whatever else an ordinary user runs would count too and leave no room.
        return [*words, "prlimit", f"--nproc={limits.processes}", "--", *job.command]

    def _places(self, job: Job) -> list[str]:
        size = str(job.limits.disk_mb << 20)
        words = ["--ro-bind", "/usr", "/usr"]
        for path in _SYSTEM:
            if os.path.islink(path):
                words += ["--symlink", os.readlink(path), path]
            elif os.path.isdir(path):
                words += ["--ro-bind", path, path]
        words += ["--perms", "0755", "--dir", "/etc"]
        words += [word for path in _ETC for word in ("--ro-bind-try", path, path)]
        words += ["--proc", "/proc", "--dev", "/dev"]
        words += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp", "--perms", "1777", "--size", "1048576"]
        words += ["--tmpfs", "/dev/shm"]
        shown = [(path, str(path)) for path in (*own_places(), *self._also)]
        shown += [(source.resolve(), place) for source, place in job.read]
        for source, place in shown:
            for above in reversed(Path(place).parents[:-1]):  # bubblewrap would make them for root alone
                words += ["--perms", "0755", "--dir", str(above)]
            words += ["--ro-bind", str(source), place]
        # What bubblewrap made to mount things in could be filled without a bound.
        return [*words, "--remount-ro", "/dev", "--remount-ro", "/"]


def own_places() -> list[Path]:
    """Give the places of Python and Tidegate that lie outside /usr."""
    package = Path(tidegate.__file__).resolve().parent
    wanted = [Path(sys.base_prefix).resolve(), Path(sys.prefix).absolute(), package]
    found: list[Path] = []
    for path in wanted:
        if not any(path.is_relative_to(known) for known in (Path("/usr"), *found)):
            found.append(path)
    return found


def _environment(job: Job) -> list[str]:
    env = {
        "PATH": f"{Path(sys.prefix) / 'bin'}:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "RUST_BACKTRACE": "0",
        **job.env,
    }
    return [word for name, value in env.items() for word in ("--setenv", name, value)]


def _memory_file(data: bytes) -> int:
    descriptor = os.memfd_create("tidegate-gate")
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _attend(process: subprocess.Popen[bytes], job: Job, began: float, heard: Callable[[bytes], None] | None) -> Ran:
    """Read what a run says, watch its memory and the clock, and end it when it goes too far."""
    limits, stopped, peak_mb, looked = job.limits, "", 0.0, 0.0
    assert process.stdout is not None and process.stderr is not None
    said: dict[IO[bytes], bytearray] = {process.stdout: bytearray(), process.stderr: bytearray()}
    try:
        with selectors.DefaultSelector() as selector:
            for stream in said:
                selector.register(stream, selectors.EVENT_READ, said[stream])
            while selector.get_map():
                for key, _ in selector.select(POLL_S):
                    piece = os.read(key.fd, 1 << 16)
                    key.data.extend(piece)
                    if not piece:
                        selector.unregister(key.fileobj)
                    elif heard is not None and key.fileobj is process.stdout:
                        heard(piece)
                now = time.monotonic()
                if now - looked >= POLL_S:
                    looked, used = now, resident_mb(family(process.pid))
                    peak_mb = max(peak_mb, used)
                stopped = stopped or _excess(limits, now - began, peak_mb, said.values())
                if stopped:
                    break
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
