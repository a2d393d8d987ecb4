"""The `clamav` driver: the payload is signature databases, and a clamd of the component's own scans with them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tidegate.core.model import Manifest
from tidegate.drivers.clamav_daemon import OWN, SCAN_LIMIT, Daemon
from tidegate.drivers.clamav_parts import database_files, limits, program, read_settings
from tidegate.drivers.command import NOTHING_TO_RUN, pointer_result, resolve
from tidegate.drivers.port import DriverError, Place, ProbeResult
from tidegate.drivers.probes import run_probes
from tidegate.drivers.programs import ending, environment, fill_all, run_program

CHECK_S, CHECK_MEMORY_MB = 300.0, 4096
COUNT_S = 10.0
SHAM_S = 0.3
"""What a reload takes where nothing is installed that could be reloaded."""


_LEFT_OUT = re.compile(r"yyerror\(\)|skipping YARA\.")
"""A YARA rule that ClamAV cannot use stops nothing: it goes on without it, and ends well."""


class ClamavDriver:
    """Databases in ClamAV's formats, and the daemon that must load them, answer, find what it should, and no more."""

    name = "clamav"

    def check(self, payload: Path, manifest: Manifest) -> None:
        """Load all databases in a process of its own, within limits of CPU, memory and time.

        Raises:
            DriverError: no databases, or what ClamAV said of the first that it cannot load.
        """
        what = f"the databases of {manifest.component} {manifest.version} cannot be used"
        if not payload.is_dir() or not (files := database_files(payload)):
            raise DriverError(f"{what}: no file has a name that ClamAV loads (*.hdb, *.ndb, *.ldb, *.cvd ...)")
        if any(path.name == OWN for path in files):
            raise DriverError(f"{what}: {OWN} is Tidegate's own name; rename the file")
        scan = [program("clamscan"), "--no-summary", f"--database={payload.resolve()}", __file__]
        try:
            done = subprocess.run(
                [*limits(CHECK_MEMORY_MB, int(CHECK_S)), *scan],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=CHECK_S, env=environment(), check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise DriverError(f"{what}: they did not load within {CHECK_S:g} s") from None
        if done.returncode == 1:
            raise DriverError(f"{what}: they find something in this agent's own program {Path(__file__).name}")
        if done.returncode:
            limited = f"it was stopped by its limits ({ending(done.returncode)})"
            said = _said(done.stderr.decode(errors="replace"), payload) if done.returncode > 0 else limited
            raise DriverError(f"{what}: {said}")
        left_out = [line for line in done.stderr.decode(errors="replace").splitlines() if _LEFT_OUT.search(line)]
        if left_out:
            raise DriverError(f"{what}: ClamAV leaves a rule out: {_said('Error: ' + left_out[0], payload)}")

    def ready(self, place: Place) -> None:
        """Refuse a device without ClamAV, and settings that are wrong. Raises DriverError."""
        if os.name == "nt":
            raise DriverError("the clamav driver needs a POSIX system; choose another driver for this device")
        settings = read_settings(place)
        for name in ("clamd", "clamscan"):
            program(name)
        if not settings.watch.is_dir():
            raise DriverError(f"setting watch of {place.component} names {settings.watch}, which is no directory")
        fill_all(place)

    def activate(self, place: Place) -> None:
        """Let clamd load what `current` names: by a reload where it runs, so that it scans all the while.

        The guard counts the loading as a start, before it. A clamd that does not take the reload is started anew.

        Raises:
            DriverError: it does not load them, or the guard went back to another release meanwhile.
        """
        daemon, asked = Daemon(place), resolve(place).name
        _count(place)
        now = resolve(place)
        daemon.stage(now)
        wrong = daemon.reload() if daemon.lives() else "clamd does not run"
        if wrong:
            daemon.stop()
            again = daemon.start()
            wrong = f"{wrong}; {again}" if again else ""
        if wrong:
            raise DriverError(f"{place.component} does not run on {now.name[:16]}: {wrong}")
        if now.name != asked:
            raise DriverError(f"the guard took {asked[:16]} back while it started; {now.name[:16]} runs now")

    def deactivate(self, place: Place) -> None:
        """Stop clamd. Raises DriverError."""
        Daemon(place).stop()

    def probe(self, place: Place) -> list[ProbeResult]:
        """Look whether clamd answers, with which databases, and what it makes of the planted sample and own files."""
        if not place.current.exists():
            return [pointer_result(place), *run_probes(place.manifest, place)]
        daemon = Daemon(place)
        if not daemon.lives():
            how = daemon.last_end()
            try:
                self.activate(place)
                after = "started anew"
            except DriverError as error:
                after = str(error)
            return [ProbeResult("clamd", False, f"clamd {how}; {after}")]
        results = [ProbeResult("clamd", True, "clamd answers"), _databases(place, daemon)]
        settings = daemon.settings
        if settings.planted:
            results.append(_planted(daemon, settings.watch / settings.planted))
        if settings.needs:
            results.append(_own_files(daemon, settings.watch, settings.needs))
        return [*results, *run_probes(place.manifest, place)]

    def sham(self, place: Place) -> None:
        """Reload the databases that are loaded; where nothing is active, wait as long. Raises DriverError."""
        if place.current.exists():
            self.activate(place)
        else:
            time.sleep(SHAM_S)


def _said(text: str, payload: Path) -> str:
    """Give what ClamAV says of the database that it cannot load: which one, and what is wrong with it."""
    lines = [line.removeprefix("LibClamAV Error: ").strip() for line in text.splitlines() if "rror" in line]
    which = [line for line in lines if line.startswith("Can't load")]
    chosen = list(dict.fromkeys([*which[:1], *lines[:1]])) or ["it does not say why"]
    return "; ".join(chosen).replace(f"{payload.resolve()}/", "")[:400]


def _count(place: Place) -> None:
    """Let the guard count a start that is none of a process: databases are loaded into one that runs."""
    if not place.launcher:
        return
    place.work.mkdir(parents=True, exist_ok=True)
    ended = run_program([*place.launcher, sys.executable, "-S", "-E", "-c", ""], place, COUNT_S)
    if ended.code == NOTHING_TO_RUN:
        raise DriverError(f"the guard has nothing to run for {place.component}: {ended.last_line}")
    if ended.code != 0:
        raise DriverError(f"the guard of {place.component} {ended.sentence}")


def _databases(place: Place, daemon: Daemon) -> ProbeResult:
    wanted = place.current.resolve().name
    try:
        loaded = daemon.loaded()
    except OSError as error:
        return ProbeResult("databases", False, f"clamd does not say which databases it has loaded: {error}")
    if loaded is None:
        return ProbeResult("databases", False, f"clamd has not loaded the databases of {wanted[:16]}")
    return ProbeResult("databases", loaded == wanted, f"clamd scans with the databases of {loaded[:16]}")


def _planted(daemon: Daemon, path: Path) -> ProbeResult:
    try:
        found = daemon.scan(_content(path))
    except OSError as error:
        return ProbeResult("planted-sample", False, f"{path.name} cannot be scanned: {error}")
    return ProbeResult("planted-sample", found is not None, f"{path.name}: {found or 'nothing was found in it'}")


def _own_files(daemon: Daemon, watch: Path, names: tuple[str, ...]) -> ProbeResult:
    for name in names:
        try:
            found = daemon.scan(_content(watch / name))
        except OSError as error:
            return ProbeResult("own-files", False, f"{name} cannot be scanned: {error}")
        if found:
            return ProbeResult("own-files", False, f"{found} was found in {name}, which is the device's own")
    return ProbeResult("own-files", True, f"{len(names)} files are clean")


def _content(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        with path.open("rb") as file:
            data = file.read(SCAN_LIMIT + 1)
        if len(data) > SCAN_LIMIT:
            raise OSError(f"it is larger than {SCAN_LIMIT >> 20} MiB")
        return data
    raise OSError("it is missing")
