"""What every driver must do, on real programs and processes: one suite for all that Tidegate brings.

For `self` the process that ends and is started again is played here, by a loop around the driver; with real agents
under their real launcher it is tests/e2e/test_agent_update.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn

import pytest

from tidegate.core.model import Health, Manifest, Payload, Probe
from tidegate.drivers.port import Driver, DriverError, Place, load_driver

PY = sys.executable
RULE = 'rule planted { meta: action = "report" strings: $a = "harmless sample" condition: $a }\n'
START = "import pathlib, sys; pathlib.Path(sys.argv[2]).write_text(pathlib.Path(sys.argv[1], 'a.yar').read_text())"


@dataclass
class Bench:
    """A driver, a device's directories, and two releases to point at."""

    driver: Driver
    place: Place
    slots: Path

    def point(self, slot: str | None) -> None:
        self.place.current.unlink(missing_ok=True)
        if slot is not None:
            self.place.current.symlink_to(self.slots / slot)

    def with_probes(self, *probes: Probe) -> Place:
        assert self.place.manifest is not None
        return replace(self.place, manifest=replace(self.place.manifest, health=Health(0, probes=probes)))

    def healthy(self, place: Place | None = None) -> bool:
        return all(result.healthy for result in self.driver.probe(place or self.place))


class Ended(BaseException):
    """The agent has ended, to be started again."""


class PlayedAgent:
    """An agent as a process, for the `self` driver: `begin` is what its launcher does."""

    def __init__(self) -> None:
        self.launched, self.component = True, "rules"
        self.begin("")

    def begin(self, slot: str) -> None:
        self.slot, self.instance = slot, secrets.token_hex(8)

    def age_s(self) -> float:
        return 1.0

    def refreshed(self) -> bool:
        return True

    def restart(self) -> NoReturn:
        raise Ended


class Relaunched:
    """The self driver, called as the journal calls it: again in the agent that was started after the last one."""

    def __init__(self, driver: Driver) -> None:
        self.name, self._driver = driver.name, driver
        self.check, self.ready = driver.check, driver.ready
        self.deactivate, self.probe = driver.deactivate, driver.probe

    def activate(self, place: Place) -> None:
        self._again(place, self._driver.activate)

    def sham(self, place: Place) -> None:
        self._again(place, self._driver.sham)

    def _again(self, place: Place, motion: Callable[[Place], None]) -> None:
        for _ in range(3):
            try:
                return motion(place)
            except Ended:
                assert isinstance(place.own, PlayedAgent)
                if place.launcher and subprocess.run([*place.launcher, PY, "-c", ""], check=False).returncode:
                    raise DriverError("the launcher's guard has nothing to start") from None
                place.own.begin(place.current.resolve().name if place.current.exists() else "")
        raise AssertionError("it ends again and again")


def manifest(driver: str) -> Manifest:
    activate = (PY, "-c", START, "{current}", "{work}/told") if driver == "command" else ()
    return Manifest("rules", "1", 1, driver, Payload("0" * 64, 1, 1, 1), Health(0), activate=activate)


DRIVERS = ("files", "command", "yara", "clamav", "self")


def no_clamav() -> str:
    here = shutil.which("clamscan") and shutil.which("clamd", path=f"/usr/sbin:{os.environ['PATH']}")
    return "" if here else "ClamAV is not here (on Debian: apt-get install clamav clamav-daemon)"


def fill(driver: str, slot: Path) -> None:
    (slot / "a.yar").write_text(RULE)
    if driver == "clamav":
        sample = b"harmless sample"
        (slot / "own.hsb").write_text(f"{hashlib.sha256(sample).hexdigest()}:{len(sample)}:Planted.Sample\n")
    if driver == "self":
        (slot / "tidegate-agent").write_text("#!/bin/sh\n")
        (slot / "tidegate-agent").chmod(0o755)


@pytest.fixture(params=DRIVERS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    for name in ("watch", "quarantine", "work", "slots/one", "slots/two", "slots/empty"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("one", "two"):
        fill(request.param, tmp_path / "slots" / name)
    (tmp_path / "watch/sample").write_text("harmless sample")
    (tmp_path / "watch/own").write_text("a file of the device")
    settings = {
        "watch": str(tmp_path / "watch"), "quarantine": str(tmp_path / "quarantine"), "planted": "sample",
        "needs": "own", "interval_s": "0.05",
    }  # fmt: skip
    if request.param == "clamav" and (lacks := no_clamav()):
        pytest.skip(lacks)
    own = PlayedAgent() if request.param == "self" else None
    place = Place("rules", tmp_path / "current", tmp_path / "work", manifest(request.param), settings, own=own)
    driver = load_driver(request.param)
    made = Bench(Relaunched(driver) if own else driver, place, tmp_path / "slots")
    yield made
    made.driver.deactivate(replace(place, launcher=()))


def test_all_drivers_that_tidegate_brings_are_tested_here() -> None:
    own = entry_points(group="tidegate.drivers")
    assert {entry.name for entry in own if entry.value.startswith("tidegate.")} == set(DRIVERS)


def files_below(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_it_has_its_name(bench: Bench) -> None:
    assert bench.place.manifest is not None
    assert bench.driver.name == bench.place.manifest.driver


def test_it_accepts_a_payload_and_refuses_an_empty_one(bench: Bench) -> None:
    assert bench.place.manifest is not None
    bench.driver.check(bench.slots / "one", bench.place.manifest)
    with pytest.raises(DriverError):
        bench.driver.check(bench.slots / "empty", bench.place.manifest)


def test_it_is_healthy_once_activated_and_after_a_second_time(bench: Bench) -> None:
    bench.point("one")
    bench.driver.activate(bench.place)
    assert bench.healthy()
    bench.driver.activate(bench.place)
    assert bench.healthy()


def test_it_follows_the_pointer_forth_and_back(bench: Bench) -> None:
    for slot in ("one", "two", "one"):
        bench.point(slot)
        bench.driver.activate(bench.place)
        assert bench.healthy()
        assert any(slot in result.detail for result in bench.driver.probe(bench.place))


def test_it_refuses_to_start_what_is_absent(bench: Bench) -> None:
    with pytest.raises(DriverError, match="no active release"):
        bench.driver.activate(bench.place)


def test_an_absent_component_is_healthy_and_a_broken_pointer_is_not(bench: Bench) -> None:
    assert bench.healthy()
    bench.place.current.symlink_to(bench.slots / "gone")
    assert not bench.healthy()


def last_start(bench: Bench) -> object:
    """What differs from one start of the component to the next."""
    work, own = bench.place.work, bench.place.own
    return {
        "files": lambda: None,  # moving the pointer is all that there is
        "command": lambda: (work / "told").stat().st_mtime_ns,
        "yara": lambda: json.loads((work / "engine.json").read_text())["pid"],
        "clamav": lambda: os.readlink(work / "database"),
        "self": lambda: own.instance if own else None,
    }[bench.driver.name]()


def test_the_sham_restarts_as_an_activation_does(bench: Bench) -> None:
    bench.point("one")
    seen: list[object] = []
    for motion in (bench.driver.activate, bench.driver.sham, bench.driver.sham):
        motion(bench.place)
        seen.append(last_start(bench))
    assert len(set(seen)) == (1 if bench.driver.name == "files" else 3)
    assert bench.healthy()


@pytest.mark.parametrize("slot", ["one", None])
def test_the_sham_changes_nothing(bench: Bench, slot: str | None) -> None:
    bench.point(slot)
    if slot is not None:
        bench.driver.activate(bench.place)
    root = bench.slots.parent
    before = {name: files_below(root / name) for name in ("watch", "slots", "quarantine")}
    bench.driver.sham(bench.place)
    assert before == {name: files_below(root / name) for name in ("watch", "slots", "quarantine")}
    assert bench.place.current.exists() == (slot is not None)
    assert bench.healthy()


def test_it_can_be_taken_back_twice_and_started_again(bench: Bench) -> None:
    bench.driver.deactivate(bench.place)
    bench.point("one")
    bench.driver.activate(bench.place)
    bench.driver.deactivate(bench.place)
    bench.driver.deactivate(bench.place)
    bench.driver.activate(bench.place)
    assert bench.healthy()


@pytest.mark.parametrize(
    ("probe", "says"),
    [
        (Probe("desk", (PY, "-c", "import sys; sys.exit('no passenger')")), "no passenger"),
        (Probe("desk", ("{watch}/no-such-program",)), "cannot be run"),
        (Probe("desk", ("{elsewhere}",)), "elsewhere"),
        (Probe("desk", (PY, "-c", "import time; time.sleep(30)"), timeout_s=1), "did not end in time"),
    ],
)
def test_a_manifests_probe_that_fails_is_unhealthy_and_no_error(bench: Bench, probe: Probe, says: str) -> None:
    bench.point("one")
    bench.driver.activate(bench.place)
    desk = next(result for result in bench.driver.probe(bench.with_probes(probe)) if result.name == "desk")
    assert not desk.healthy
    assert says in desk.detail


def test_a_manifests_probe_gets_the_devices_settings(bench: Bench) -> None:
    bench.point("one")
    bench.driver.activate(bench.place)
    look = "import sys, pathlib; assert pathlib.Path(sys.argv[1], 'a.yar').exists() and sys.argv[2].endswith('watch')"
    assert bench.healthy(bench.with_probes(Probe("desk", (PY, "-c", look, "{current}", "{watch}"))))


def test_the_guard_goes_before_the_start(bench: Bench, tmp_path: Path) -> None:
    def guarded(code: str) -> Place:
        assert bench.place.manifest is not None
        started = replace(bench.place.manifest, activate=bench.place.manifest.activate or (PY, "-c", "pass"))
        return replace(bench.place, manifest=started, launcher=(PY, "-c", code))

    mark = tmp_path / "guard-was-here"
    marked = f"import os, sys; open({str(mark)!r}, 'w').close(); "
    bench.point("one")
    bench.driver.activate(guarded(marked + "os.execv(sys.argv[1], sys.argv[1:])"))
    assert mark.exists()
    assert bench.healthy()
    mark.unlink()
    with pytest.raises(DriverError):
        bench.driver.activate(guarded(marked + "sys.exit(3)"))
    assert mark.exists()
