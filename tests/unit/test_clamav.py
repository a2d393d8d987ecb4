"""The clamav driver against the real programs: what it refuses, what it notices, and that it scans while it reloads."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.contract.test_drivers_contract import no_clamav

from tidegate.core.model import Health, Manifest, Payload
from tidegate.drivers import clamav_daemon, limited
from tidegate.drivers.clamav import ClamavDriver
from tidegate.drivers.clamav_daemon import Daemon
from tidegate.drivers.port import DriverError, Place, ProbeResult

if _lacks := no_clamav():
    pytest.skip(_lacks, allow_module_level=True)
pytestmark = pytest.mark.room("drivers")

MANIFEST = Manifest("av", "1", 1, "clamav", Payload("0" * 64, 1, 1, 1), Health(0))
HEX = b"harmless sample".hex()
GOOD = {"own.ndb": f"Planted.Sample:0:*:{HEX}\n"}
LOGICAL = {"own.ldb": f"Planted.Sample;Target:0;(0&1);{b'harmless'.hex()};{b'sample'.hex()}\n"}
BLIND = {"own.ndb": f"Other.Thing:0:*:{b'something else'.hex()}\n"}
GREEDY = {**GOOD, "more.ndb": f"Too.Much:0:*:{b'a file of the device'.hex()}\n"}


class Device:
    """A component's directories, and releases to point at."""

    def __init__(self, root: Path) -> None:
        self.root, self.driver = root, ClamavDriver()
        for name in ("watch", "work"):
            (root / name).mkdir(parents=True)
        (root / "watch/sample").write_bytes(b"here is a harmless sample indeed")
        (root / "watch/own").write_bytes(b"a file of the device")
        settings = {"watch": str(root / "watch"), "planted": "sample", "needs": "own"}
        self.place = Place("av", root / "current", root / "work", MANIFEST, settings)

    def slot(self, name: str, files: dict[str, str]) -> Path:
        made = self.root / "slots" / name
        made.mkdir(parents=True)
        for file, text in files.items():
            (made / file).write_text(text)
        return made

    def point(self, name: str) -> None:
        self.place.current.unlink(missing_ok=True)
        self.place.current.symlink_to(self.root / "slots" / name)

    def run(self, name: str, files: dict[str, str]) -> list[ProbeResult]:
        self.slot(name, files)
        self.point(name)
        self.driver.activate(self.place)
        return self.driver.probe(self.place)

    @property
    def daemon(self) -> Daemon:
        return Daemon(self.place)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.driver.deactivate(made.place)


def wrong(results: list[ProbeResult]) -> list[str]:
    return [f"{result.name}: {result.detail}" for result in results if not result.healthy]


@pytest.mark.parametrize("files", [GOOD, LOGICAL])
def test_databases_of_our_own_are_loaded_and_find_what_they_should(device: Device, files: dict[str, str]) -> None:
    results = device.run("one", files)
    assert wrong(results) == []
    said = {result.name: result.detail for result in results}
    assert "Planted.Sample" in said["planted-sample"] and "databases of one" in said["databases"]


def test_a_database_made_by_sigtool_is_loaded(device: Device) -> None:
    made = subprocess.run(["sigtool", "--sha256", str(device.root / "watch/sample")], capture_output=True, text=True)
    assert made.returncode == 0 and wrong(device.run("one", {"own.hsb": made.stdout})) == []


def test_a_reload_keeps_the_process_and_scans_all_the_while(device: Device) -> None:
    device.run("one", GOOD)
    pid = device.daemon.pid()
    assert wrong(device.run("two", LOGICAL)) == [] and device.daemon.pid() == pid
    device.point("one")
    device.driver.activate(device.place)
    assert wrong(device.driver.probe(device.place)) == [] and device.daemon.pid() == pid


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"own.ndb": "no signature\n"}, "own.ndb"),
        ({**GOOD, "more.hdb": "zz:1:x\n"}, "more.hdb"),
        ({**GOOD, "more.yar": 'rule f { strings: $a = "x" condition: $b }\n'}, "leaves a rule out"),
        ({**GOOD, "more.yar": "rule f { condition: filesize > 0 }\n"}, "leaves a rule out"),
        ({"own.txt": "x"}, "no file has a name that ClamAV loads"),
        ({"below/own.ndb": "x"}, "no file has a name that ClamAV loads"),
        ({"tidegate.hsb": "x"}, "own name"),
        ({"own.ndb": f"Too.Much:0:*:{b'The `clamav` driver'.hex()}\n"}, "this agent's own program"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_changes(
    device: Device, files: dict[str, str], words: str
) -> None:
    slot = device.root / "slots" / "bad"
    for name, text in files.items():
        (slot / name).parent.mkdir(parents=True, exist_ok=True)
        (slot / name).write_text(text)
    with pytest.raises(DriverError, match="cannot be used") as raised:
        device.driver.check(slot, MANIFEST)
    assert words in str(raised.value)
    assert not device.daemon.lives()


def test_a_faulty_database_leaves_the_old_one_scanning_until_the_agent_goes_back(device: Device) -> None:
    """As if it had passed the check: the daemon refuses it, and the agent hears why."""
    device.run("one", GOOD)
    device.slot("two", {"own.ndb": "no signature\n"})
    device.point("two")
    with pytest.raises(DriverError, match="does not run on two"):
        device.driver.activate(device.place)
    device.point("one")
    device.driver.activate(device.place)
    assert wrong(device.driver.probe(device.place)) == []


def test_databases_that_find_nothing_or_too_much_are_unhealthy(device: Device) -> None:
    assert wrong(device.run("blind", BLIND)) == ["planted-sample: sample: nothing was found in it"]
    found = wrong(device.run("greedy", GREEDY))
    assert len(found) == 1 and "Too.Much" in found[0] and "own, which is the device's own" in found[0]


@pytest.mark.parametrize("harm", ["killed", "sample gone", "own file gone", "other databases"])
def test_a_look_at_health_notices(device: Device, harm: str) -> None:
    device.run("one", GOOD)
    if harm == "killed":
        os.kill(device.daemon.pid() or 0, signal.SIGKILL)
        device.daemon._until(5, lambda: not device.daemon.lives())
        assert any("started anew" in line for line in wrong(device.driver.probe(device.place)))
        assert wrong(device.driver.probe(device.place)) == []
    elif harm == "other databases":  # the pointer has moved, and nobody told clamd
        device.slot("two", GOOD)
        device.point("two")
        assert "scans with the databases of one" in wrong(device.driver.probe(device.place))[0]
    else:
        (device.root / "watch" / ("sample" if harm == "sample gone" else "own")).unlink()
        assert "missing" in wrong(device.driver.probe(device.place))[0]


def test_a_daemon_that_an_earlier_agent_started_is_taken_over_and_ended(device: Device) -> None:
    device.run("one", GOOD)
    pid = device.daemon.pid()
    child = clamav_daemon._children.pop(device.place.work)
    assert wrong(device.driver.probe(device.place)) == []
    device.driver.activate(device.place)
    assert device.daemon.pid() == pid
    child.send_signal(signal.SIGSTOP)  # hangs: it takes force
    device.driver.deactivate(device.place)
    assert child.wait(60) == -signal.SIGKILL and not device.daemon.lives()


def test_a_hanging_daemon_is_unhealthy_within_the_time_limit(device: Device) -> None:
    device.run("one", GOOD)
    quick = replace(device.place, settings={**device.place.settings, "scan_s": "0.3", "start_s": "1"})
    os.kill(device.daemon.pid() or 0, signal.SIGSTOP)
    began = time.monotonic()
    assert wrong(device.driver.probe(quick))
    assert time.monotonic() - began < 30


def test_memory_and_time_are_limited(device: Device) -> None:
    device.slot("one", GOOD)
    device.point("one")
    little = replace(device.place, settings={**device.place.settings, "memory_mb": "128", "start_s": "5"})
    memory = [*clamav_daemon.limits(128), "python3", "-c", "x = bytearray(1 << 28)"]
    assert subprocess.run(memory, capture_output=True, check=False).returncode != 0
    try:  # 128 MB may or may not do for this clamd: either way it ends in time, and the agent hears of it
        device.driver.activate(little)
    except DriverError as error:
        assert "does not run on one" in str(error)
    assert limited.EXIT_NO_COMMAND == 127


def test_paths_longer_than_a_socket_takes(tmp_path: Path) -> None:
    device = Device(tmp_path / ("long" * 20) / ("path" * 10))
    assert len(str(device.daemon.socket)) > 108
    try:
        assert wrong(device.run("one", GOOD)) == [] and device.daemon.pid()
    finally:
        device.driver.deactivate(device.place)


@pytest.mark.parametrize(
    ("name", "value"),
    [("memory_mb", "1"), ("start_s", "x"), ("watch", "relative"), ("watch", "/nowhere"), ("scan_s", "0")],
)
def test_settings_that_are_wrong_are_said_before_a_lease_is_asked_for(device: Device, name: str, value: str) -> None:
    with pytest.raises(DriverError, match=name):
        device.driver.ready(replace(device.place, settings={**device.place.settings, name: value}))
    device.driver.ready(device.place)
