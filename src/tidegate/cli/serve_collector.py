"""A collector's process."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import Sequence
from typing import Any

from tidegate.cli.home import Home
from tidegate.cli.serve_ports import make_server
from tidegate.cli.serve_tls import Tls
from tidegate.core.errors import NotFound
from tidegate.intake.collector import CollectorApp
from tidegate.intake.doors import Door, DoorMetrics
from tidegate.intake.limits import Rates
from tidegate.trust.durable import write_durably
from tidegate.trust.epochs import SecretsFile


def collector_token(place: Home) -> str:
    """Read the token with which collectors speak to controllers; made when it is first asked for."""
    if not place.collector_token.exists():
        write_durably(place.collector_token, secrets.token_urlsafe(32).encode(), 0o600)
    return place.collector_token.read_text().strip()


class _Known(Sequence[str]):
    """The controller that runs on a home, read anew each time: a standby that took over has written its own address."""

    def __init__(self, place: Home) -> None:
        self._place = place

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> Any:
        try:
            return str(json.loads(self._place.address.read_text())["operators"])
        except (OSError, ValueError, KeyError):
            return "http://127.0.0.1:9"  # nobody listens there


async def serve_collector(
    place: Home, controllers: list[str], end: tuple[str, int], tls: Tls, rates: Rates, door: Door
) -> None:
    """Run a collector until it is told to stop.

    Raises:
        NotFound: without a token for collectors in the home.
        Refused: if the port cannot be opened.
    """
    if not place.collector_token.exists():
        raise NotFound(f"{place.collector_token} is not there: start a controller once, or copy it from its home")
    app = CollectorApp(
        controllers or _Known(place),
        collector_token(place),
        SecretsFile(place.device_secrets),
        place.repository,
        rates,
        str(place.ca) if place.ca.exists() else True,
    )
    app.registry.register(DoorMetrics([door]))
    server = make_server(app, end, tls, door)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work = [asyncio.create_task(app.run()), asyncio.create_task(server.listen())]
    try:
        while not server.started and not any(task.done() for task in work):
            await asyncio.sleep(0.01)
        if server.started:
            url = tls.url_for_others(end[0], server.port)
            write_durably(place.path / f"collector-{os.getpid()}.json", json.dumps({"devices": url}).encode())
            print(f"Devices:   {url}\nThis is a collector; Ctrl-C stops it.", flush=True)
        await asyncio.wait([asyncio.create_task(stop.wait()), *work], return_when=asyncio.FIRST_COMPLETED)
    finally:
        (place.path / f"collector-{os.getpid()}.json").unlink(missing_ok=True)
        server.should_exit = True
        work[0].cancel()
        for failure in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(failure, Exception):
                raise failure
