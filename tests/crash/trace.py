"""The real agent under strace: which calls change a home, and a run in which one of them kills it or fails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tidegate.agent.__main__ import main as agent_main

STATE_CALLS = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2", "link", "linkat", "symlink",
    "symlinkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "ftruncate", "truncate", "chmod", "fchmod",
    "fchmodat", "utimensat",
)  # fmt: skip
"""Every call by which a process changes a file system; `openat` counts where it writes or creates."""
MESSAGES = ("sendto", "sendmsg")
HOOK = Path(__file__).parent / "hook"
_LINE = re.compile(r"(?:(?P<pid>\d+) +)?(?P<call>[a-z0-9_]+)\((?P<rest>.*)")
_WRITES = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC)")


def missing() -> str:
    """Say what this machine lacks for these tests, or nothing."""
    if sys.platform != "linux" or not shutil.which("strace"):
        return "strace is not here (on Debian: apt-get install strace)"
    tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "strace may not trace here"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the agent, as strace wrote it. `nth`: its number among all calls of this name in its process."""

    name: str
    nth: int
    text: str
    main: bool

    def changes(self, home: Path) -> bool:
        """Whether it changes something in the home."""
        if str(home) not in self.text:
            return False
        return self.name in STATE_CALLS and (self.name != "openat" or bool(_WRITES.search(self.text)))


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a call: `KILL`, or the name of an error; `ever`: at each such call from then on."""

    name: str
    nth: int
    what: str = "KILL"
    ever: bool = False

    @property
    def injected(self) -> str:
        what = "signal=KILL" if self.what == "KILL" else f"error={self.what}"
        return f"inject={self.name}:{what}:when={self.nth}{'+' if self.ever else ''}"

    def __str__(self) -> str:
        return f"{self.what}{' from' if self.ever else ' at'} {self.name} {self.nth}"


@dataclass(frozen=True, slots=True)
class Ran:
    """How a run ended: its exit code (negative: the signal; None: stopped after the time limit), what it said."""

    code: int | None
    said: str
    calls: tuple[Call, ...]


def run(
    command: list[str], aside: Path, fault: Fault | None = None, *, drop: str = "", record: bool = False,
    within_s: float = 20.0,
) -> Ran:  # fmt: skip
    """Run a command under strace, with a fault or with a record of its calls, or both.

    Args:
        command: what runs.
        aside: a directory for the log, outside the home.
        fault: what happens to it.
        drop: the fsync that is left out: see hook/sitecustomize.py.
        record: keep all calls.
        within_s: after that it is killed.
    """
    options = [*_options(aside, fault, record=record), "--"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"PYTHONPATH": str(HOOK), "TIDEGATE_TEST_DROP_FSYNC": drop} if drop else {}
    with (aside / "stderr.log").open("wb") as errors:
        process = subprocess.Popen(
            ["strace", *options, *command],
            stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(within_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
    return _ran(code, aside, record=record)


def run_agent(
    home: Path, aside: Path, fault: Fault | None = None, *, record: bool = False, within_s: float = 20.0
) -> Ran:
    """Run the agent once in a process of its own, as `python -m tidegate.agent --once` does, but without the half
    second in which an interpreter under strace reads its modules: forked from this one, traced from its first line.
    """
    ready, go = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the server's threads are of no use to the child, which calls none of them
        child = os.fork()
    if child == 0:
        _be_agent(home, aside, ready, go)
    os.close(ready)
    tracer = subprocess.Popen(
        ["strace", *_options(aside, fault, record=record), "-p", str(child)], stderr=subprocess.DEVNULL
    )
    try:
        give_up = time.monotonic() + 60
        while "TracerPid:\t0" in Path(f"/proc/{child}/status").read_text():
            assert time.monotonic() < give_up and tracer.poll() is None, "strace does not attach"
            time.sleep(0.002)
    finally:
        os.write(go, b"x")
        os.close(go)
    give_up = time.monotonic() + within_s
    stopped = False
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > give_up and not stopped:
            os.killpg(child, signal.SIGKILL)
            stopped = True
        time.sleep(0.002)
    tracer.wait(60)
    return _ran(None if stopped else os.waitstatus_to_exitcode(ended[1]), aside, record=record)


def _be_agent(home: Path, aside: Path, ready: int, go: int) -> NoReturn:
    code = 99
    try:
        os.setsid()
        os.close(go)
        errors = os.open(aside / "stderr.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 2)
        sys.stderr = os.fdopen(2, "w", buffering=1)
        os.read(ready, 1)
        code = agent_main(["--home", str(home), "--once"])
    finally:
        os._exit(code)


def _options(aside: Path, fault: Fault | None, *, record: bool) -> list[str]:
    wanted = ",".join(("?" + name) for name in (*STATE_CALLS, *MESSAGES)) if record else fault.name if fault else "none"
    options = ["-f", "-qq", "-o", str(aside / "strace.log") if record else os.devnull, "-e", f"trace={wanted}"]
    return options + (["-y", "-s", "0"] if record else []) + (["-e", fault.injected] if fault else [])


def _ran(code: int | None, aside: Path, *, record: bool) -> Ran:
    calls = tuple(parse((aside / "strace.log").read_text(errors="replace"))) if record else ()
    return Ran(code, (aside / "stderr.log").read_text(errors="replace"), calls)


def parse(text: str) -> list[Call]:
    """Read strace's log (-f -y)."""
    counts: Counter[tuple[str, str]] = Counter()
    calls: list[Call] = []
    main = ""
    for line in text.splitlines():
        match = _LINE.match(line)
        if not match:  # an exit, a signal, or the second half of a call
            continue
        pid, name = match["pid"] or "", match["call"]
        main = main or pid
        counts[pid, name] += 1
        calls.append(Call(name, counts[pid, name], match["rest"], pid == main))
    return calls


def agent(home: Path) -> list[str]:
    """The real agent's command: one poll, seen through to its end."""
    return [sys.executable, "-m", "tidegate.agent", "--home", str(home), "--once"]
