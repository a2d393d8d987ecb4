"""The server's HTTP for strangers: a connection is counted, and dropped if it takes too long over a request or answer.

Nothing is set or timed for a request: now and then all connections are looked at, and what was in the middle of the
same request the whole time is late.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tidegate.intake.doors import Door

MOST_HEAD = 64 * 1024
UNREAD_BYTES_PER_S = 500
"""Whoever reads an answer slower is no device: agents themselves give up below 1000 bytes a second."""
_TCP_INFO_BYTES = struct.Struct("=120xQQ")
"""Linux, struct tcp_info: bytes acknowledged by the other side, and received from it."""


class GuardedProtocol(HttpToolsProtocol):
    """HTTP with bounds; `guarded` makes it for one port."""

    door = Door()
    _who: str | None = None
    _taken = 0
    _standing = ""
    _cycle: Any = None
    _since_s = 0.0
    _moved = 0

    def admitted(self, who: str) -> None:
        """Note that the door has let this connection in already, before its handshake."""
        self._who = who

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, or close it at once (called by the loop)."""
        if self._who is None:
            peer = transport.get_extra_info("peername")
            self._who = self.door.enter(peer[0] if isinstance(peer, tuple) else "")
            if self._who is None:
                self.transport = transport
                transport.abort()
                return
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more (called by the loop)."""
        if self._who is not None:
            self.door.leave(self._who)
            self._who = None
        self._cycle = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request (called by the loop)."""
        super().data_received(data)
        in_head = self._in_head()
        if in_head or (self.cycle is not None and self.cycle.more_body):
            self._taken += len(data)
            most = MOST_HEAD if in_head else self.door.most_bytes
            if self._taken > most > 0:
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
        paced = standing == "unread" or (standing == "body" and self.door.body_bytes_per_s > 0)
        if standing != self._standing or (standing != "unread" and cycle is not self._cycle):
            self._standing, self._cycle, self._since_s = standing, cycle, now_s
            self._moved = self._bytes(standing) if paced else 0
            return
        took_s = now_s - self._since_s
        if standing == "idle" and took_s >= self.timeout_keep_alive:
            self.transport.close()
        if standing == "idle" or took_s < self.door.patience_s:
            return
        if paced:
            moved, pace = (
                self._bytes(standing),
                self.door.body_bytes_per_s if standing == "body" else UNREAD_BYTES_PER_S,
            )
            if moved - self._moved >= pace * took_s:
                self._moved, self._since_s = moved, now_s
                return
        self._drop("request" if standing == "body" else standing)

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
