"""The `yara` driver: the payload is rules, and a scanning process protects a directory of the device with them."""

from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tidegate.core.model import Manifest
from tidegate.drivers.command import pointer_result, resolve
from tidegate.drivers.port import DriverError, NotInstalled, Place, ProbeResult
from tidegate.drivers.probes import run_probes
from tidegate.drivers.programs import ending, environment, fill_all
from tidegate.drivers.quarantine import give_all_back
from tidegate.drivers.yara_control import BUSY, NOTHING_TO_RUN, EngineControl, read_settings

CHECK_S = 90.0
TRIES_GUARDED = 6
"""Starts until the driver gives up; the guard, which counts them durably, gives up earlier and goes back."""
TRIES_ALONE = 2
SHAM_S = 0.3
"""What a restart takes where nothing is installed that could be restarted."""
PLANTED_LIMIT = 1 << 20
SAMPLE = "planted.sample"


class YaraDriver:
    """Rules in YARA-X's language, and the engine that scans, quarantines and must stay alive."""

    name = "yara"

    def check(self, payload: Path, manifest: Manifest) -> None:
        """Compile all rules in a process of its own, within limits of CPU, memory and time.

        Raises:
            DriverError: no rules, or the file and line of the first fault; NotInstalled without YARA-X.
        """
        if importlib.util.find_spec("yara_x") is None:
            raise NotInstalled("YARA-X is not on this device; install the Python package yara-x")
        command = [sys.executable, "-P", "-m", "tidegate.drivers.yara_rules", str(payload.resolve())]
        what = f"the rules of {manifest.component} {manifest.version} cannot be used"
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=CHECK_S, env=environment(), check=False
            )
        except subprocess.TimeoutExpired:
            raise DriverError(f"{what}: they did not compile within {CHECK_S:g} s; simplify them") from None
        except OSError as error:
            raise DriverError(f"{what}: the compiler cannot be started: {error.strerror}") from error
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            said = lines[-1] if lines and done.returncode > 0 else f"the compiler {_limit(done.returncode)}"
            raise DriverError(f"{what}: {said}")

    def ready(self, place: Place) -> None:
        """Refuse settings that are missing or wrong, and a directory to watch that is not there. Raises DriverError."""
        settings = read_settings(place)
        if not settings.watch.is_dir():
            raise DriverError(f"setting watch of {place.component} names {settings.watch}, which is no directory")
        fill_all(place)

    def activate(self, place: Place) -> None:
        """Stop the engine and start it on what `current` names; at its start it puts back what other rules took.

        Raises:
            DriverError: it could not be brought to watch, or the guard went back to another release meanwhile.
        """
        control = EngineControl(place)
        asked = resolve(place).name
        control.stop()
        if control.settings.planted:
            with suppress(OSError):  # the probe says what is wrong with the sample
                place.work.mkdir(parents=True, exist_ok=True)
                _sample(control.settings.watch / control.settings.planted, place.work / SAMPLE)
        ends: list[str] = []
        for _ in range(TRIES_GUARDED if place.launcher else TRIES_ALONE):
            started = control.start()
            if started.digest is not None:
                break
            ends.append(started.detail)
            if started.code == BUSY:
                control.stop()
            if place.launcher and started.code == NOTHING_TO_RUN:
                raise DriverError(f"the guard has nothing to run for {place.component}: {'; '.join(ends)}")
        else:
            raise DriverError(f"the engine of {place.component} does not stay up on {asked[:16]}: {'; '.join(ends)}")
        if started.digest != asked:
            raise DriverError(
                f"the guard took {asked[:16]} back while it started: {'; '.join(ends)}; {started.digest[:16]} runs now"
            )

    def deactivate(self, place: Place) -> None:
        """Stop the engine and put all quarantined files back. Raises DriverError."""
        control = EngineControl(place)
        control.stop()
        try:
            give_all_back(control.settings.quarantine, control.settings.watch)
        except OSError as error:
            raise DriverError(f"not all quarantined files could be put back: {error}; try again") from error

    def probe(self, place: Place) -> list[ProbeResult]:
        """Look at the engine, its release, the planted sample, the device's own files, and the manifest's probes."""
        control = EngineControl(place)
        results = self._look_at_engine(place, control)
        missing = [name for name in control.settings.needs if not (control.settings.watch / name).is_file()]
        said = f"missing: {', '.join(missing)}" if missing else ""
        return [*results, ProbeResult("own-files", not missing, said), *run_probes(place.manifest, place)]

    def sham(self, place: Place) -> None:
        """Restart the engine on the release that it runs; where nothing is active, wait as long. Raises DriverError."""
        if place.current.exists():
            self.activate(place)
        else:
            time.sleep(SHAM_S)

    def _look_at_engine(self, place: Place, control: EngineControl) -> list[ProbeResult]:
        if not place.current.exists():
            return [pointer_result(place)]
        if not control.held():
            how = control.last_end()
            control.stop()
            again = control.start()
            after = f"runs again on {again.digest[:16]}" if again.digest else f"started anew, it {again.detail}"
            return [ProbeResult("engine", False, f"the engine {how}; {after}")]
        status, limit_s = control.status(), 10 * control.settings.interval_s + control.settings.start_s
        if status is None or status["state"] != "watching":
            return [ProbeResult("engine", False, "the engine is not watching yet")]
        quiet_s = time.monotonic() - status["beat_s"]
        if quiet_s > limit_s:
            return [ProbeResult("engine", False, f"the engine has not looked for {quiet_s:.0f} s")]
        wanted = place.current.resolve().name
        results = [
            ProbeResult("engine", True, f"{status['rules']} rules, {len(status['quarantined'])} files in quarantine"),
            ProbeResult("engine-release", status["digest"] == wanted, f"the engine runs {status['digest'][:16]}"),
        ]
        return [*results, *_planted(control, limit_s)]


def _limit(code: int) -> str:
    return f"was stopped by its limits ({ending(code)}); simplify the rules"


def _planted(control: EngineControl, limit_s: float) -> list[ProbeResult]:
    """Plant the sample anew and wait for its detection: an engine that lives and sees nothing is not healthy."""
    if not control.settings.planted:
        return []
    path, copy = control.settings.watch / control.settings.planted, control.place.work / SAMPLE
    name = Path(control.settings.planted).as_posix()
    try:
        data = _sample(path, copy)
        planted_s = time.monotonic()
        path.write_bytes(data)
    except OSError as error:
        return [ProbeResult("planted-sample", False, f"{name} cannot be planted: {error.strerror}")]

    def detected(status: dict[str, Any]) -> bool:
        return any(d["path"] == name and d["beat_s"] >= round(planted_s, 3) for d in status["detections"])

    while (waited_s := time.monotonic() - planted_s) < limit_s:
        status = control.status()
        if status is not None and detected(status):
            return [ProbeResult("planted-sample", True, f"detected after {waited_s:.2f} s")]
        time.sleep(0.02)
    return [ProbeResult("planted-sample", False, f"{name} was not detected within {limit_s:.0f} s")]


def _sample(path: Path, copy: Path) -> bytes:
    """Give the sample's content, from a copy that is kept: the engine may have the sample in quarantine just now."""
    if copy.exists() and (data := copy.read_bytes()):
        return data
    if path.stat().st_size > PLANTED_LIMIT:
        raise OSError(errno.EFBIG, "it is larger than 1 MiB")
    data = path.read_bytes()
    partial = copy.with_name(copy.name + ".new")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(copy)
    return data
