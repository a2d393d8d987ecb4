"""A collector's process, and what all servers of `tidegate serve` are made with."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any

import uvicorn

from tidegate.cli.home import Home
from tidegate.cli.serve_tls import Tls
from tidegate.core.errors import NotFound, Refused
from tidegate.intake.app import IntakeApp
from tidegate.intake.collector import CollectorApp
from tidegate.intake.lane import lane_for
from tidegate.intake.limits import Rates
from tidegate.trust.durable import write_durably
from tidegate.trust.epochs import SecretsFile

GRACE_S = 5
CUT_EVERY_S = 0.3
GARBAGE = (20_000, 20, 100)
"""A busy second makes tens of thousands of objects, hardly ever in circles."""
SWITCH_S = 0.0005
"""The thread that appends waits so long for its turn behind a busy loop, several times a batch."""
LOOK_EVERY_S = 0.2


class OneServer(uvicorn.Server):
    """A server among several in one process: signals are taken once, for all."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def listen(self) -> None:
        """Serve until told to stop. Raises Refused if its port cannot be opened."""
        try:
            await self.serve()
        except SystemExit as error:
            raise Refused("a port could not be opened; is another server running? see the line above") from error

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop as uvicorn does, but hold nothing up for a line that is kept open and asks for nothing.

        Over TLS a polite end waits until the other side has said goodbye too, which an idle client never does.
        """
        cutting = asyncio.create_task(self._cut_idle())
        try:
            await super().shutdown(sockets)
        finally:
            cutting.cancel()

    async def _cut_idle(self) -> None:
        while True:
            await asyncio.sleep(CUT_EVERY_S)
            for line in list(self.server_state.connections):
                cycle, transport = getattr(line, "cycle", None), getattr(line, "transport", None)
                if transport is None or (cycle is not None and not cycle.response_complete):
                    continue
                if transport.get_write_buffer_size() == 0:
                    transport.abort()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.servers[0].sockets[0].getsockname()[1])


def make_server(app: Any, end: tuple[str, int], tls: Tls) -> OneServer:
    """Make a server for an application at a host and port; a devices' port has the short way besides."""
    more: dict[str, Any] = {"http": lane_for(app)} if isinstance(app, IntakeApp | CollectorApp) else {}
    return OneServer(
        uvicorn.Config(
            app,
            *end,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=GRACE_S,
            **more,
            **tls.for_server,
        )
    )


def run_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run a server: on uvloop where there is one, which answers about twice as many."""
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()  # what is here stays; to look through it again and again finds nothing
    gc.set_threshold(*GARBAGE)
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(work)
        return
    uvloop.run(work)


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


async def serve_collector(place: Home, controllers: list[str], end: tuple[str, int], tls: Tls, rates: Rates) -> None:
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
    server = make_server(app, end, tls)
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
