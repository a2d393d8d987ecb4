"""Collectors, a controller and its standby as processes: killed under load, nothing told is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.stage import events_of
from tests.history import History, behave
from tests.server import COMPONENT, Plant

from tidegate.cli.home import Home
from tidegate.cli.swarm_line import Line, SwarmDevice

pytestmark = [pytest.mark.room("control"), pytest.mark.room("intake"), pytest.mark.xdist_group("takeover")]
MAX_HARMED, CANARY, CAP, SITES = 12, 3, 4, 5


class House:
    """A home, and every process that was started on it."""

    def __init__(self, path: Path) -> None:
        plant = Plant(path)
        self.draft, self.signed = (draft := plant.draft(1, soak_s=0)), plant.sign(draft)
        plant.log.close()
        self.home: Home = plant.home
        self.path = path
        self.processes: list[subprocess.Popen[bytes]] = []
        self.controllers: list[subprocess.Popen[bytes]] = []

    def serve(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.path / "servers.log").open("ab") as file:
            command = [sys.executable, "-m", "tidegate", "serve", "--home", str(self.home.path), *words]
            process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        self.processes.append(process)
        return process

    def controller(self, *words: str) -> None:
        ports = ("--role", "controller", "--operators", "127.0.0.1:0", *words)
        self.controllers.append(self.serve(*ports))

    def kill_active(self) -> None:
        process = self.controllers.pop(0)
        process.kill()
        process.wait()

    def office(self) -> httpx.Client:
        """A client of whoever is active, once somebody is."""
        token = self.home.operator_token.read_text().strip()
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError, ValueError, KeyError, httpx.HTTPError):
                url = json.loads(self.home.address.read_text())["operators"]
                client = httpx.Client(base_url=url, timeout=20, headers={"authorization": f"Bearer {token}"})
                if client.get("/healthz").status_code == 200:
                    return client
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def collectors(self, count: int) -> list[int]:
        """Start collectors; give their ports."""
        while not self.home.collector_token.exists():
            time.sleep(0.05)
        started = [self.serve("--role", "collector", "--devices", "127.0.0.1:0") for _ in range(count)]
        ports: list[int] = []
        deadline = time.monotonic() + 60
        for process in started:
            file = self.home.path / f"collector-{process.pid}.json"
            while not file.exists():
                assert time.monotonic() < deadline, self.said()
                time.sleep(0.05)
            ports.append(int(json.loads(file.read_text())["devices"].rpartition(":")[2]))
        return ports

    def said(self) -> str:
        return (self.path / "servers.log").read_text()[-3000:]

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path)
    yield found
    found.end()


def ask(office: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    reply = office.post(path, json={"who": "ada", "why": "test", **body})
    assert reply.status_code in (200, 201), reply.text
    return reply.json()


def prepare(house: House, office: httpx.Client) -> list[str]:
    """A token for each site, and a release."""
    tokens = [
        ask(office, "/api/v1/tokens", labels={"site": f"s{n}"}, uses=1000, expires_s=3600)["token"]
        for n in range(SITES)
    ]
    manifest = house.draft.manifest
    office.put(f"/api/v1/payloads/{manifest.payload.sha256}", content=house.draft.payload)
    return tokens


def release(house: House, office: httpx.Client) -> str:
    manifest = house.draft.manifest
    ask(
        office,
        "/api/v1/releases",
        component=manifest.component,
        releases=house.signed.decode(),
        manifest=house.draft.manifest_bytes.decode(),
    )
    started = ask(
        office,
        "/api/v1/rollouts",
        component=COMPONENT,
        release="1",
        max_harmed=MAX_HARMED,
        canary=CANARY,
        placebo_per_treated=0.5,
        observe_s=60,
        allow_hold=True,
        caps={"site": CAP},
    )
    return str(started["rollout"])


async def scene(
    house: House, ports: list[int], devices: int, kills: int, seed: int
) -> tuple[History, list[float], str]:
    chance, history, over = random.Random(seed), History(), asyncio.Event()
    office = house.office()
    tokens = prepare(house, office)
    lines = [Line("127.0.0.1", ports[n % len(ports)]) for n in range(devices)]
    swarm: list[SwarmDevice] = []
    site_of: dict[int, str] = {}
    for number, line in enumerate(lines):
        device = await SwarmDevice.enrol(line, tokens[number % SITES])
        assert device is not None
        swarm.append(device)
        site_of[device.index] = f"s{number % SITES}"
    rollout = await asyncio.to_thread(release, house, office)
    work = [
        asyncio.create_task(behave(device, line, rollout, history, over))
        for device, line in zip(swarm, lines, strict=True)
    ]
    gaps: list[float] = []
    for _ in range(kills):
        before, deadline = len(history.acknowledged), time.monotonic() + 60
        wanted = before + max(1, devices // (kills + 2) - chance.randrange(3))
        while len(history.acknowledged) < wanted and not all(task.done() for task in work):
            assert time.monotonic() < deadline, house.said()
            await asyncio.sleep(0.01)
        if all(task.done() for task in work):
            break
        await asyncio.sleep(chance.random() * 0.05)
        stood, killed_at = house.home.address.read_bytes(), time.monotonic()
        house.kill_active()
        while house.home.address.read_bytes() == stood:  # until then answers may come that were under way
            assert time.monotonic() < killed_at + 60, house.said()
            await asyncio.sleep(0.01)
        count = len(history.acknowledged)
        while len(history.acknowledged) == count and not all(task.done() for task in work):
            assert time.monotonic() < killed_at + 60, house.said()
            await asyncio.sleep(0.01)
        gaps.append(time.monotonic() - killed_at)
        house.controller("--standby")
        await asyncio.sleep(0.1)
    await asyncio.wait_for(asyncio.gather(*work), 90)
    history.check_moments(MAX_HARMED, CANARY, site_of, CAP)
    for line in lines:
        line.close()
    return history, gaps, rollout


@pytest.mark.parametrize(
    ("devices", "kills"),
    [
        (60, 2),
        pytest.param(150, 10, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
@pytest.mark.timeout(300)
def test_a_controller_that_is_killed_under_load_is_followed_by_its_standby(
    house: House, devices: int, kills: int
) -> None:
    house.controller()
    house.office().close()
    house.controller("--standby")
    ports = house.collectors(2)
    history, gaps, rollout = asyncio.run(scene(house, ports, devices, kills, kills))
    assert len(gaps) == kills, "the rollout was over too soon"
    office = house.office()
    found = office.get(f"/api/v1/rollouts/{rollout}").json()
    assert (found["exposed"], found["confirmed"], found["phase"]) == (devices, devices, "closed")
    office.close()
    house.end()
    leases, reports = history.check_log(events_of(house.home.log))
    assert leases >= devices
    assert reports >= devices
    print(f"{kills} kills, from the kill to the next acknowledged report: {[round(gap, 2) for gap in gaps]} s")
