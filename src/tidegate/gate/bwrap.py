"""The command of one sandboxed run: limits, bubblewrap, what it sees, and (as root) a user to whom nothing belongs."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import tidegate
from tidegate.gate.jobs import Job

_USERS = range(2_000_000_000, 2_100_000_000)
"""User ids that no system hands out; each run as root takes one, so that limits per user are limits per run."""
_SIGNALS = 1024
"""Signals that may wait, and timers: the kernel holds memory for each, which nothing else counts."""
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_PARTS = 32
"""Each writable directory of its own has this part of what a run may write."""
_ETC = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime")


def words(job: Job, rules: int, bwrap: str, also: Sequence[Path]) -> list[str]:
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
    words = ["prlimit", *(f"--{name}={value}" for name, value in bounds.items()), "--", bwrap]
    words += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    words += [
        "--die-with-parent",
        "--new-session",
        "--hostname",
        f"device-{random.randrange(10**6)}",
        "--cap-drop",
        "ALL",
    ]
    if root:
        words += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
    else:
        words += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    words += _places(job, also)
    words += ["--clearenv", *_environment(job), "--chdir", "/tmp", "--seccomp", str(rules), "--"]
    if root:
        user = str(random.choice(_USERS))
        words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        words += ["--inh-caps=-all", "--bounding-set=-all", "--"]
    # Counted per user: outside, whatever else an ordinary user runs would count too and leave no room.
    own = (f"--nproc={limits.processes}", f"--sigpending={_SIGNALS}")
    return [*words, "prlimit", *own, "--", *job.command]


def _places(job: Job, also: Sequence[Path]) -> list[str]:
    size = str(job.limits.disk_mb << 20)
    words = ["--ro-bind", "/usr", "/usr"]
    for path in _SYSTEM:
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            words += ["--ro-bind", path, path]
    words += _writable(job) if job.writable else ["--perms", "0755", "--dir", "/etc"]
    words += [word for path in _ETC for word in ("--ro-bind-try", path, path)]
    words += ["--proc", "/proc", "--dev", "/dev"]
    words += ["--perms", "1777", "--size", size, "--tmpfs", "/tmp", "--perms", "1777", "--size", "1048576"]
    words += ["--tmpfs", "/dev/shm"]
    shown = [(path, str(path)) for path in (*own_places(), *also)]
    shown += [(source.resolve(), place) for source, place in job.read]
    for source, place in shown:
        for above in reversed(Path(place).parents[:-1]):  # bubblewrap would make them for root alone
            words += ["--perms", "0755", "--dir", str(above)]
        words += ["--ro-bind", str(source), place]
    # No terminals: what waits in one is counted by nobody.
    words += ["--tmpfs", "/dev/pts", "--remount-ro", "/dev/pts"]
    # What bubblewrap made to mount things in could be filled without a bound.
    return [*words, "--remount-ro", "/dev", "--remount-ro", "/"]


def _writable(job: Job) -> list[str]:
    size = str(max(job.limits.disk_mb // _PARTS, 1) << 20)
    words: list[str] = []
    for place in job.writable:
        inside = any(place.startswith(f"{other}/") for other in job.writable)
        words += ["--perms", "1777", *(["--dir", place] if inside else ["--size", size, "--tmpfs", place])]
    return words


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
