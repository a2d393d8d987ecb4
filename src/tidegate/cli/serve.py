"""`tidegate serve`: the control plane in one process, devices and operators on ports of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
import uvicorn

from tidegate.api.app import Office
from tidegate.api.app import make_app as make_operators_app
from tidegate.cli.home import Home, default_home
from tidegate.cli.ledger import open_ledger
from tidegate.control.checkpoints import Checkpoints
from tidegate.control.controller import Controller
from tidegate.control.ledger import Ledger
from tidegate.control.news import Subscribers
from tidegate.control.news_delivery import NewsDelivery
from tidegate.core.errors import BadInput, Refused
from tidegate.intake.app import IntakeApp
from tidegate.intake.limits import Rates
from tidegate.log.port import Log
from tidegate.trust.durable import write_durably
from tidegate.trust.epochs import SecretsFile
from tidegate.trust.passwords import Passwords
from tidegate.trust.publisher import Publisher

GRACE_S = 5
LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    *,
    home: Path | None = None,
    devices: str = "127.0.0.1:8470",
    operators: str = "127.0.0.1:8471",
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    without_tls: bool = False,
    log: str = "",
    log_password_file: Path | None = None,
    device_rate: float = 20.0,
    address_rate: float = 1000.0,
) -> None:
    """Run the control plane until it is told to stop (Ctrl-C or SIGTERM).

    Args:
        home: The control plane's directory, made by tidegate init.
        devices: Where devices reach it, HOST:PORT; port 0 takes a free one.
        operators: Where operators reach it.
        tls_cert: Certificate chain (PEM) for both ports.
        tls_key: Its private key.
        without_tls: Listen beyond this machine without TLS, because something in front ends it.
        log: Where the log is, if not where tidegate init was told: postgresql://..., nats://..., never with a password.
        log_password_file: A file that holds the log's password alone.
        device_rate: Requests a second that one device may make; 0 for no limit.
        address_rate: Requests a second that one address may make, behind which may be a whole site; 0 for no limit.
    """
    place = Home(home or default_home())
    place.check()
    ends = [_host_port("--devices", devices), _host_port("--operators", operators)]
    if (tls_cert is None) != (tls_key is None):
        raise BadInput("--tls-cert and --tls-key go together")
    if tls_cert is None and not without_tls and any(host not in LOCAL for host, _ in ends):
        raise BadInput("beyond this machine it needs --tls-cert and --tls-key (or --without-tls behind a proxy)")
    _log_as_json()
    with contextlib.suppress(KeyboardInterrupt):
        opened = place.open_log(log, log_password_file)
        rates = Rates(device_per_s=device_rate, address_per_s=address_rate)
        asyncio.run(_serve(place, opened, ends, {"ssl_certfile": tls_cert, "ssl_keyfile": tls_key}, rates))


def _host_port(what: str, text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise BadInput(f"{what} must be HOST:PORT, not {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


class _Server(uvicorn.Server):
    """A server among several in one process: signals are taken once, for all."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


async def _serve(place: Home, log: Log, ends: list[tuple[str, int]], tls: dict[str, Any], rates: Rates) -> None:
    publisher = Publisher(place.repository, place.keys)
    controller = Controller(log, publisher, ledger=_ledger(place), checkpoints=Checkpoints(place.checkpoints))
    secrets = SecretsFile(place.device_secrets)
    intake = IntakeApp(controller, secrets, place.repository, rates)
    token = place.operator_token.read_text().strip()
    office = Office(
        controller,
        place.repository,
        token,
        place.keys,
        evidence=place.evidence,
        passwords=Passwords(place.passwords),
        device_secrets=place.device_secrets,
        secrets=secrets,
        heard_epochs=intake.epochs.counts,
    )
    apps: list[Any] = [intake, make_operators_app(office)]
    servers = [
        _Server(
            uvicorn.Config(
                app,
                host,
                port,
                log_config=None,
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=GRACE_S,
                **tls,
            )
        )
        for app, (host, port) in zip(apps, ends, strict=True)
    ]
    news = NewsDelivery(lambda: controller.state, place.repository, Subscribers(place.path / "subscribers.json"))
    delivery = asyncio.create_task(news.run())
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work = [asyncio.create_task(controller.run()), *[asyncio.create_task(_listen(server)) for server in servers]]
    try:
        await _announce(place, servers, ends, work, "https" if tls["ssl_certfile"] else "http")
        await asyncio.wait([asyncio.create_task(stop.wait()), *work], return_when=asyncio.FIRST_COMPLETED)
    finally:
        delivery.cancel()
        await _end(work, servers)
        log.close()


def _ledger(place: Home) -> Ledger | None:
    found = open_ledger(place)
    if found is None:
        print(f"No ledger: {place.path} was made without a key for one. All else works.", flush=True)
    return found


async def _listen(server: _Server) -> None:
    try:
        await server.serve()
    except SystemExit as error:
        raise Refused("a port could not be opened; is another server running? see the line above") from error


async def _announce(
    place: Home, servers: list[_Server], ends: list[tuple[str, int]], work: list[asyncio.Task[None]], scheme: str
) -> None:
    while not all(server.started for server in servers):
        if any(task.done() for task in work):
            return
        await asyncio.sleep(0.01)
    urls = [f"{scheme}://{host}:{server.port}" for (host, _), server in zip(ends, servers, strict=True)]
    write_durably(place.address, json.dumps({"devices": urls[0], "operators": urls[1]}).encode())
    print(f"Devices:   {urls[0]}\nOperators: {urls[1]}\nCtrl-C stops it; devices keep what they run.", flush=True)


async def _end(work: list[asyncio.Task[None]], servers: list[_Server]) -> None:
    for server in servers:
        server.should_exit = True
    work[0].cancel()
    failures = await asyncio.gather(*work, return_exceptions=True)
    for failure in failures:
        if isinstance(failure, Exception):
            raise failure


def _log_as_json() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
