"""A real control plane for tests: signed repository, log, controller, both HTTP ports, and a clock moved by hand."""

from __future__ import annotations

import asyncio
import atexit
import json
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx
import structlog
import uvicorn
from argon2 import PasswordHasher
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from tidegate.api.app import Office
from tidegate.api.app import make_app as make_operators_app
from tidegate.cli.home import Home
from tidegate.cli.init import make_control_plane
from tidegate.cli.release_files import Draft, SpeedOptions, create_draft, sign_draft
from tidegate.control.controller import Controller
from tidegate.control.ledger import Ledger
from tidegate.control.metrics import make_registry
from tidegate.core.assign import SHARE_ONE
from tidegate.core.model import Health
from tidegate.intake.app import IntakeApp
from tidegate.intake.gathering import Gathering
from tidegate.intake.lane import lane_for
from tidegate.log.sqlite import SqliteLog
from tidegate.trust.credentials import authorization
from tidegate.trust.epochs import SecretsFile
from tidegate.trust.layout import release_role
from tidegate.trust.metadata import latest_bytes
from tidegate.trust.passwords import Passwords
from tidegate.trust.publisher import Publisher
from tidegate.trust.tokens import possession_message

# A server in the test's own process says nothing: what is printed there is what the test looks at.
structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

AT_ONCE = SpeedOptions(((0, SHARE_ONE),), SHARE_ONE, 0, 86_400, least_devices=0, clock_slack_s=0)
"""Tests' devices do not enforce the speed limit: one that lets everyone begin keeps no ring back."""
QUICK_HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
COMPONENT, OTHER = "edr-rules", "dns-filter"
T = TypeVar("T")


def _loud(_: Any, level: str, line: structlog.types.EventDict) -> structlog.types.EventDict:
    if level in ("debug", "info"):
        raise structlog.DropEvent
    return line


# A server in the tests' own process must not write into what commands print.
structlog.configure(
    processors=[_loud, structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()],
    logger_factory=structlog.PrintLoggerFactory(sys.__stderr__),
)


class HandClock:
    """Gives the real time, plus what a test adds."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@cache
def _template() -> Path:
    place = Path(tempfile.mkdtemp(prefix="tidegate-test-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    make_control_plane(Home(place / "home"), place / "offline", [COMPONENT, OTHER])
    return place


def enrolment(token: str, key: Ed25519PrivateKey | None = None, **changes: Any) -> dict[str, Any]:
    """What a device sends to enrol, with the proof that its key is its own."""
    key = key or Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw().hex()
    return {"token": token, "public_key": public, "proof": key.sign(possession_message(token, public)).hex(), **changes}


class Plant:
    """A control plane's directory, its log, publisher and controller; nothing runs yet."""

    def __init__(self, directory: Path) -> None:
        if not (directory / "home").exists():
            shutil.copytree(_template(), directory, dirs_exist_ok=True)
        self.directory, self.home, self.offline = directory, Home(directory / "home"), directory / "offline"
        self.clock = HandClock()
        self.log = SqliteLog(self.home.log)
        self.publisher = Publisher(self.home.repository, self.home.keys)
        self.controller = Controller(self.log, self.publisher, self.clock, ledger=self.ledger())

    def ledger(self) -> Ledger | None:
        """None: most tests need no ledger; those that do override it."""
        return None

    def draft(self, seq: int, *, component: str = COMPONENT, soak_s: int = 2, text: str = "") -> Draft:
        """Pack a small release."""
        source = self.directory / f"content-{component}-{seq}-{secrets.token_hex(2)}"
        source.mkdir()
        (source / "rules.txt").write_text(text or f"rules {seq}\n")
        return create_draft(
            source,
            self.directory / f"release-{source.name}",
            component=component,
            version=f"1.{seq}",
            seq=seq,
            driver="files",
            health=Health(soak_s),
        )

    def sign(self, draft: Draft, speed: SpeedOptions = AT_ONCE) -> bytes:
        """Sign it upon the newest list of releases."""
        newest = latest_bytes(self.home.repository, release_role(draft.manifest.component))
        return sign_draft(draft, newest, self.offline, speed)


class Device:
    """One enrolled device, as far as the server can tell: it speaks HTTP under its credential."""

    def __init__(self, world: World, answer: dict[str, Any]) -> None:
        self.world = world
        self.device_id, self.index, self.credential = answer["device_id"], answer["index"], answer["credential"]
        self.seq = 0

    def post(self, path: str, message: Any, *, seq: int | None = None, credential: str = "") -> httpx.Response:
        """Send a message; `seq` replays an older number."""
        if seq is None:
            self.seq += 1
            seq = self.seq
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        header = authorization(credential or self.credential, seq, path, body)
        return self.world.devices.post(path, content=body, headers={"authorization": header})

    def announce(self, rollout: str, **changes: Any) -> httpx.Response:
        seq = changes.pop("header_seq", None)
        message = {"rollout": rollout, "plan_version": 0, "installed": None, "seq": 1, "attempt": 1, **changes}
        return self.post("/v1/announce", message, seq=seq)

    def report(self, lease_id: str, kind: str = "confirmed", **changes: Any) -> httpx.Response:
        return self.post("/v1/reports", {"reports": [{"lease_id": lease_id, "kind": kind, "seq": 1, **changes}]})


class World(Plant):
    """A plant that runs, in a thread of its own, behind both of its ports."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        token = self.home.operator_token.read_text().strip()
        self.secrets = SecretsFile(self.home.device_secrets)
        self.intake = IntakeApp(self.controller, self.secrets, self.home.repository)
        self.office = Office(
            self.controller,
            self.home.repository,
            token,
            evidence=self.home.evidence,
            passwords=Passwords(self.home.passwords, QUICK_HASHER),
            device_secrets=self.home.device_secrets,
            secrets=self.secrets,
            heard_epochs=self.intake.epochs.counts,
            metrics=self._registry(),
        )
        apps: list[Any] = [self.intake, Gathering(self.intake, "collectors' token", make_operators_app(self.office))]
        self.servers = [uvicorn.Server(_config(app)) for app in apps]
        self._ready: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        self.loop = self._ready.result(120)
        ports = [server.servers[0].sockets[0].getsockname()[1] for server in self.servers]
        self.devices = httpx.Client(base_url=f"http://127.0.0.1:{ports[0]}", timeout=120)
        self.operators = httpx.Client(
            base_url=f"http://127.0.0.1:{ports[1]}", timeout=120, headers={"authorization": f"Bearer {token}"}
        )

    def _registry(self) -> CollectorRegistry:
        found = make_registry(self.controller, self.home.path, self.home.repository)
        found.register(self.intake.counts.registry)
        return found

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        work = [asyncio.create_task(self.controller.run()), *(asyncio.create_task(s.serve()) for s in self.servers)]
        while not all(server.started for server in self.servers):
            await asyncio.sleep(0.005)
        self._ready.set_result(asyncio.get_running_loop())
        await self._stop.wait()
        work[0].cancel()
        for server in self.servers:
            server.should_exit = True
        await asyncio.gather(*work, return_exceptions=True)

    def close(self) -> None:
        """Stop all of it."""
        self.devices.close()
        self.operators.close()
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(120)
        self.log.close()

    def quiet(self) -> int:
        """Wait until the controller has nothing more to append; give the log's last number."""
        last = -1
        while last != self.log.last:
            last = self.log.last
            self.ask(lambda state, now_ms: ([], None))
            self.ask(lambda state, now_ms: ([], None))
        return last

    def ask(self, decide: Callable[[Any, int], tuple[list[Any], T]]) -> T:
        """Put a decision to the controller from outside."""
        return asyncio.run_coroutine_threadsafe(self.controller.ask(decide), self.loop).result(120)

    def pass_s(self, seconds: float) -> None:
        """Let time pass for the controller."""
        self.clock.ahead_s += seconds
        self.quiet()

    def operator(self, path: str, *, method: str = "POST", **body: Any) -> httpx.Response:
        """Ask as a named operator."""
        if method == "GET":
            return self.operators.get(path, params=body)
        return self.operators.request(method, path, json={"who": "ada", "why": "test", **body})

    def token(self, **body: Any) -> str:
        reply = self.operator("/api/v1/tokens", **{"uses": 1000, **body})
        assert reply.status_code == 201, reply.text
        return str(reply.json()["token"])

    def enrol(self, token: str = "", **changes: Any) -> Device:
        reply = self.devices.post("/v1/enrol", json=enrolment(token or self.token(), **changes))
        assert reply.status_code == 200, reply.text
        return Device(self, reply.json())

    def submit(self, draft: Draft, signed: bytes | None = None, **changes: Any) -> httpx.Response:
        """Send a payload, and the release that names it."""
        self.operators.put(f"/api/v1/payloads/{draft.manifest.payload.sha256}", content=draft.payload)
        body = {
            "component": draft.manifest.component,
            "releases": (signed or self.sign(draft)).decode(),
            "manifest": draft.manifest_bytes.decode(),
        }
        return self.operator("/api/v1/releases", **{**body, **changes})

    def release(self, seq: int, **changes: Any) -> str:
        """Make, sign and log a release; give its digest."""
        reply = self.submit(self.draft(seq, **changes))
        assert reply.status_code == 201, reply.text
        return str(reply.json()["digest"])

    def start(self, **changes: Any) -> httpx.Response:
        """Ask for a rollout under the certain rule."""
        body = {
            "component": COMPONENT,
            "release": "1",
            "max_harmed": 3,
            "placebo_per_treated": 1.0,
            "observe_s": 10,
            "allow_hold": True,
        }
        return self.operator("/api/v1/rollouts", **{**body, **changes})

    def rollout(self, **changes: Any) -> str:
        """Start a rollout, and wait for its first plan; give its name."""
        reply = self.start(**changes)
        assert reply.status_code == 201, reply.text
        self.quiet()
        return str(reply.json()["rollout"])


def _config(app: Any) -> uvicorn.Config:
    short: dict[str, Any] = {"http": lane_for(app)} if isinstance(app, IntakeApp) else {}
    return uvicorn.Config(app, "127.0.0.1", 0, log_config=None, access_log=False, lifespan="off", **short)
