"""Real processes, killed at the worst moments: what was acknowledged stays, and nothing is granted twice."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.stage import (
    Acknowledged,
    Proxy,
    check_acknowledged,
    check_log,
    events_of,
    roll_out,
    set_up,
    tidegate,
    wait_for,
)

from tidegate.cli.demo_stage import Stage
from tidegate.cli.office import OfficeClient
from tidegate.core.errors import Refused

pytestmark = [pytest.mark.room("control"), pytest.mark.room("log"), pytest.mark.room("agent")]

DEVICES = 8


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path / "stage") as found:
        yield found


def view(stage: Stage, name: str) -> dict[str, Any]:
    return OfficeClient(stage.home.path).get(f"/api/v1/rollouts/{name}", devices=1)


def phase(stage: Stage, name: str) -> str:
    """The rollout's phase, or nothing while the server is dead."""
    try:
        return str(view(stage, name)["phase"])
    except Refused:
        return ""


def killer(stage: Stage, proxy: Proxy, moments: dict[int, str]) -> threading.Event:
    """Kill the server at these POSTs: before its answer can get through ("lost"), or right after it ("told")."""
    killed = threading.Event()

    def strike() -> None:
        stage.kill_server()
        killed.set()

    def before(number: int, path: str, index: int) -> None:
        if moments.get(number) == "lost":
            strike()

    def after(done: Acknowledged) -> None:
        if moments.get(proxy.posts) == "told" and not killed.is_set():
            moments.pop(proxy.posts)
            strike()

    proxy.before_answer, proxy.after_answer = before, after
    return killed


@pytest.mark.parametrize(
    "moments",
    [
        {2: "lost", 7: "told", 12: "lost", 17: "told"},
        pytest.param({1: "lost", 4: "lost", 6: "told", 9: "lost", 15: "lost"}, marks=pytest.mark.slow),
        pytest.param({1: "told", 3: "told", 5: "lost", 11: "told", 20: "told"}, marks=pytest.mark.slow),
    ],
)
def test_a_server_that_is_killed_goes_on_where_it_was(stage: Stage, moments: dict[int, str]) -> None:
    office, proxy = set_up(stage, DEVICES)
    expected = len(moments)
    killed = killer(stage, proxy, moments)
    name = roll_out(stage, office)
    stage.start_agents()
    kills = 0
    deadline = time.monotonic() + 200
    try:
        while True:
            assert time.monotonic() < deadline, (stage.path / "server.log").read_text()[-3000:]
            if killed.wait(0.2):
                killed.clear()
                kills += 1
                stage.start_server()
            elif phase(stage, name) == "closed":
                break
    finally:
        proxy.close()
    found = view(stage, name)
    stage.kill_server()
    events = events_of(stage.home.log)
    assert kills >= min(3, expected), "the rollout was over before the server was killed often"
    assert check_log(events) == {"exposed": DEVICES, "confirmed": DEVICES}
    leases, reports = check_acknowledged(events, proxy.acknowledged)
    assert leases >= DEVICES
    assert reports >= DEVICES
    assert (found["confirmed"], found["reverted"], found["silent"]) == (DEVICES, 0, 0)
    assert all(device.installed() for device in stage.devices)


def test_an_agent_that_dies_with_its_lease_is_silent_and_comes_back(stage: Stage) -> None:
    """Killed as it gets a treated lease: silent after the observation time; the rest goes on within the budget."""
    office, proxy = set_up(stage, 6)
    victims: list[int] = []

    def kill_first(done: Acknowledged) -> None:
        if done.answer.get("arm") == "treated" and not victims:
            victims.append(done.index)
            os.killpg(stage.agents[done.index].pid, signal.SIGKILL)

    proxy.after_answer = kill_first
    name = roll_out(stage, office, observe_s=6)
    stage.start_agents()
    try:
        wait_for(lambda: victims, 30)
        victim = stage.devices[victims[0]]
        assert stage.agents[victims[0]].wait(60) == -signal.SIGKILL
        wait_for(lambda: view(stage, name)["silent"] == 1, 30)
        done = tidegate(stage, "device", "why", victim.device_id)
        assert done.returncode == 0, done.stderr
        assert "not heard of within 6 s: counted as harmed" in done.stdout
        found = json.loads(tidegate(stage, "device", "why", str(victims[0]), "--json").stdout)
        assert [entry["standing"] for entry in found["why"]] == ["silent"]
        rest = wait_for(lambda: (v := view(stage, name))["confirmed"] == 5 and v["phase"] == "hold" and v, 40)
        assert "1 device exposed without a confirmation (1 silent, 0 reverted) of 3" in rest["sentence"]
        assert rest["budget"]["used"] == 1
        stage.start_agent(victim)
        wait_for(lambda: view(stage, name)["phase"] == "closed", 30)
        assert victim.installed()
    finally:
        proxy.close()
    stage.kill_server()
    events = events_of(stage.home.log)
    assert check_log(events) == {"exposed": 6, "confirmed": 6}
    check_acknowledged(events, proxy.acknowledged)


def test_the_checker_finds_what_it_looks_for() -> None:
    """A log with a lease too many, a second treated lease, or one after the end does not pass."""
    lines = (Path(__file__).parents[1] / "contract" / "log_v1.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    assert check_log(events) == {"exposed": 2, "confirmed": 2}
    leased = next(event for event in events if event["kind"] == "leased")
    for position, extra in (
        (len(events) - 1, {**leased, "index": 7}),  # after the end
        (9, {**leased, "index": 7}),  # two at risk of one that is allowed
        (11, leased),  # the same device once more
    ):
        with pytest.raises(AssertionError):
            check_log([*events[:position], extra, *events[position:]])
    with pytest.raises(KeyError):
        lost = Acknowledged("/v1/announce", 0, {}, {"lease_id": "edr-rules-a1b2c3:9:0", "arm": "treated"})
        check_acknowledged(events, [lost])
