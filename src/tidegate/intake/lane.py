"""The short way through the server for the fleet's own requests: same parser and connections, less in between.

A poll of a small file and a posted message need no stream of ASGI events. They are answered here with one write each;
whatever else comes goes the long way, through the application as ASGI. Both ways end in the same code of ours.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, Protocol, cast

import structlog
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from tidegate.intake.grouping import Group
from tidegate.intake.guard import GuardedProtocol
from tidegate.intake.http import MISTAKE, MOST_BODY, Grouped, Reply

_LONG_WAY = frozenset({b"expect", b"transfer-encoding", b"upgrade", b"x-forwarded-for"})
_SHORT = re.compile(rb"/(v1|repo)/[A-Za-z0-9._/-]+\Z")
_WAYS = {b"v1": ("POST", MOST_BODY), b"repo": ("GET", 0)}
"""The method of what goes the short way, and how long its body may be."""
Server = list[tuple[bytes, bytes]]


class ShortApp(Protocol):
    """An application that answers some requests whole."""

    def polled(self, scope: Scope) -> Reply | None:
        """Answer a request for a file at once, or send it the long way (None)."""
        ...

    def posted(self, scope: Scope, body: bytes) -> Coroutine[Any, Any, Reply]:
        """Answer a posted message of at most `MOST_BODY` bytes."""
        ...

    @property
    def grouped(self) -> Mapping[str, Grouped]:
        """What answers messages to an address that come at the same moment, in one go."""
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
    groups: Mapping[str, Group]
    _nobody = asyncio.Event()
    """The server sets it when a request ends; on the short way nobody waits for it."""
    _head: tuple[Server, bytes] = ([], b"")

    def on_message_begin(self) -> None:
        """Begin a request with what the short way needs of it (called by the parser)."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self.scope = cast("Any", {"type": "http", "client": self.client, "headers": self.headers})

    def on_headers_complete(self) -> None:
        """Choose the way (called by the parser)."""
        scope, found = cast("Scope", self.scope), _SHORT.match(self.url)
        method, most = _WAYS[found[1]] if found else ("", 0)
        if not method or not self._may_be_short(method.encode(), most):
            self._go_long()
            return
        scope["method"], scope["path"] = method, self.url.decode("ascii")
        reply = self.short.polled(scope) if method == "GET" else None
        if method == "GET" and reply is None:
            self._go_long()
            return
        self.cycle = cast("Any", _Cycle(self._nobody, reply, keep_alive=cast("Any", self.parser).should_keep_alive()))

    def _may_be_short(self, method: bytes, most: int) -> bool:
        if self.cycle is not None and not self.cycle.response_complete:
            return False  # asked before the last was answered: it waits its turn as the server has it
        parser, length = cast("Any", self.parser), b"0"
        if parser.get_method() != method or parser.get_http_version() != "1.1" or self.flow.write_paused:
            return False
        for name, value in self.headers:
            if name in _LONG_WAY:
                return False
            if name == b"content-length":
                length = value
        return length.isdigit() and int(length) <= most

    def _go_long(self) -> None:
        """Go on as the server does with any request."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers
        super().on_headers_complete()

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
        scope = cast("Scope", self.scope)
        group = self.groups.get(scope["path"])
        if group is not None:
            group.join(scope, bytes(cycle.body), partial(self.answer, cycle), self.run)
        else:
            self.run(self._post(cycle, self.short.posted(scope, bytes(cycle.body))))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Let something go on beside the loop's turns; a server that stops waits for it."""
        task = self.loop.create_task(work)
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _post(self, cycle: _Cycle, answering: Coroutine[Any, Any, Reply]) -> None:
        try:
            reply = await answering
        except Exception:
            structlog.get_logger().exception("request failed")
            reply = MISTAKE
        self.answer(cycle, reply)

    def answer(self, cycle: _Cycle, reply: Reply) -> None:
        """Answer a request, as soon as the other side reads."""
        if self.flow.write_paused and not cycle.disconnected:
            self.run(self._answer_later(cycle, reply))
        else:
            self._finish(cycle, reply)

    async def _answer_later(self, cycle: _Cycle, reply: Reply) -> None:
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
    groups = {path: Group(answer) for path, answer in app.grouped.items()}
    return type("Lane", (LaneProtocol,), {"short": app, "groups": groups})
