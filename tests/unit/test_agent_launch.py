"""The launcher as a process, with small programs in the place of agents."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidegate.agent import guard, launch

GOOD, TRIAL = "a" * 16, "b" * 16
Start = Callable[..., "subprocess.Popen[str]"]
LIVES = "echo lives >> {told}; exec sleep 60"
DIES = "echo dies >> {told}; exit 9"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a confirmed agent, and another on trial."""
    directory = tmp_path / "components" / "agent"
    for slot in (GOOD, TRIAL):
        (directory / "slots" / slot).mkdir(parents=True)
    guard.point(directory, "good", GOOD)
    guard.point(directory, "current", TRIAL)
    guard.write(directory / "guard.json", {"armed": True, "digest": TRIAL * 4, "slot": TRIAL, "starts": 0})
    return tmp_path


def program(home: Path, slot: str, what: str) -> None:
    path = home / "components/agent/slots" / slot / "tidegate-agent"
    path.write_text(f"#!/bin/sh\n{what.format(told=home / slot)}\n")
    path.chmod(0o755)


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    made: list[subprocess.Popen[str]] = []

    def begin(*options: str, installed: str = DIES) -> subprocess.Popen[str]:
        command = [sys.executable, "-I", "-S", launch.__file__, "--home", str(home), "--delay-s", "0.02", *options]
        words = ["--", "/bin/sh", "-c", installed.format(told=home / "installed")]
        made.append(subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True))
        return made[-1]

    yield begin
    for one in made:
        one.terminate()
        one.communicate(timeout=90)


def until(holds: Callable[[], object], within_s: float = 30.0) -> None:
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def told(home: Path, slot: str) -> list[str]:
    return (home / slot).read_text().split() if (home / slot).exists() else []


def state(home: Path) -> dict[str, object]:
    return json.loads((home / "components/agent/guard.json").read_text())


def test_an_agent_that_dies_is_taken_back_after_two_starts(home: Path, start: Start) -> None:
    program(home, TRIAL, DIES)
    program(home, GOOD, LIVES)
    start()
    until(lambda: told(home, GOOD))
    assert told(home, TRIAL) == ["dies"] * 2
    assert guard.slot_of(home / "components/agent", "current") == GOOD
    assert (home / "components/agent/condemned" / (TRIAL * 4)).exists()


def test_an_agent_that_is_missing_from_its_slot_is_taken_back_as_well(home: Path, start: Start) -> None:
    program(home, GOOD, LIVES)
    start()
    until(lambda: told(home, GOOD))


def test_a_confirmed_agent_that_is_missing_is_stood_in_for_by_the_installed_one(home: Path, start: Start) -> None:
    guard.point(home / "components/agent", "current", GOOD)
    start(installed=LIVES)
    until(lambda: told(home, "installed"))
    assert guard.slot_of(home / "components/agent", "current") == GOOD


def test_an_agent_that_lives_and_is_not_confirmed_in_time_is_taken_back(home: Path, start: Start) -> None:
    program(home, TRIAL, LIVES)
    program(home, GOOD, LIVES)
    start("--trial-s", "0.5")
    until(lambda: told(home, GOOD))
    assert told(home, TRIAL) == ["lives"]
    note = json.loads((home / "components/agent/note.json").read_text())
    assert "did not prove itself; the last known good runs again" in note["sentence"]


def test_a_confirmed_agent_is_left_alone_however_long_it_runs(home: Path, start: Start) -> None:
    program(home, TRIAL, LIVES)
    start("--trial-s", "1.0")
    until(lambda: told(home, TRIAL))
    guard.point(home / "components/agent", "good", TRIAL)  # it has confirmed itself
    time.sleep(1.6)
    assert told(home, TRIAL) == ["lives"] and guard.slot_of(home / "components/agent", "current") == TRIAL


def test_an_end_in_order_is_no_failed_start(home: Path, start: Start) -> None:
    program(home, TRIAL, LIVES)
    for _ in range(3):  # more often than starts are allowed
        before = len(told(home, TRIAL))
        launcher = start()
        until(lambda known=before: len(told(home, TRIAL)) > known)
        launcher.send_signal(signal.SIGTERM)
        assert launcher.wait(90) == 0
    assert state(home)["starts"] == 0 and guard.slot_of(home / "components/agent", "current") == TRIAL


def test_a_device_that_is_not_enrolled_is_told_so_once(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", launch.__file__, "--home", str(tmp_path)]
    words = ["--", sys.executable, "-m", "tidegate.agent", "--home", str(tmp_path)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and "enrol" in done.stderr and done.stderr.count("\n") == 1


def test_the_launcher_loads_the_standard_library_and_the_guard_alone() -> None:
    seen = f"""import runpy, sys
sys.argv = ['x', '--help']
try: runpy.run_path({launch.__file__!r}, run_name='__main__')
except SystemExit: pass
print(*[name for name in sys.modules if name.split('.')[0] not in sys.stdlib_module_names])"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", seen], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split()) - {"__main__"}
    assert loaded <= {"tidegate", "tidegate.agent", "tidegate.agent.guard"}
