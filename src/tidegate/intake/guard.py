"""The server's HTTP for strangers: a connection is counted, and dropped if it takes too long over a request or answer.

Nothing is set or timed for a request: now and then all connections are looked at, and what was in the middle of the
same request the whole time is late.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidegate.intake.doors import Door
from tidegate.intake.room import SLOW_GRACE_S

MOST_HEADERS = 1000
"""Of one request, those behind its body among them, which nobody else counts."""
MOST_HEAD = 64 * 1024
UNREAD_BYTES_PER_S = 500
"""Whoever reads an answer slower is no device: agents themselves give up below 1000 bytes a second."""
_TCP_INFO_BYTES = struct.Struct("=120xQQ")
"""Linux, struct tcp_info: bytes acknowledged by the other side, and received from it."""


class GuardedProtocol(HttpToolsProtocol):
    """HTTP with bounds; `guarded` makes it for one port."""

    door = Door()
    who: str | None = None
    """The address that its place is counted for; None: it has none, or has none any more."""
    _made_s = 0.0
    _taken = 0
    _standing = ""
    _cycle: Any = None
    _since_s = 0.0
    _moved = 0

    def admitted(self, who: str) -> None:
        """Note that the door has let this connection in already, before its handshake."""
        self.who = who

    def leave(self) -> None:
        """Give its place back, once."""
        if self.who is not None:
            self.door.leave(self.who)
            self.who = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, or close it at once (called by the loop)."""
        if self.who is None:
            peer = transport.get_extra_info("peername")
            self.who = self.door.enter(peer[0] if isinstance(peer, tuple) else "")
            if self.who is None:
                self.transport = transport
                transport.abort()
                return
        self._made_s = time.monotonic()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more (called by the loop)."""
        self.leave()
        self._cycle = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request (called by the loop)."""
        super().data_received(data)
        in_head = self._in_head()
        if in_head or (self.cycle is not None and self.cycle.more_body):
            self._taken += len(data)
            most = MOST_HEAD if in_head else self.door.most_bytes
            if self._taken > most > 0 or len(self.headers) > MOST_HEADERS:
                self._drop("size")
        elif self._taken:
            self._taken = 0

    def _in_head(self) -> bool:
        scope = cast("dict[str, Any] | None", self.scope)
        return scope is not None and "method" not in scope

    def on_response_complete(self) -> None:
        """Go on with what came meanwhile (called by a request that has its answer).

        The server would set a timer here, for each request; a line that stands idle is seen by the next look as well.
        """
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()

    @property
    def ends(self) -> bool:
        """Whether it ends by itself: it is closed, and no answer waits for somebody who does not read it."""
        return self.transport.is_closing() and not self.transport.get_write_buffer_size()

    def look(self, now_s: float) -> None:
        """Drop it if what it is in the middle of has taken too long; close it if it has stood idle for long."""
        standing, cycle = self._where(), self.cycle
        if not standing:
            self._standing, self._cycle = "", None
            return
        if not self._noted(standing):
            self._standing, self._cycle, self._since_s = standing, cycle, now_s
            self._moved = self._bytes(standing) if self._paced(standing) else 0
            return
        took_s = now_s - self._since_s
        if standing == "idle" and took_s >= self.timeout_keep_alive:
            self.transport.close()
        if standing == "idle" or took_s < self.door.patience_s:
            return
        if self._paced(standing) and self._keeps_pace(standing, took_s):
            self._moved, self._since_s = self._bytes(standing), now_s
            return
        self._drop("request" if standing == "body" else standing)

    def idle_since(self, now_s: float) -> float | None:
        """Say since when it has held its place for nothing that is ours to do; None: it does not, or is too new."""
        standing = self._where()
        if standing == "request" and self.cycle is None:
            return self._made_s
        if not standing or not self._noted(standing):
            return None
        took_s = now_s - self._since_s
        if self._paced(standing) and (took_s < SLOW_GRACE_S or self._keeps_pace(standing, took_s)):
            return None
        return self._since_s

    def give_up(self) -> None:
        """Make way for somebody else."""
        self.leave()
        self.transport.abort()

    def _noted(self, standing: str) -> bool:
        """Say whether the last look has seen it at just this."""
        return standing == self._standing and (standing == "unread" or self.cycle is self._cycle)

    def _paced(self, standing: str) -> bool:
        return standing == "unread" or (standing == "body" and self.door.body_bytes_per_s > 0)

    def _keeps_pace(self, standing: str, took_s: float) -> bool:
        pace = self.door.body_bytes_per_s if standing == "body" else UNREAD_BYTES_PER_S
        return self._bytes(standing) - self._moved >= pace * took_s

    def _where(self) -> str:
        """Say what it is in the middle of that is not ours to do, or that nothing was asked since the last answer."""
        if self.transport.get_write_buffer_size():
            return "unread"
        cycle = self.cycle
        if cycle is None or (cycle.response_complete and self._in_head()):
            return "request"
        if cycle.response_complete:
            return "idle"
        return "body" if cycle.more_body else ""

    def _bytes(self, standing: str) -> int:
        """Give how many bytes have gone out and were taken, or have come in; less what waits where none can tell."""
        line: socket.socket | None = self.transport.get_extra_info("socket")
        try:
            assert line is not None
            sent, received = _TCP_INFO_BYTES.unpack(line.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136))
        except (AttributeError, AssertionError, OSError, struct.error):
            return -self.transport.get_write_buffer_size()
        return int(sent if standing == "unread" else received)

    def _drop(self, why: str) -> None:
        self.door.dropped[why] += 1
        self.transport.abort()


def guarded(door: Door, base: type[GuardedProtocol] = GuardedProtocol) -> type[GuardedProtocol]:
    """Make the protocol for one port, to be given to its server."""
    return type(base.__name__, (base,), {"door": door})
