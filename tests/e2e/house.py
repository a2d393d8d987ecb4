"""A control plane of several processes and its devices, all recorded: for tests that break one thing under load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from tests.e2e.net import Net
from tests.e2e.stage import events_of
from tests.history import History, behave, watch_editions
from tests.history_risk import Allowed
from tests.server import COMPONENT, Plant
from tests.stores import NatsCluster, PostgresqlServer, make_store, store_server

from tidegate.cli.home import Home
from tidegate.cli.swarm_line import Line, SwarmDevice
from tidegate.log.events import encode
from tidegate.log.port import Busy

T = TypeVar("T")
SITES = 5
LANES = {"s3": ("desk", "a"), "s4": ("desk", "b")}
PATIENCE_S = 120


@dataclass(frozen=True)
class Terms:
    """What is declared for the rollout. `certain` spends the candidate's alpha first, on nobody."""

    max_harmed: int = 8
    canary: int = 3
    cap: int = 3
    certain: bool = True
    confidence: float = 0.999999

    def allowed(self, site_of: dict[int, str]) -> Allowed:
        """The same, as the checker wants it."""
        lane_of = {device: LANES[site] for device, site in site_of.items() if site in LANES}
        alpha = 0.0 if self.certain else 1.0 - self.confidence
        return Allowed(self.max_harmed, self.canary, self.cap, site_of, lane_of, alpha)


class House:
    """A home, and every process that was started on it; with a net, each role has a machine of its own."""

    def __init__(self, path: Path, store: str | PostgresqlServer | NatsCluster = "", net: Net | None = None) -> None:
        plant = Plant(path)
        self.net, self.path = net, path
        self.store: PostgresqlServer | NatsCluster | None = None
        self.log: list[str] = []
        self.draft, self.signed = (draft := plant.draft(1, soak_s=0)), plant.sign(draft)
        plant.log.close()
        self.home: Home = plant.home
        self.processes: list[subprocess.Popen[bytes]] = []
        self.controllers: list[subprocess.Popen[bytes]] = []
        if store:
            self._open_store(store)

    def _open_store(self, name: str | PostgresqlServer | NatsCluster) -> None:
        if not isinstance(name, str):
            self.store = name
        elif self.net is None:
            self.store = store_server(name)
        else:
            host = self.net.address("store")
            self.store = self.at("store", lambda: make_store(name, host))
        store = self.store
        self.log = ["--log", self.at("store", lambda: store.url(self.path))]
        if store.password_file is not None:
            self.log += ["--log-password-file", str(store.password_file)]

    def at(self, machine: str, work: Callable[[], T]) -> T:
        """Do work on a machine."""
        return self.net.inside(machine, work) if self.net else work()

    def host(self, machine: str) -> str:
        return self.net.address(machine) if self.net else "127.0.0.1"

    def serve(self, machine: str, *words: str) -> subprocess.Popen[bytes]:
        more = ["--without-tls"] if self.net else []
        command = [sys.executable, "-m", "tidegate", "serve", "--home", str(self.home.path), *words, *more]
        with (self.path / "servers.log").open("ab") as file:
            process = self.at(
                machine, lambda: subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
            )
        self.processes.append(process)
        return process

    def controller(self, *words: str, machine: str = "controller") -> None:
        ports = ("--role", "controller", "--operators", f"{self.host(machine)}:0", *self.log, *words)
        self.controllers.append(self.serve(machine, *ports))

    def standby(self, *words: str, machine: str = "controller") -> None:
        """Start one more, and wait until it stands by."""
        before = self.waiting()
        self.controller("--standby", *words, machine=machine)
        self.until(lambda: self.waiting() > before)

    def waiting(self) -> int:
        return (self.path / "servers.log").read_text().count("Standby: ")

    def until(self, found: Callable[[], T | None]) -> T:
        """Wait until something is true, and give it."""
        deadline = time.monotonic() + PATIENCE_S
        while not (value := found()):
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        return value

    def events(self) -> list[dict[str, Any]]:
        """The log, read when nobody writes it any more."""
        if self.store is None:
            return events_of(self.home.log)
        return self.at("controller", self._events)

    def _events(self) -> list[dict[str, Any]]:
        deadline = time.monotonic() + PATIENCE_S
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

        def ask() -> httpx.Client | None:
            with contextlib.suppress(OSError, ValueError, KeyError, httpx.HTTPError):
                url = json.loads(self.home.address.read_text())["operators"]
                client = httpx.Client(base_url=url, timeout=20, headers={"authorization": f"Bearer {token}"})
                if client.get("/healthz").status_code == 200:
                    return client
            return None

        return self.until(ask)

    def collectors(self, count: int) -> list[int]:
        """Start collectors; give their ports."""
        self.until(self.home.collector_token.exists)
        end = f"{self.host('collector')}:0"
        started = [self.serve("collector", "--role", "collector", "--devices", end) for _ in range(count)]
        files = [self.home.path / f"collector-{process.pid}.json" for process in started]
        self.until(lambda: all(file.exists() for file in files))
        return [int(json.loads(file.read_text())["devices"].rpartition(":")[2]) for file in files]

    def said(self) -> str:
        return (self.path / "servers.log").read_text()[-3000:]

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            if process.poll() is None:
                process.kill()
                process.wait()

    def close(self) -> None:
        self.end()
        if self.net is not None and self.store is not None:
            self.store.close()


@contextlib.contextmanager
def house_in(path: Path, store: str | PostgresqlServer | NatsCluster = "", net: Net | None = None) -> Iterator[House]:
    found = House(path, store, net)
    try:
        yield found
    finally:
        found.close()


def memory_kb(house: House) -> list[int]:
    """What each process holds; 0 for one that has ended."""
    found: list[int] = []
    for process in house.processes:
        status = Path(f"/proc/{process.pid}/status").read_text()
        found.append(int(status.partition("VmRSS:")[2].split()[0]) if "VmRSS:" in status else 0)
    return found


def _ask(office: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    reply = office.post(path, json={"who": "ada", "why": "test", **body})
    assert reply.status_code in (200, 201), reply.text
    return reply.json()


def _tokens(office: httpx.Client) -> list[str]:
    """A token for each site; two sites are lanes of one service."""
    found: list[str] = []
    for number in range(SITES):
        labels = {"site": (site := f"s{number}")}
        if site in LANES:
            labels["service"], labels["lane"] = LANES[site]
        found.append(_ask(office, "/api/v1/tokens", labels=labels, uses=10_000, expires_s=3600)["token"])
    return found


def _release(house: House, office: httpx.Client, terms: Terms) -> str:
    manifest = house.draft.manifest
    office.put(f"/api/v1/payloads/{manifest.payload.sha256}", content=house.draft.payload)
    _ask(
        office,
        "/api/v1/releases",
        component=manifest.component,
        releases=house.signed.decode(),
        manifest=house.draft.manifest_bytes.decode(),
    )
    body: dict[str, Any] = {
        "component": COMPONENT,
        "release": "1",
        "max_harmed": terms.max_harmed,
        "canary": terms.canary,
        "confidence": terms.confidence,
        "observe_s": 120,
        "allow_hold": True,
        "caps": {"site": terms.cap},
    }
    if terms.certain:
        # The first spends the candidate's error probability and exposes nobody (no device has asked yet). What is
        # left is the certain rule, and what that allows can be checked to the device.
        first = _ask(office, "/api/v1/rollouts", **body)
        _ask(office, f"/api/v1/rollouts/{first['rollout']}/abort")
    return str(_ask(office, "/api/v1/rollouts", **body)["rollout"])


@dataclass
class Scene:
    """A rollout under way: its devices work by themselves, and write down what they see."""

    house: House
    terms: Terms
    chance: random.Random
    history: History = field(default_factory=History)
    site_of: dict[int, str] = field(default_factory=lambda: {})
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """While it is not set, no device announces; reports go on."""
    rollout: str = ""
    work: list[asyncio.Task[None]] = field(default_factory=lambda: [])

    @property
    def over(self) -> bool:
        return all(task.done() for task in self.work)

    async def acknowledged(self, more: int) -> None:
        """Wait until so many more reports have been acknowledged, or all is over."""
        wanted = len(self.history.acknowledged) + more
        await self.until(lambda: len(self.history.acknowledged) >= wanted or self.over)

    async def until(self, found: Callable[[], object]) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not found():
            assert time.monotonic() < deadline, self.house.said()
            await asyncio.sleep(0.01)


Story = Callable[[Scene], Awaitable[None]]


async def _play(house: House, terms: Terms, ports: Sequence[int], devices: int, seed: int, story: Story) -> Scene:
    scene = Scene(house, terms, random.Random(seed))
    office = await asyncio.to_thread(house.office)
    tokens = await asyncio.to_thread(_tokens, office)
    lines = [Line(house.host("collector"), ports[n % len(ports)]) for n in range(devices)]
    swarm: list[SwarmDevice] = []
    for number, line in enumerate(lines):
        device = await SwarmDevice.enrol(line, tokens[number % SITES])
        assert device is not None
        line.close()  # kept open it would be closed by the server before the last device has enrolled
        scene.history.enrolled.append((device.index, device.device_id))
        swarm.append(device)
        scene.site_of[device.index] = f"s{number % SITES}"
    scene.rollout = await asyncio.to_thread(_release, house, office, terms)
    office.close()
    scene.go.set()
    over = asyncio.Event()
    scene.work = [
        asyncio.create_task(
            behave(device, line, scene.rollout, scene.history, over, go=scene.go, soak_s=scene.chance.random())
        )
        for device, line in zip(swarm, lines, strict=True)
    ]
    readers = [Line(house.host("collector"), port) for port in ports]
    watching = [
        asyncio.create_task(watch_editions(line, f"reader {number}", scene.history, over))
        for number, line in enumerate(readers)
    ]
    try:
        await story(scene)
        await asyncio.wait_for(asyncio.gather(*scene.work), 3 * PATIENCE_S)
    finally:
        over.set()
        await asyncio.gather(*watching)
        for line in (*lines, *readers):
            line.close()
    return scene


def run(
    house: House, ports: Sequence[int], devices: int, story: Story, config: pytest.Config, terms: Terms | None = None
) -> History:
    """Roll out to so many devices while `story` breaks something; then check all that was seen, and give it.

    `--devices` makes them more, `--seed` moves everything that is left to chance.
    """
    terms, seed = terms or Terms(), config.getoption("--seed") or 1
    devices = max(devices, int(config.getoption("--devices") or 0))
    print(f"\n{devices} devices, seed {seed}")
    scene = house.at("collector", lambda: asyncio.run(_play(house, terms, ports, devices, seed, story)))

    def standing() -> dict[str, Any]:
        with contextlib.closing(house.office()) as office:
            return office.get(f"/api/v1/rollouts/{scene.rollout}").json()

    found = house.at("collector", standing)
    assert found["rule"] == ("certain" if terms.certain else "statistical")
    assert (found["exposed"], found["confirmed"], found["phase"]) == (devices, devices, "closed"), found
    house.end()
    history, events, allowed = scene.history, house.events(), terms.allowed(scene.site_of)
    history.check_told()
    leases, reports = history.check_log(events)
    history.check_moments(allowed)
    history.check_log_moments(events, allowed)
    assert len(history.editions) > 3, "hardly anybody read what was published"
    assert leases >= devices
    assert reports >= devices
    return history
