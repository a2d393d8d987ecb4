"""A little machine: QEMU with a disk that holds an agent's home, watched through its console."""

from __future__ import annotations

import os
import selectors
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .parts import CACHE, Missing

DISK_MB = 32
KVM_DEVICE, BOOT_ID = Path("/dev/kvm"), Path("/proc/sys/kernel/random/boot_id")
KVM, TCG = ("-accel", "kvm", "-cpu", "host"), ("-accel", "tcg", "-cpu", "qemu64")
SMALL = ("-machine", "q35", "-m", "192", "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none")
KVM_TRIED_S = 5.0
QEMU, TOOLS = "qemu-system-x86_64", ("mke2fs", "debugfs", "e2fsck")
COMMAND_LINE = "console=ttyS0 quiet loglevel=1 panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check"
"""The first words keep the console for us, `panic=-1` restarts at once; the rest saves an emulated processor time."""


def need_tools() -> None:
    """Raise Missing if this system cannot run a machine at all."""
    for tool in (QEMU, *TOOLS):
        if not shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            raise Missing(f"needs {tool}")


@cache
def processor(kernel: Path) -> tuple[str, ...]:
    """KVM where it works, which is found out once a start of the machine, or what TIDEGATE_VM_ACCEL says (kvm, tcg).

    An emulated processor needs no rights, and boots in about three seconds of one core.
    """
    asked = os.environ.get("TIDEGATE_VM_ACCEL", "")
    kept = CACHE / "kvm"
    if not asked and os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        answer = f"{BOOT_ID.read_text().strip()} "
        if not kept.exists() or not kept.read_text().startswith(answer):
            kept.write_text(answer + ("kvm" if _kvm_boots(kernel) else "tcg"))
        asked = kept.read_text().split()[-1]
    return KVM if asked == "kvm" else TCG


def _kvm_boots(kernel: Path) -> bool:
    """Whether the kernel gets as far under KVM as to miss its disk; a device that is there may still not work."""
    words = ["-append", "console=ttyS0 panic=-1", "-no-reboot", "-kernel", str(kernel)]
    command = [QEMU, *KVM, *SMALL, "-serial", "stdio", *words]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as tried:
        try:
            said, _ = tried.communicate(timeout=KVM_TRIED_S)
        except subprocess.TimeoutExpired:
            return False
        finally:
            tried.kill()
    return b"Kernel panic" in said


def _tool(*command: str) -> str:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode not in (0, 1):  # 1 is e2fsck's word for "repaired"
        raise AssertionError(f"{command[0]} failed: {done.stdout}{done.stderr}")
    return done.stdout


def write_disk(home: Path, disk: Path) -> Path:
    """Make an ext4 disk with the agent's home in it; links stay links."""
    disk.unlink(missing_ok=True)
    _tool("mke2fs", "-q", "-t", "ext4", "-d", str(home), str(disk), f"{DISK_MB}M")
    return disk


def read_disk(disk: Path, target: Path) -> Path:
    """Take the home off the disk as the machine left it, its journal played back first."""
    _tool("e2fsck", "-p", str(disk))
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    _tool("debugfs", "-R", f"rdump / {target}", str(disk))
    shutil.rmtree(target / "lost+found", ignore_errors=True)
    return target


@dataclass
class Seen:
    """What a run showed: the console's own lines, each with the seconds since power-on."""

    lines: list[tuple[float, str]] = field(default_factory=lambda: [])
    ended: bool = False

    def said(self, start: str) -> list[str]:
        return [line for _, line in self.lines if line.startswith(start)]

    @property
    def boots(self) -> int:
        return len(self.said("vm: boot"))

    @property
    def up(self) -> str:
        """The slot that the machine came up with, or nothing."""
        return next((line.split()[-1] for line in self.said("vm: up with")), "")

    @property
    def up_s(self) -> float:
        return next(at for at, line in self.lines if line.startswith("vm: up with"))


@dataclass
class Parts:
    """Where kernel and initramfs are."""

    kernel: Path
    initramfs: Path


def run(
    parts: Parts, disk: Path, *, words: str = "", until: Callable[[Seen], bool] = lambda seen: False,
    within_s: float = 60.0, on_line: Callable[[str, Path], None] = lambda line, monitor: None,
) -> Seen:  # fmt: skip
    """Switch the machine on; return when it has switched itself off, or cut its power when `until` says so.

    `on_line` is called with each line, and with the socket of the machine's monitor.

    Raises:
        AssertionError: neither happened within the time; it shows the console.
    """
    seen, began = Seen(), time.monotonic()
    monitor = disk.with_suffix(".monitor")
    with _powered(parts, disk, words, monitor) as process:
        for line in _lines(process, began + within_s):
            if line:
                seen.lines.append((time.monotonic() - began, line))
                on_line(line, monitor)
            if until(seen):
                return seen
        seen.ended = process.poll() is not None
    if not seen.ended and time.monotonic() >= began + within_s:
        console = "\n".join(f"{at:6.2f} {line}" for at, line in seen.lines[-60:])
        raise AssertionError(f"the machine was not done within {within_s:.0f} s\n{console}")
    return seen


@contextmanager
def _powered(parts: Parts, disk: Path, words: str, monitor: Path) -> Iterator[subprocess.Popen[bytes]]:
    monitor.unlink(missing_ok=True)
    command = [
        QEMU, *processor(parts.kernel), *SMALL, "-serial", "stdio", "-qmp", f"unix:{monitor},server=on,wait=off",
        "-kernel", str(parts.kernel), "-initrd", str(parts.initramfs), "-append", f"{COMMAND_LINE} {words}",
        "-drive", f"file={disk},format=raw,if=virtio",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
        monitor.unlink(missing_ok=True)


def _lines(process: subprocess.Popen[bytes], end_s: float) -> Iterator[str]:
    """Give each line of the console as it comes, and an empty one now and then, until the machine or the time ends."""
    assert process.stdout
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < end_s:
            if not selector.select(0.02):
                yield ""
                continue
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                process.wait(60)
                return
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace").strip()


def press_power_button(monitor: Path) -> None:
    """Press the machine's power button, short, as somebody impatient does."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(monitor))
        with line.makefile("rw") as talk:
            for command in ("qmp_capabilities", "system_powerdown"):
                talk.write(f'{{"execute": "{command}"}}\n')
                talk.flush()
                while '"return"' not in talk.readline():
                    pass
