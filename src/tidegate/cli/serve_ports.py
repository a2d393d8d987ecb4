"""The ports of `tidegate serve`: HTTP servers in one process that end together, and how many may come to them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, cast

import uvicorn

from tidegate.cli.serve_tls import Tls
from tidegate.core.errors import BadInput, Refused
from tidegate.intake.app import IntakeApp
from tidegate.intake.collector import CollectorApp
from tidegate.intake.doors import Door
from tidegate.intake.guard import GuardedProtocol, guarded
from tidegate.intake.lane import lane_for
from tidegate.intake.listening import Listening, TlsListening, listening_on, open_lines
from tidegate.intake.room import Room, Seat

GRACE_S = 5
CUT_EVERY_S = 0.3
GARBAGE = (20_000, 20, 100)
"""A busy second makes tens of thousands of objects, hardly ever in circles."""
SWITCH_S = 0.0005
"""The thread that appends waits so long for its turn behind a busy loop, several times a batch."""
TEND_S = 0.2
LOOKED_S = 3.0
LOOKED_AT_ONCE = 500


class OneServer(uvicorn.Server):
    """A server among several in one process: signals are taken once, for all."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    def __init__(self, config: uvicorn.Config, door: Door) -> None:
        super().__init__(config)
        self.door = door
        self._listening: list[Listening | TlsListening] = []

    async def listen(self) -> None:
        """Serve until told to stop. Raises Refused if its port cannot be opened."""
        looking = asyncio.create_task(self._look())
        try:
            await self.serve()
        finally:
            looking.cancel()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port: as uvicorn does, and so that what it costs is bounded. Raises Refused."""
        await self.lifespan.startup()
        config = self.config

        def make() -> GuardedProtocol:
            protocol: Any = config.http_protocol_class
            return cast(GuardedProtocol, protocol(config, self.server_state, self.lifespan.state))

        try:
            lines = open_lines(config.host, config.port)
        except OSError as error:
            where = f"{config.host}:{config.port}"
            raise Refused(
                f"the port {where} could not be opened: {error.strerror}; is another server running?"
            ) from error
        self._listening = [listening_on(line, make, self.door, config.ssl) for line in lines]
        self.door.make_room = Room(self._seats).make
        for each in self._listening:
            await each.tend()
        self.servers = cast("list[asyncio.Server]", self._listening)
        self.started = True

    def _seats(self) -> Iterator[Seat]:
        for line in self.server_state.connections:
            if isinstance(line, GuardedProtocol) and not line.ends:
                yield line
        for each in self._listening:
            yield from each.greeted()

    async def _look(self) -> None:
        """Look after the port, and at who takes too long; some connections at a time, as others wait meanwhile."""
        every_s = min(max(self.door.patience_s / 10, TEND_S), LOOKED_S)
        due_s = time.monotonic() + every_s
        while True:
            await asyncio.sleep(TEND_S)
            for each in self._listening:
                await each.tend()
            if (now_s := time.monotonic()) < due_s:
                continue
            due_s = now_s + every_s
            for number, line in enumerate(list(self.server_state.connections)):
                if isinstance(line, GuardedProtocol) and not line.ends:
                    line.look(now_s)
                if number % LOOKED_AT_ONCE == 0:
                    await asyncio.sleep(0)

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


def host_port(what: str, text: str) -> tuple[str, int]:
    """Read HOST:PORT, of this machine alone where no host is named. Raises BadInput naming `what` it is for."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise BadInput(f"{what} must be HOST:PORT, not {text!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


def make_server(app: Any, end: tuple[str, int], tls: Tls, door: Door | None = None) -> OneServer:
    """Make a server for an application at a host and port; a devices' port has the short way besides."""
    door = door or Door()
    base = lane_for(app) if isinstance(app, IntakeApp | CollectorApp) else GuardedProtocol
    config = uvicorn.Config(
        app,
        *end,
        http=guarded(door, base),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_S,
        **tls.for_server,
    )
    return OneServer(config, door)


async def until_told(server: OneServer, opened: Callable[[int], None]) -> None:
    """Serve on one port until SIGINT or SIGTERM; `opened` is told its number. Raises Refused if it cannot be opened."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows, where Ctrl-C ends the loop
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work = asyncio.create_task(server.listen())
    while not server.started and not work.done():
        await asyncio.sleep(0.01)
    if server.started:
        opened(server.port)
    await asyncio.wait([asyncio.create_task(stop.wait()), work], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    await work


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
