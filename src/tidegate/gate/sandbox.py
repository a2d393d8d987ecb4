"""The gate's sandbox: a release's content runs in bubblewrap, behind a seccomp filter, within limits, and sees little.

No network, a read-only system, a /proc of its own, no capabilities, another user; memory, CPU, processes, files and the
clock are bounded. As root it drops to a user that nothing else has; as an ordinary user it takes a user namespace.
Where bubblewrap is missing it refuses: nothing runs unprotected. Standard library alone.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tidegate.core.errors import BadInput, Refused
from tidegate.gate import bwrap, seccomp
from tidegate.gate.jobs import Job, Limits, Ran
from tidegate.gate.watch import attend


class NoSandbox(BadInput):
    """There is no sandbox on this machine; nothing has been run, and so nothing is said about the release."""


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
                bwrap.words(job, rules, self._bwrap, self._also),
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
            return attend(process, job, began, heard)
        finally:
            self._live.discard(process)


def _memory_file(data: bytes) -> int:
    descriptor = os.memfd_create("tidegate-gate")
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
