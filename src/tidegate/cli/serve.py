"""`tidegate serve`: the control plane in one process, devices and operators on ports of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from pathlib import Path
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Gauge

from tidegate.api.app import Office
from tidegate.api.app import make_app as make_operators_app
from tidegate.cli.diary import write_diary
from tidegate.cli.home import Home, default_home
from tidegate.cli.ledger_home import open_ledger, read_policy
from tidegate.cli.serve_collector import collector_token, serve_collector
from tidegate.cli.serve_files import Bounds, make_doors
from tidegate.cli.serve_ports import OneServer, host_port, make_server, run_loop
from tidegate.cli.serve_standby import open_when_free
from tidegate.cli.serve_tls import Tls, choose_tls
from tidegate.control.checkpoints import EVERY_EVENTS, Checkpoints
from tidegate.control.controller import Controller
from tidegate.control.following import Followed
from tidegate.control.ledger import Ledger
from tidegate.control.metrics import make_registry
from tidegate.control.news import Subscribers
from tidegate.control.news_delivery import NewsDelivery
from tidegate.control.witnesses import Witnesses
from tidegate.core.errors import BadInput
from tidegate.intake.app import IntakeApp
from tidegate.intake.doors import PATIENCE_S, Door, DoorMetrics
from tidegate.intake.gathering import Gathering
from tidegate.intake.limits import Rates
from tidegate.log.port import Log
from tidegate.trust.durable import write_durably
from tidegate.trust.epochs import SecretsFile
from tidegate.trust.passwords import Passwords
from tidegate.trust.publisher import Publisher


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
    connections: int = 0,
    address_connections: int = 0,
    patience: float = PATIENCE_S,
    checkpoint_every: int = EVERY_EVENTS,
    role: Literal["all", "controller", "collector"] = "all",
    standby: bool = False,
    log_level: Literal["debug", "info", "warning", "error"] = "info",
    controller: list[str] | None = None,
) -> None:
    """Run the control plane until it is told to stop (Ctrl-C or SIGTERM).

    Args:
        home: The control plane's directory, made by tidegate init.
        devices: Where devices reach it, HOST:PORT; port 0 takes a free one.
        operators: Where operators reach it.
        tls_cert: Certificate chain (PEM) for both ports; default: the one that tidegate tls issue made, if it did.
        tls_key: Its private key.
        without_tls: Listen beyond this machine without TLS, because something in front ends it.
        log: Where the log is, if not where tidegate init was told: postgresql://..., nats://..., never with a password.
        log_password_file: A file that holds the log's password alone.
        device_rate: Requests a second that one device may make; 0 for no limit.
        address_rate: Requests a second that one address may make, behind which may be a whole site; 0 for no limit.
        connections: Connections that may be open at once on the devices' port (of a controller alone: its only port);
            0 for as many as the system's limit of open files leaves, up to 50,000. More are closed at once.
        address_connections: How many of them one address may have; 0 for a quarter. This machine itself may have all.
        patience: Seconds in which a request must have come whole, and without which nobody may pause in reading an
            answer; then the connection is dropped. Operators' uploads may take longer while they come on.
        checkpoint_every: Events after which the state is written down once more, so that a start reads the rest alone.
        role: "collector" answers devices and forwards to the active controller; "controller" opens the operators' port
            alone and takes what collectors forward; "all" does both in one process.
        standby: Wait while another controller is at work on this log, and take over when it is gone.
        log_level: What goes to stderr, one JSON object a line: "debug" tells of every device's lease and report.
        controller: For a collector: a controller's operators' address (URL); several times for standbys. Default: the
            one that runs on this home.
    """
    place = Home(home or default_home())
    place.check()
    if checkpoint_every < 1:
        raise BadInput("--checkpoint-every must be 1 or more events")
    checkpoints = Checkpoints(place.checkpoints, checkpoint_every)
    ends = [host_port("--devices", devices), host_port("--operators", operators)]
    opens = {"all": ends, "controller": ends[1:], "collector": ends[:1]}[role]
    tls = choose_tls(place, (tls_cert, tls_key), without_tls, opens)
    if tls.warning():
        print(tls.warning(), flush=True)
    write_diary(log_level)
    bounds = Bounds(connections, address_connections, patience)
    rates = Rates(device_per_s=device_rate, address_per_s=address_rate)
    with contextlib.suppress(KeyboardInterrupt):
        if role == "collector":
            doors = make_doors(role, bounds)
            run_loop(serve_collector(place, controller or [], ends[0], tls, rates, doors["devices"]))
            return
        opened, followed = open_when_free(place, log, log_password_file, checkpoints if standby else None)
        if opened.warning:
            print(f"{opened.warning}.", flush=True)
        run_loop(_serve(place, opened, followed, checkpoints, ends, tls, rates, make_doors(role, bounds)))


async def _serve(
    place: Home,
    log: Log,
    followed: Followed | None,
    checkpoints: Checkpoints,
    ends: list[tuple[str, int]],
    tls: Tls,
    rates: Rates,
    doors: dict[str, Door],
) -> None:
    publisher = Publisher(place.repository, place.keys)
    ledger = _ledger(place)
    controller = Controller(log, publisher, ledger=ledger, checkpoints=checkpoints, followed=followed)
    witnesses: Witnesses | None = None
    if ledger is not None:
        witnesses = Witnesses(ledger, lambda: read_policy(place), lambda said: setattr(controller, "trouble", said))
        await witnesses.check_first()
    secrets = SecretsFile(place.device_secrets)
    intake = IntakeApp(controller, secrets, place.repository, rates)
    token = place.operator_token.read_text().strip()
    registry = _registry(controller, intake, place, tls, witnesses)
    registry.register(DoorMetrics(doors.values()))
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
        metrics=registry,
        witnesses=witnesses.view if witnesses else list,
    )
    operators = Gathering(intake, collector_token(place), make_operators_app(office))
    apps: list[Any] = [intake, operators][-len(doors) :]
    ends = ends[-len(doors) :]
    servers = [make_server(app, end, tls, door) for app, end, door in zip(apps, ends, doors.values(), strict=True)]
    news = NewsDelivery(lambda: controller.state, place.repository, Subscribers(place.path / "subscribers.json"))
    besides = [asyncio.create_task(each.run()) for each in (news, witnesses) if each is not None]
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work = [asyncio.create_task(controller.run()), *[asyncio.create_task(server.listen()) for server in servers]]
    try:
        await _announce(place, servers, ends, work, tls)
        await asyncio.wait([asyncio.create_task(stop.wait()), *work], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in besides:
            task.cancel()
        await _end(work, servers)
        log.close()


def _registry(
    controller: Controller, intake: IntakeApp, place: Home, tls: Tls, witnesses: Witnesses | None
) -> CollectorRegistry:
    found = make_registry(controller, place.path, place.repository)
    found.register(intake.counts.registry)
    if witnesses is not None:
        found.register(witnesses)
    if tls.certificate:
        what = "Until the certificate of this server's ports runs out."
        Gauge("tidegate_tls_certificate_expires_in_seconds", what, registry=found).set_function(tls.left_s)
    return found


def _ledger(place: Home) -> Ledger | None:
    found = open_ledger(place, renew=True)
    if found is None:
        print(f"No ledger: {place.path} was made without a key for one. All else works.", flush=True)
    return found


async def _announce(
    place: Home, servers: list[OneServer], ends: list[tuple[str, int]], work: list[asyncio.Task[None]], tls: Tls
) -> None:
    while not all(server.started for server in servers):
        if any(task.done() for task in work):
            return
        await asyncio.sleep(0.01)
    known = {"devices": tls.url_for_others(ends[0][0], servers[0].port)} if len(ends) == 2 else {}
    host = ends[-1][0]
    known["operators"] = tls.url_here(host, servers[-1].port)
    named = {"operators_name": tls.name_to_ask(host)} if tls.name_to_ask(host) else {}
    write_durably(place.address, json.dumps({**known, **named}).encode())
    lines = [f"{name.capitalize() + ':':<10} {url}" for name, url in known.items()]
    print("\n".join([*lines, "Ctrl-C stops it; devices keep what they run."]), flush=True)


async def _end(work: list[asyncio.Task[None]], servers: list[OneServer]) -> None:
    for server in servers:
        server.should_exit = True
    work[0].cancel()
    failures = await asyncio.gather(*work, return_exceptions=True)
    for failure in failures:
        if isinstance(failure, Exception):
            raise failure
