"""Real file systems of a test's own: small ones that can be filled up, and ones that can be stopped for a while."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_FREEZE, _THAW = 0xC0045877, 0xC0045878
"""FIFREEZE and FITHAW of <linux/fs.h>: while a file system is frozen, whoever writes to it waits."""


class Disk:
    """A mounted file system."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"
        self._frozen = threading.Lock()

    def fill(self) -> None:
        """Take all the room there is, to the last byte."""
        with self._filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (1 << 16, 1 << 12, 1 << 9, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(os.urandom(size))
            os.fsync(file.fileno())

    def free(self) -> None:
        """Give it back."""
        self._filler.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Stop it: every write and every fsync waits until it is thawed."""
        self._frozen.acquire()
        self._control(_FREEZE)

    def thaw(self) -> None:
        """Let it go on."""
        if self._frozen.locked():
            self._control(_THAW)
            self._frozen.release()

    def _control(self, command: int) -> None:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, command, 0)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def slow(self, stop_s: float, go_s: float) -> Iterator[None]:
        """Make it slow: it stands still for `stop_s`, goes on for `go_s`, and so on."""
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                self.freeze()
                time.sleep(stop_s)
                self.thaw()
                over.wait(go_s)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.thaw()


@contextlib.contextmanager
def disk_of(kind: str, size_mb: int) -> Iterator[Disk]:
    """A file system of a size: "tmpfs", or "ext4" in a file; skips where it cannot be mounted."""
    if os.geteuid():
        pytest.skip("only root may mount a file system")
    if shutil.which("mount") is None or (kind == "ext4" and shutil.which("mkfs.ext4") is None):
        pytest.skip(f"a file system of kind {kind} needs mount and mkfs: apt install mount e2fsprogs")
    with tempfile.TemporaryDirectory(prefix="tidegate-disk-") as held:
        Path(held).chmod(0o755)  # PostgreSQL runs as somebody else
        place = Path(held) / "disk"
        place.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(place)]
        if kind == "ext4":
            image = Path(held) / "image"
            with image.open("wb") as file:
                file.truncate(size_mb << 20)
            made = ["mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image)]
            subprocess.run(made, check=True, capture_output=True)
            words = ["mount", "-o", "loop,noatime", str(image), str(place)]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        disk = Disk(place)
        try:
            yield disk
        finally:
            disk.thaw()
            for _ in range(50):  # a process that was just ended may hold it for a moment
                if subprocess.run(["umount", str(place)], capture_output=True).returncode == 0:
                    break
                time.sleep(0.1)
            else:
                subprocess.run(["umount", "--lazy", str(place)], capture_output=True)
