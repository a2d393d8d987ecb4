"""The agent as an operating-system process: it updates, ends in time, survives kill -9, and lets nobody else in."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tidegate.agent.enrol import enrol

from .agent_device import quick_directory
from .agent_server import COMPONENT, World


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_directory() as directory:
        yield directory


@pytest.fixture
def world(place: Path) -> Iterator[World]:
    made = World(place / "world", lambda: int(time.time()))
    yield made
    made.close()


@pytest.fixture
def home(world: World, place: Path) -> Path:
    enrol(place / "home", world.address, world.token, {}, {}, (), {}, 0.2)
    return place / "home"


class Process:
    """One agent process; killed when the test ends, if it still runs."""

    def __init__(self, home: Path, *options: str) -> None:
        self.home = home
        self.log = (home / f"log-{time.monotonic_ns()}").open("wb+")
        command = [sys.executable, "-m", "tidegate.agent", "--home", str(home), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=self.log, start_new_session=True)

    def end(self, number: int) -> tuple[int, float]:
        began = time.monotonic()
        self.process.send_signal(number)
        return self.process.wait(90), time.monotonic() - began

    def said(self) -> str:
        return Path(str(self.log.name)).read_text()


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def begin(*options: str) -> Process:
        made.append(Process(home, *options))
        return made[-1]

    yield begin
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        one.log.close()


def until(holds: Callable[[], Any], what: str, within_s: float = 15.0) -> None:
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up, what
        time.sleep(0.02)


def status(home: Path) -> dict[str, Any]:
    try:
        return json.loads((home / "status.json").read_text())
    except FileNotFoundError:
        return {"state": None, "sentence": ""}


def test_a_real_agent_updates_and_ends_when_told(world: World, home: Path, start: Callable[..., Process]) -> None:
    candidate = world.release(1, {"rules": "good"}, probes=(("test", "-e", "{current}/rules"),), soak_s=1)
    world.publish(candidate)
    agent = start()
    until(lambda: world.kinds() == [("r1:1:0", "confirmed")], agent.said())
    until(lambda: status(home)["state"] == "IDLE" and "up to date" in status(home)["sentence"], "no status")
    assert status(home)["installed"] == status(home)["good"] == candidate.sha256
    second = start()
    assert second.process.wait(90) == 1 and "already runs" in second.said()
    code, _ = agent.end(signal.SIGTERM)
    assert code == 0
    assert (home / "components" / COMPONENT / "current" / "rules").read_text() == "good"
    secret = json.loads((home / "identity.json").read_text())["credential"].split(".")[-1]
    assert secret not in agent.said() and world.token not in agent.said()
    assert all(json.loads(line)["event"] for line in agent.said().splitlines())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ended_in_its_soak_it_goes_on_later(
    world: World, home: Path, start: Callable[..., Process], number: int
) -> None:
    world.publish(world.release(1, {"rules": "good"}, soak_s=4))
    agent = start()
    until(lambda: status(home)["state"] == "PROBING", agent.said())
    code, _ = agent.end(number)
    assert code == (-number if number == signal.SIGKILL else 0)
    assert world.reports == []
    assert start("--once").process.wait(90) == 0
    assert world.kinds() == [("r1:1:0", "confirmed")]


def test_a_probe_that_hangs_does_not_keep_the_agent(world: World, home: Path, start: Callable[..., Process]) -> None:
    world.publish(world.release(1, {"rules": "good"}, probes=(("sleep", "99"),), soak_s=600))
    agent = start()
    until(lambda: status(home)["state"] == "PROBING", agent.said())
    time.sleep(0.2)
    code, took_s = agent.end(signal.SIGTERM)
    assert code == 0 and took_s < 60


def test_stop_component_runs_its_deactivation(world: World, home: Path, start: Callable[..., Process]) -> None:
    world.publish(world.release(1, {"rules": "good"}, soak_s=1))
    agent = start("--stop-component")
    until(lambda: status(home)["good"] if status(home)["state"] == "IDLE" else None, agent.said())
    code, _ = agent.end(signal.SIGTERM)
    assert code == 0 and '"stopped"' in agent.said()


@pytest.mark.parametrize("broken", ["identity.json", "root.json", "agent.json"])
def test_a_home_that_is_not_whole_is_said_in_one_line(home: Path, start: Callable[..., Process], broken: str) -> None:
    (home / broken).write_text("{")
    agent = start()
    assert agent.process.wait(90) in (1, 2)
    assert agent.said().count("\n") == 1 and "Traceback" not in agent.said()


def test_no_home_at_all(place: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tidegate.agent", "--home", str(place / "none")], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2 and "enrol" in ended.stderr and ended.stderr.count("\n") == 1
