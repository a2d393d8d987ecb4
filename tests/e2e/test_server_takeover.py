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
from tests.stores import NatsCluster, PostgresqlServer, store_server

from tidegate.cli.home import Home
from tidegate.cli.swarm_line import Line, SwarmDevice
from tidegate.log.events import encode
from tidegate.log.port import Busy

pytestmark = [pytest.mark.room("control"), pytest.mark.room("intake"), pytest.mark.xdist_group("takeover")]
MAX_HARMED, CANARY, CAP, SITES = 8, 3, 3, 5


class House:
    """A home, and every process that was started on it."""

    def __init__(self, path: Path, store: str = "") -> None:
        plant = Plant(path)
        self.store = store_server(store) if store else None
        self.log: list[str] = []
        if self.store is not None:
            self.log = ["--log", self.store.url(path)]
            if self.store.password_file is not None:
                self.log += ["--log-password-file", str(self.store.password_file)]
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
        ports = ("--role", "controller", "--operators", "127.0.0.1:0", *self.log, *words)
        self.controllers.append(self.serve(*ports))

    def standby(self) -> None:
        """Start one more, and wait until it stands by."""
        before = self.waiting()
        self.controller("--standby")
        deadline = time.monotonic() + 60
        while self.waiting() == before:
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def waiting(self) -> int:
        return (self.path / "servers.log").read_text().count("Standby: ")

    def strike(self, number: int) -> bool:
        """Kill the active controller, or every second time the store under it; give whether it was the controller."""
        if isinstance(self.store, PostgresqlServer) and number % 2 == 0:
            self.store.kill()
            self.store.start()
            return False
        if isinstance(self.store, NatsCluster) and number % 2 == 0:
            node = number // 2 % 3
            self.store.kill(node)
            time.sleep(1)
            self.store.start(node)
            return False
        process = self.controllers.pop(0)
        process.kill()
        process.wait()
        return True

    def events(self) -> list[dict[str, Any]]:
        """The log, read when nobody writes it any more."""
        if self.store is None:
            return events_of(self.home.log)
        deadline = time.monotonic() + 60
        while True:
            try:
                log = self.home.open_log(self.log[1], Path(self.log[3]) if len(self.log) > 2 else None)
                break
            except Busy:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        try:
            return [json.loads(encode(event)) for _, event in log.read()]
        finally:
            log.close()

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


@contextlib.contextmanager
def house_in(path: Path, store: str) -> Iterator[House]:
    found = House(path, store)
    try:
        yield found
    finally:
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
    terms: dict[str, Any] = {
        "component": COMPONENT,
        "release": "1",
        "max_harmed": MAX_HARMED,
        "canary": CANARY,
        "confidence": 0.999999,
        "observe_s": 60,
        "allow_hold": True,
        "caps": {"site": CAP},
    }
    # The first spends the candidate's error probability and exposes nobody (no collector has a device's question yet).
    # What is left is the certain rule, and what that allows can be checked to the device.
    first = ask(office, "/api/v1/rollouts", **terms)
    ask(office, f"/api/v1/rollouts/{first['rollout']}/abort")
    started = ask(office, "/api/v1/rollouts", **terms)
    return str(started["rollout"])


async def scene(
    house: House, ports: list[int], devices: int, kills: int, seed: int
) -> tuple[History, list[float], str, dict[int, str]]:
    chance, history, over, go = random.Random(seed), History(), asyncio.Event(), asyncio.Event()
    go.set()
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
        asyncio.create_task(behave(device, line, rollout, history, over, go=go, soak_s=chance.random()))
        for device, line in zip(swarm, lines, strict=True)
    ]
    gaps: list[float] = []
    for number in range(kills):
        before, deadline = len(history.acknowledged), time.monotonic() + 60
        wanted = before + chance.randrange(1, 4)
        while len(history.acknowledged) < wanted and not all(task.done() for task in work):
            assert time.monotonic() < deadline, house.said()
            await asyncio.sleep(0.01)
        if all(task.done() for task in work):
            break
        await asyncio.sleep(chance.random() * 0.05)
        stood, killed_at = house.home.address.read_bytes(), time.monotonic()
        controller = await asyncio.to_thread(house.strike, number)
        while controller and house.home.address.read_bytes() == stood:  # until then answers come that were under way
            assert time.monotonic() < killed_at + 60, house.said()
            await asyncio.sleep(0.01)
        count = len(history.acknowledged)
        while len(history.acknowledged) == count and not all(task.done() for task in work):
            assert time.monotonic() < killed_at + 60, house.said()
            await asyncio.sleep(0.01)
        gaps.append(time.monotonic() - killed_at)
        if not controller and house.controllers[0].poll() is not None:  # the standby was quicker to take the log up
            house.controllers.pop(0)
            controller = True
        if controller and number < kills - 1:
            go.clear()  # a standby takes its time to start; the rollout must not be over meanwhile
            await asyncio.to_thread(house.standby)
            go.set()
    await asyncio.wait_for(asyncio.gather(*work), 90)
    for line in lines:
        line.close()
    return history, gaps, rollout, site_of


@pytest.mark.parametrize(
    ("devices", "kills", "store"),
    [
        (64, 5, ""),
        pytest.param(560, 50, "", marks=pytest.mark.slow),
        pytest.param(60, 4, "postgresql", marks=pytest.mark.slow),
        pytest.param(60, 4, "nats", marks=pytest.mark.slow),
    ],
    ids=["5 kills", "50 kills", "PostgreSQL's primary too", "a NATS node too"],
)
@pytest.mark.timeout(1800)
def test_whoever_is_killed_under_load_nothing_is_lost_or_doubled(
    tmp_path: Path, devices: int, kills: int, store: str
) -> None:
    with house_in(tmp_path, store) as house:
        killed_under_load(house, devices, kills)


def killed_under_load(house: House, devices: int, kills: int) -> None:
    house.controller()
    house.office().close()
    house.standby()
    ports = house.collectors(2 if kills > 5 or house.store else 1)
    history, gaps, rollout, site_of = asyncio.run(scene(house, ports, devices, kills, kills))
    assert len(gaps) == kills, "the rollout was over too soon"
    office = house.office()
    found = office.get(f"/api/v1/rollouts/{rollout}").json()
    assert found["rule"] == "certain"
    assert (found["exposed"], found["confirmed"], found["phase"]) == (devices, devices, "closed")
    office.close()
    house.end()
    leases, reports = history.check_log(house.events())
    history.check_moments(MAX_HARMED, CANARY, site_of, CAP)
    assert leases >= devices
    assert reports >= devices
    print(f"{kills} kills, from the kill to the next acknowledged report: {[round(gap, 2) for gap in gaps]} s")
