"""The short way through the server for the fleet's own requests: same parser and connections, less in between.

A poll of a small file and a posted message need no stream of ASGI events. They are answered here with one write each;
whatever else comes goes the long way, through the application as ASGI. Both ways end in the same code of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, cast

import structlog
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from tidegate.intake.guard import GuardedProtocol
from tidegate.intake.http import MOST_BODY, Reply, problem

_LONG_WAY = frozenset({b"expect", b"transfer-encoding", b"upgrade", b"x-forwarded-for"})
_METHODS = {b"/repo/": b"GET", b"/v1/": b"POST"}
Server = list[tuple[bytes, bytes]]


class ShortApp(Protocol):
    """An application that answers some requests whole."""

    def polled(self, scope: Scope) -> Reply | None:
        """Answer a request for a file at once, or send it the long way (None)."""
        ...

    def posted(self, scope: Scope, body: bytes) -> Coroutine[Any, Any, Reply]:
        """Answer a posted message of at most `MOST_BODY` bytes."""
        ...


class _Cycle:
    """One request on the short way, with what the server looks at in any request."""

    __slots__ = ("body", "disconnected", "keep_alive", "message_event", "more_body", "reply", "response_complete")

    def __init__(self, event: asyncio.Event, reply: Reply | None, *, keep_alive: bool) -> None:
        self.message_event, self.reply, self.keep_alive = event, reply, keep_alive
        self.body = bytearray()
        self.more_body, self.disconnected, self.response_complete = True, False, False


class LaneProtocol(GuardedProtocol):
    """The server's HTTP with a short way; `lane_for` makes it for one application."""

    short: ShortApp
    _nobody = asyncio.Event()
    """The server sets it when a request ends; on the short way nobody waits for it."""
    _head: tuple[Server, bytes] = ([], b"")

    def on_headers_complete(self) -> None:
        """Choose the way (called by the parser)."""
        reply: Reply | None = None
        polls = self.url.startswith(b"/repo/")
        if self._may_be_short(b"/repo/" if polls else b"/v1/"):
            scope = cast("Scope", self.scope)
            scope["method"], scope["path"] = "GET" if polls else "POST", self.url.decode("ascii")
            reply = self.short.polled(scope) if polls else None
            if reply is not None or not polls:
                cycle = _Cycle(self._nobody, reply, keep_alive=cast("Any", self.parser).should_keep_alive())
                self.cycle = cast("Any", cycle)
                return
        super().on_headers_complete()

    def _may_be_short(self, prefix: bytes) -> bool:
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # asked before the last was answered: it waits its turn as the server has it
        url, parser = self.url, cast("Any", self.parser)
        if not url.startswith(prefix) or not url.isascii() or b"%" in url or b"?" in url or b"#" in url:
            return False
        if parser.get_method() != _METHODS[prefix] or parser.get_http_version() != "1.1" or self.flow.write_paused:
            return False
        length = b"0"
        for name, value in self.headers:
            if name in _LONG_WAY:
                return False
            if name == b"content-length":
                length = value
        return length.isdigit() and int(length) <= (MOST_BODY if prefix == b"/v1/" else 0)

    def on_message_complete(self) -> None:
        """Answer, or begin to (called by the parser)."""
        cycle: Any = self.cycle
        if type(cycle) is not _Cycle:
            super().on_message_complete()
            return
        cycle.more_body = False
        if cycle.reply is not None:
            self._finish(cycle, cycle.reply)
            return
        task = self.loop.create_task(self._post(cycle, self.short.posted(cast("Scope", self.scope), bytes(cycle.body))))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _post(self, cycle: _Cycle, answering: Coroutine[Any, Any, Reply]) -> None:
        try:
            reply = await answering
        except Exception:
            structlog.get_logger().exception("request failed")
            reply = problem(500, "Error", "the server made a mistake, which is in its log; try again later")
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        self._finish(cycle, reply)

    def _finish(self, cycle: _Cycle, reply: Reply) -> None:
        if not cycle.disconnected:
            self.transport.write(self._written(reply, cycle.keep_alive))
        cycle.response_complete = True
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _written(self, reply: Reply, keep_alive: bool) -> bytes:
        return b"".join(
            (
                STATUS_LINE[reply.status],
                self._server_head(),
                reply.head(),
                b"\r\n" if keep_alive else b"connection: close\r\n\r\n",
                reply.body,
            )
        )

    def _server_head(self) -> bytes:
        """Give the server's own headers, which it makes anew once a second."""
        known, written = LaneProtocol._head
        if known is not self.server_state.default_headers:
            known = self.server_state.default_headers
            written = b"".join(name + b": " + value + b"\r\n" for name, value in known)
            LaneProtocol._head = known, written
        return written


def lane_for(app: ShortApp) -> type[LaneProtocol]:
    """Make the protocol for an application, to be given to the server beside it."""
    return type("Lane", (LaneProtocol,), {"short": app})
