"""The yara driver with real engines, the real guard and the demo's devices: harmed, taken back, healed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import tidegate.agent.guard
from tidegate.cli.demo_content.releases import demo_manifest_parts, faulty_release, good_release
from tidegate.cli.demo_content.world import build_world, variant
from tidegate.core.model import Manifest, Payload
from tidegate.drivers.port import DriverError, Place
from tidegate.drivers.yara import YaraDriver
from tidegate.drivers.yara_control import EngineControl, read_settings

GOOD, BAD = "a" * 64, "b" * 64
NUMBERS = {variant(number): number for number in range(8)}
PARTS = demo_manifest_parts()
MANIFEST = Manifest("edr-rules", "1", 1, PARTS.driver, Payload("0" * 64, 1, 1, 1), PARTS.health)


class Desk:
    """A demo's device with both releases in its slots and the good one active."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root, self.component, self.driver = root, root / "component", YaraDriver()
        settings = {**build_world(root, NUMBERS[kind]), "interval_s": "0.05"}
        good_release(self.component / "slots" / GOOD)
        faulty_release(self.component / "slots" / BAD)
        (root / "work").mkdir()
        self.place = Place("edr-rules", self.component / "current", root / "work", MANIFEST, settings)
        self.database, self.archive = root / "system/checkin.db", root / "system/archive.dat"
        self.point("current", GOOD)
        self.point("good", GOOD)

    def point(self, pointer: str, slot: str) -> None:
        (self.component / pointer).unlink(missing_ok=True)
        (self.component / pointer).symlink_to(Path("slots") / slot)

    def guarded(self) -> Place:
        """The place with the shipped guard before the engine, armed for the bad release."""
        state = {"armed": True, "digest": BAD, "slot": BAD, "starts": 0, "starts_allowed": 2}
        (self.component / "guard.json").write_text(json.dumps(state))
        guard = [sys.executable, "-S", "-E", str(tidegate.agent.guard.__file__)]
        return replace(self.place, launcher=(*guard, "--component-dir", str(self.component), "--"))

    def sick(self) -> dict[str, str]:
        return {result.name: result.detail for result in self.driver.probe(self.place) if not result.healthy}

    def pid(self) -> int:
        status = EngineControl(self.place).status()
        assert status is not None
        return int(status["pid"])


@pytest.fixture
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path, getattr(request, "param", "C"))
    yield made
    made.driver.deactivate(made.place)
    assert not EngineControl(made.place).held()


@pytest.mark.parametrize("desk", ["A"], indirect=True)
def test_a_false_positive_is_seen_and_undone(desk: Desk) -> None:
    desk.driver.activate(desk.place)
    assert desk.sick() == {}
    before = desk.database.read_bytes()
    desk.point("current", BAD)
    desk.driver.activate(desk.guarded())
    assert not desk.database.exists()
    sick = desk.sick()
    assert sick.keys() == {"own-files", "check-in desk"}
    assert "missing" in sick["check-in desk"]
    desk.point("current", GOOD)
    desk.driver.activate(desk.place)
    assert desk.database.read_bytes() == before
    assert desk.sick() == {}


@pytest.mark.parametrize("desk", ["A"], indirect=True)
def test_a_first_install_taken_back_leaves_the_device_as_it_was(desk: Desk) -> None:
    before = desk.database.read_bytes()
    desk.point("current", BAD)
    desk.driver.activate(desk.place)
    assert not desk.database.exists()
    (desk.component / "current").unlink()
    desk.driver.deactivate(desk.place)
    assert desk.database.read_bytes() == before
    assert desk.sick() == {}


@pytest.mark.parametrize("desk", ["B"], indirect=True)
def test_a_dying_engine_is_taken_back_by_the_guard(desk: Desk) -> None:
    desk.driver.activate(desk.place)
    assert desk.sick() == {}
    desk.point("current", BAD)
    with pytest.raises(DriverError, match="the guard took bbbbbbbbbbbbbbbb back") as refused:
        desk.driver.activate(desk.guarded())
    assert str(refused.value).count("signal SIGXCPU while scanning archive.dat") == 2
    assert os.readlink(desk.component / "current").endswith(GOOD)
    assert json.loads((desk.component / "note.json").read_text())["digest"] == BAD
    assert desk.sick() == {}
    assert desk.archive.exists()


@pytest.mark.parametrize("desk", ["B"], indirect=True)
def test_without_a_guard_a_dying_engine_is_an_error(desk: Desk) -> None:
    desk.point("current", BAD)
    with pytest.raises(DriverError, match="does not stay up on bbbbbbbbbbbbbbbb"):
        desk.driver.activate(desk.place)
    desk.archive.unlink()
    sick = desk.sick()
    assert "SIGXCPU while scanning archive.dat; runs again" in sick["engine"]
    assert desk.sick() == {}


def test_some_devices_are_not_harmed(desk: Desk) -> None:
    desk.point("current", BAD)
    desk.driver.activate(desk.guarded())
    assert desk.sick() == {}


def test_an_engine_that_dies_later_is_reported_once_and_started_again(desk: Desk) -> None:
    desk.driver.activate(desk.place)
    first = desk.pid()
    os.kill(first, signal.SIGKILL)
    while EngineControl(desk.place).held():
        time.sleep(0.01)
    assert "signal SIGKILL" in desk.sick()["engine"]
    assert desk.sick() == {}
    assert desk.pid() != first


def test_the_pointer_moved_without_a_restart_is_not_healthy(desk: Desk) -> None:
    desk.driver.activate(desk.place)
    desk.point("current", BAD)
    assert desk.sick().keys() == {"engine-release"}


def test_an_engine_that_hangs_is_not_healthy(desk: Desk) -> None:
    place = replace(desk.place, settings={**desk.place.settings, "interval_s": "0.02", "start_s": "0.3"})
    desk.driver.activate(desk.place)
    pid = desk.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        results = {result.name: result.healthy for result in desk.driver.probe(place)}
        assert results["planted-sample"] is False
        time.sleep(0.2)
        results = {result.name: result for result in desk.driver.probe(place)}
        assert "has not looked for" in results["engine"].detail
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_engine_that_was_started_by_an_earlier_agent_is_found_and_replaced(desk: Desk) -> None:
    code = (
        "import pathlib, sys; from tidegate.drivers.port import Place; from tidegate.drivers.yara import YaraDriver; "
        "import json; p = Place('edr-rules', pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), None, "
        "json.loads(sys.argv[3])); YaraDriver().activate(p); import os; os._exit(9)"
    )
    words = [str(desk.place.current), str(desk.place.work), json.dumps(desk.place.settings)]
    assert subprocess.run([sys.executable, "-c", code, *words], check=False).returncode == 9
    orphan = desk.pid()
    assert desk.sick() == {}
    desk.driver.sham(desk.place)
    assert desk.pid() != orphan
    left = Path(f"/proc/{orphan}/stat")
    assert not left.exists() or left.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_process_that_is_not_ours_is_left_alone(desk: Desk) -> None:
    """After a restart of the machine, the old process id may be anyone's."""
    with subprocess.Popen(["sleep", "30"]) as other:
        (desk.place.work / "engine.json").write_text(json.dumps({"pid": other.pid, "state": "watching"}))
        (desk.place.work / "engine.json.lock").write_text(f"{other.pid}\n\n")
        desk.driver.deactivate(desk.place)
        desk.driver.activate(desk.place)
        assert other.poll() is None
        other.kill()
    assert desk.sick() == {}


def test_an_engine_that_sees_nothing_is_not_healthy(desk: Desk) -> None:
    rules = desk.component / "slots" / BAD / "rules"
    (rules / "selftest.yar").unlink()
    desk.point("current", BAD)
    place = replace(desk.place, settings={**desk.place.settings, "start_s": "0.3"})
    desk.driver.activate(desk.place)
    sick = {result.name for result in desk.driver.probe(place) if not result.healthy}
    assert sick == {"planted-sample"}


def test_a_planted_sample_that_is_quarantined_each_time_is_detected_each_time(desk: Desk) -> None:
    (desk.component / "slots" / GOOD / "rules" / "selftest.yar").write_text(
        'rule s { strings: $a = "TIDEGATE PLANTED SAMPLE" condition: $a }'
    )
    desk.driver.activate(desk.place)
    assert desk.sick() == {}
    assert desk.sick() == {}
    assert len(list((desk.root / "quarantine").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("bad.yar", b"rule a {\n condition: nothing }", "bad.yar:2: unknown identifier"),
        ("bad.yara", b"// caf\xe9\n", "bad.yara:1: is not UTF-8"),
        ("bad.txt", b"rule a { condition: true }", "the payload holds no rules"),
        ("empty.yar", b"// nothing yet\n", "hold no rules"),
    ],
)
def test_rules_that_cannot_be_used_are_refused_with_their_place(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DriverError, match=says) as refused:
        YaraDriver().check(tmp_path, MANIFEST)
    assert "\n" not in str(refused.value)


def test_a_link_in_the_payload_is_no_rule(tmp_path: Path) -> None:
    (tmp_path / "a.yar").symlink_to("/etc/passwd")
    with pytest.raises(DriverError, match=r"a.yar is no plain file"):
        YaraDriver().check(tmp_path, MANIFEST)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"watch": "here"}, "watch"), ({"quarantine": ""}, "quarantine"), ({"cpu_s": "0"}, "cpu_s"),
     ({"interval_s": "soon"}, "interval_s"), ({"memory_mb": "nan"}, "memory_mb")],
)  # fmt: skip
def test_a_wrong_setting_is_named(desk: Desk, wrong: dict[str, str], says: str) -> None:
    with pytest.raises(DriverError, match=f"setting {says} of edr-rules"):
        read_settings(replace(desk.place, settings={**desk.place.settings, **wrong}))
