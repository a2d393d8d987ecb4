"""A port that is listened on: it outlives a time without files, and counts who has not said hello over TLS yet."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import cast

import structlog

from tidegate.intake.doors import Door
from tidegate.intake.guard import GuardedProtocol

BACKLOG = 4096
"""More wait for the system's own (somaxconn)."""
ACCEPTED_AT_ONCE = 64
GOODBYE_S = 5.0
"""Over TLS a polite end waits for the other side's; so long."""
Make = Callable[[], GuardedProtocol]


class _Greeting:
    """Somebody who has not finished a handshake; holds a place (see `room.Seat`)."""

    def __init__(self, made: GuardedProtocol, line: socket.socket) -> None:
        self.made, self.line = made, line
        self.task: asyncio.Task[None] | None = None
        self._began_s = time.monotonic()

    @property
    def who(self) -> str | None:
        return self.made.who

    def idle_since(self, now_s: float) -> float | None:
        made = cast("asyncio.Transport | None", self.made.transport)
        return self._began_s if made is None else None  # from its end on it counts for itself

    def give_up(self) -> None:
        self.made.leave()
        if self.task is not None:
            self.task.cancel()


class Listening:
    """A listening socket, and the loop's server on it. `tend` must be called now and then.

    A loop that cannot accept for want of a file may give up its server for good (uvloop does), so the socket is ours
    and the server gets a copy of it.
    """

    def __init__(self, line: socket.socket, make: Make, door: Door, context: ssl.SSLContext | None) -> None:
        self._line, self._make, self._door = line, make, door
        self._more = {"ssl": context, "ssl_handshake_timeout": door.patience_s} if context else {}
        self._copy: socket.socket | None = None
        self._server: asyncio.AbstractServer | None = None
        self._closed = False

    @property
    def sockets(self) -> list[socket.socket]:
        """The socket, for whoever asks for its address."""
        return [self._line]

    async def tend(self) -> None:
        """Begin to listen, or begin again."""
        if self._closed or (self._copy is not None and self._copy.fileno() >= 0):
            return
        if self._copy is not None:
            failed(self._door, "the loop has given up the port")
        with contextlib.suppress(OSError):
            self._copy = self._line.dup()
            self._server = await asyncio.get_running_loop().create_server(
                self._make, sock=self._copy, backlog=BACKLOG, **self._more
            )

    def close(self) -> None:
        """Listen no more."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        self._line.close()

    def greeted(self) -> Iterable[_Greeting]:
        """Give who is in the middle of a handshake: here the loop has them."""
        return ()

    async def wait_closed(self) -> None:
        """Wait until the loop has ended its server."""
        if self._server is not None:
            await self._server.wait_closed()


class TlsListening:
    """A listening socket that is accepted from here: whoever has not finished a handshake holds a file already."""

    def __init__(self, line: socket.socket, make: Make, door: Door, context: ssl.SSLContext) -> None:
        self._line, self._make, self._door, self._context = line, make, door, context
        self._loop = asyncio.get_running_loop()
        self._greeting: set[_Greeting] = set()
        self._reads = self._closed = False

    @property
    def sockets(self) -> list[socket.socket]:
        """The socket, for whoever asks for its address."""
        return [self._line]

    async def tend(self) -> None:
        """Begin to listen, or begin again."""
        if not self._closed and not self._reads:
            self._line.listen(BACKLOG)
            self._loop.add_reader(self._line.fileno(), self._accept)
            self._reads = True

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                line, address = self._line.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                failed(self._door, str(error))
                self._rest()  # until it is tended next
                return
            who = self._door.enter(str(address[0]))
            if who is None:
                line.close()
                continue
            line.setblocking(False)
            greeting = _Greeting(self._make(), line)
            greeting.made.admitted(who)
            greeting.task = self._loop.create_task(self._greet(greeting))
            self._greeting.add(greeting)
            # Not by the task itself: one that is cancelled before its first step takes none.
            greeting.task.add_done_callback(lambda _, ended=greeting: self._greeting.discard(ended))

    async def _greet(self, greeting: _Greeting) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: greeting.made,
                greeting.line,
                ssl=self._context,
                ssl_handshake_timeout=self._door.patience_s,
                ssl_shutdown_timeout=GOODBYE_S,
            )
        except BaseException as error:  # not made, so nobody will say that it was lost
            self._door.dropped["handshake"] += isinstance(error, TimeoutError | ConnectionAbortedError)
            greeting.made.leave()
            greeting.line.close()
            if not isinstance(error, OSError | EOFError):
                raise

    def _rest(self) -> None:
        if self._reads:
            self._loop.remove_reader(self._line.fileno())
            self._reads = False

    def close(self) -> None:
        """Listen no more, and greet nobody any more."""
        self._rest()
        self._closed = True
        self._line.close()
        for greeting in list(self._greeting):
            greeting.give_up()

    def greeted(self) -> Iterable[_Greeting]:
        """Give who is in the middle of a handshake."""
        return self._greeting

    async def wait_closed(self) -> None:
        """Wait until nobody is being greeted."""
        tasks = [greeting.task for greeting in self._greeting if greeting.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)


def failed(door: Door, trouble: str) -> None:
    """Count that no connection could be accepted; the diary hears of it once in a while."""
    if door.failures % 100 == 0:
        structlog.get_logger().error("cannot accept connections", port=door.name, trouble=trouble)
    door.failures += 1


def open_lines(host: str, port: int) -> list[socket.socket]:
    """Bind a host's addresses, as a loop's own servers do. Raises OSError."""
    kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
    found = dict.fromkeys(socket.getaddrinfo(host, port, type=kind, flags=flags))
    lines: list[socket.socket] = []
    try:
        for family, _, _, _, address in found:
            line = socket.socket(family, kind)
            lines.append(line)
            line.setblocking(False)
            if os.name == "posix":
                line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                line.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            line.bind(address)
    except OSError:
        for line in lines:
            line.close()
        raise
    return lines


def listening_on(
    line: socket.socket, make: Make, door: Door, context: ssl.SSLContext | None
) -> Listening | TlsListening:
    """Give what listens on a bound socket; `tend` begins."""
    if context is None or os.name != "posix":
        return Listening(line, make, door, context)
    return TlsListening(line, make, door, context)
