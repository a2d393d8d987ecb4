"""Inside the sandbox: leads a driver through a device's steps with a release, and says what came of each.

It reads one JSON object: {driver, component, settings, manifests: {digest: manifest}, steps: [[step, argument], ...]};
contents lie at /slots/DIGEST. Steps: check DIGEST, point DIGEST (or "" for absent), ready, activate, probe SECONDS,
sham, outside, deactivate, quiet, left, unwell, look, same. It prints one JSON object a step and ends with
the first that fails.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tidegate.core.errors import TidegateError
from tidegate.core.model import Manifest
from tidegate.core.wire import read
from tidegate.drivers.port import Driver, Place, load_driver
from tidegate.drivers.probes import run_probes

HOME = Path("/tmp/component")
SLOTS = Path("/slots")
OWN = Path("/tmp/watch")
KEPT = Path("/kept")
PROBE_S = 0.3
GONE_WITHIN_S = 3.0
LEAST_FREE = 0.02
MAY_STAY = ("/var/log/", "/var/cache/", "/var/tmp/", "/run/")
MOST_NAMED = 20
MOST_READ = 1 << 20
CHANGES = ("activate", "sham", "deactivate")
"""Steps in which the component's own programs run."""


class Stepper:
    """One device's component, led by hand."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.manifests = {name: read(Manifest, value, "manifest") for name, value in asked["manifests"].items()}
        self.driver: Driver = load_driver(asked["driver"])
        self.component: str = asked["component"]
        self.settings: dict[str, str] = asked["settings"]
        self.current, self.work = HOME / "current", HOME / "work"
        self.manifest: Manifest | None = None
        self.writable: list[str] = [place for place in asked["outside"] if place.count("/") == 1]
        self.seen: dict[str, bytes] = {}
        self.own = {path: path.stat().st_size for path in OWN.rglob("*") if path.is_file()}
        self.before: set[str] = set()
        self.before = set(self.written())
        self.lost: dict[Path, int] = {}
        self.privileged: dict[str, str] = {}
        self.privileged = self.lends()

    def place(self) -> Place:
        return Place(self.component, self.current, self.work, self.manifest, self.settings)

    def check(self, digest: str) -> str:
        self.driver.check(SLOTS / digest, self.manifests[digest])
        return ""

    def point(self, digest: str) -> str:
        """Move the pointer, as the agent does: a new link beside it, then a rename."""
        self.current.unlink(missing_ok=True) if not digest else None
        self.manifest = self.manifests.get(digest)
        if digest:
            fresh = self.current.with_name("current.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(SLOTS / digest)
            fresh.replace(self.current)
        return ""

    def ready(self, _: str) -> str:
        self.driver.ready(self.place())
        return ""

    def kept(self, _: str) -> str:
        """Let the driver's engine take rules as they were compiled before: that compiling works has been seen."""
        if KEPT.is_dir():
            self.settings = {**self.settings, "compiled": str(KEPT)}
        return ""

    def activate(self, _: str) -> str:
        self.driver.activate(self.place())
        room = os.statvfs("/tmp")
        if room.f_bavail < LEAST_FREE * room.f_blocks:
            raise Unhealthy(f"it filled the {room.f_blocks * room.f_frsize >> 20} MB that it may write")
        return ""

    def sham(self, _: str) -> str:
        self.driver.sham(self.place())
        return ""

    def deactivate(self, _: str) -> str:
        self.driver.deactivate(self.place())
        return ""

    def probe(self, seconds: str) -> str:
        """Probe through a soak: each look must be healthy; the first may wait for the component to come up."""
        give_up = time.monotonic() + float(seconds)
        said = ""
        while True:
            results = self.driver.probe(self.place())
            bad = [f"{each.name}: {each.detail}" for each in results if not each.healthy]
            if bad:
                raise Unhealthy("; ".join(bad))
            said = "; ".join(f"{each.name} {each.detail}".strip() for each in results)
            if time.monotonic() > give_up:
                return said
            time.sleep(PROBE_S)

    def quiet(self, _: str) -> str:
        """See that nothing is left running."""
        give_up = time.monotonic() + GONE_WITHIN_S
        while left := others():
            if time.monotonic() > give_up:
                raise Unhealthy(f"still running after deactivation: {', '.join(left)}")
            time.sleep(0.05)
        return ""

    def outside(self, _: str) -> str:
        """Say what has been written outside the component's own directory."""
        return _named(self.written())

    def left(self, _: str) -> str:
        """See that nothing of that is there any more (logs may stay), and all of the device's own that was there."""
        if self.lost:
            at = min(self.lost.values())
            paths = [str(path) for path, number in self.lost.items() if number == at]
            raise Unhealthy(f"files of the device's own are gone or changed: {_named(paths)}", at)
        if found := [path for path in self.written() if not path.startswith(MAY_STAY)]:
            raise Unhealthy(f"still there after deactivation: {_named(found)}")
        return ""

    def missed(self, number: int) -> None:
        """Remember which step it was that the device's own files went at, or have changed; some come back."""
        lost = {path for path, size in self.own.items() if not path.is_file() or path.stat().st_size != size}
        self.lost = {path: self.lost.get(path, number) for path in sorted(lost)}

    def lends(self) -> dict[str, str]:
        """Give the files, besides those that were there before, that lend whoever starts them the rights of their owner
        or group."""
        found: dict[str, str] = {}
        for place in ("/tmp", "/dev/shm", *self.writable):
            for above, _, names in os.walk(place):
                for path in (f"{above}/{name}" for name in names):
                    with suppress(OSError):
                        mode = os.lstat(path).st_mode
                        if stat.S_ISREG(mode) and (bits := mode & (stat.S_ISUID | stat.S_ISGID)):
                            found[path] = "set-uid" if bits & stat.S_ISUID else "set-gid"
        return {path: bit for path, bit in sorted(found.items()) if self.privileged.get(path) != bit}

    def unwell(self, _: str) -> str:
        """See that health is not good when nothing runs: probes that are content then would notice no outage."""
        found = [each for each in run_probes(self.manifest, self.place()) if not each.healthy]
        if self.manifest is not None and self.manifest.health.probes and not found:
            names = ", ".join(probe.name for probe in self.manifest.health.probes)
            raise Unhealthy(
                f"{names}: healthy although it has been deactivated; no probe would notice that it is"
                " down: make one that does (release create --probe), or tell the gate that none can"
                " ([staging] health_must_notice = false)"
            )
        return ""

    def look(self, _: str) -> str:
        """Remember what there is."""
        self.seen = self.holds()
        return f"{len(self.seen)} files"

    def same(self, _: str) -> str:
        """See that there are not more files than at the last look, and none that has become longer. Logs may."""
        now = self.holds()
        if len(now) > len(self.seen) and (fresh := sorted(set(now) - set(self.seen))):
            raise Unhealthy(f"it leaves more files behind than once: {_named(fresh)}")
        longer = [path for path, old in self.seen.items() if old and now.get(path, b"")[: len(old)] == old != now[path]]
        if longer:
            raise Unhealthy(f"it writes into its files once more than once: {_named(sorted(longer))}")
        return ""

    def holds(self) -> dict[str, bytes]:
        """Give each file that the component has written, with how it begins."""
        places = [path for path in self.written() if not path.startswith(MAY_STAY)]
        for above, _, names in os.walk(self.work):
            places += [f"{above}/{name}" for name in names]
        found: dict[str, bytes] = {}
        for path in places:
            with suppress(OSError):
                if stat.S_ISREG(os.lstat(path).st_mode) and "log" not in Path(path).name:
                    with open(path, "rb") as file:
                        found[path] = file.read(MOST_READ)
        return found

    def written(self) -> list[str]:
        found: list[str] = []
        for place in self.writable:
            device = os.stat(place).st_dev
            for above, directories, names in os.walk(place):
                # What else is mounted there is the gate's own.
                directories[:] = [name for name in directories if os.lstat(f"{above}/{name}").st_dev == device]
                found += [f"{above}/{name}" for name in names if os.lstat(f"{above}/{name}").st_dev == device]
        return sorted({path for path in found if path not in self.before})


def _named(paths: list[str]) -> str:
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    return ", ".join(paths[:MOST_NAMED]) + more


class Unhealthy(Exception):
    """A look at the component that was not good; `at`: the step that did it, if it was an earlier one."""

    def __init__(self, said: str, at: int = -1) -> None:
        super().__init__(said)
        self.at = at


def others() -> list[str]:
    found: list[str] = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (1, os.getpid()):
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if words:
                found.append(words[:120])
    return found


def held_mb() -> float:
    """Give the most memory that programs of the component have held so far: the largest that has ended, or all that
    live together."""
    living = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in (1, os.getpid()):
            with suppress(OSError, ValueError, IndexError):
                text = Path(f"/proc/{name}/status").read_text()
                living += int(text.partition("VmHWM:")[2].split()[0])
    return max(living, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def main() -> int:
    asked = json.load(sys.stdin)
    for place in (HOME / "work", OWN, Path("/tmp/quarantine")):
        place.mkdir(parents=True, exist_ok=True)
    if Path("/device").is_dir():
        shutil.copytree("/device", OWN, dirs_exist_ok=True)
    (OWN / "readme.txt").write_text("a file of this device\n")
    stepper = Stepper(asked)
    for number, (step, argument) in enumerate(asked["steps"]):
        do: Callable[[str], str] = getattr(stepper, step)
        began = time.monotonic()
        kind, said, at = "ok", "", -1
        try:
            said = do(argument)
            if step in CHANGES and (lent := stepper.lends()):
                raise Unhealthy(
                    f"it leaves files that lend others' rights: {_named([f'{p} ({b})' for p, b in lent.items()])}"
                )
        except (TidegateError, Unhealthy) as error:
            kind, said, at = "refused", str(error), getattr(error, "at", -1)
        except Exception as error:
            kind, said = "broken", f"{type(error).__name__}: {error}"
        stepper.missed(number)
        line = {"step": number, "kind": kind, "said": said, "at": at, "took_s": round(time.monotonic() - began, 3)}
        line["mb"] = round(held_mb(), 1)
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        if kind != "ok" and not asked.get("go_on"):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
