"""A line that stands idle after its answers is closed, one that asks is not; no request sets a timer for that."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from tidegate.intake.doors import Door
from tidegate.intake.guard import guarded

pytestmark = pytest.mark.room("intake")
ASK = b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n"


class Wire(asyncio.Transport):
    """The other end of a line: what was written to it, and whether it was closed or broken off."""

    def __init__(self) -> None:
        self.written, self.closed, self.aborted = b"", False, False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 5), "sockname": ("192.0.2.2", 6)}.get(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def line() -> tuple[Any, Wire, Door]:
    door = Door("devices", patience_s=30.0)
    config = uvicorn.Config(app, http=guarded(door), lifespan="off", log_config=None)
    config.load()
    protocol: Any = config.http_protocol_class(config=config, server_state=ServerState(), app_state={})  # type: ignore[call-arg, operator]
    wire = Wire()
    protocol.connection_made(wire)
    return protocol, wire, door


def run(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 60))


async def answered(wire: Wire, count: int) -> None:
    while wire.written.count(b"HTTP/1.1 204") < count:
        await asyncio.sleep(0)


def test_an_idle_line_is_closed_politely_and_not_counted_as_dropped() -> None:
    async def scene() -> None:
        protocol, wire, door = line()
        protocol.data_received(ASK)
        await answered(wire, 1)
        assert protocol.timeout_keep_alive_task is None
        for now_s in (100.0, 103.0, 104.9):
            protocol.look(now_s)
            assert not wire.closed
        protocol.look(105.1)
        assert wire.closed
        assert not wire.aborted
        assert not door.dropped

    run(scene())


def test_a_line_that_asks_now_and_then_stays_open() -> None:
    async def scene() -> None:
        protocol, wire, _ = line()
        for number in range(1, 11):
            protocol.data_received(ASK)
            await answered(wire, number)
            protocol.look(100.0 + 4 * number)
        assert not wire.is_closing()
        assert protocol.server_state.total_requests == 10

    run(scene())


def test_requests_that_came_at_once_are_all_answered() -> None:
    async def scene() -> None:
        protocol, wire, _ = line()
        protocol.data_received(ASK * 5)
        await answered(wire, 5)
        protocol.look(100.0)
        protocol.look(106.0)
        assert wire.closed

    run(scene())


def test_a_head_that_was_begun_after_an_answer_has_patience_and_no_more() -> None:
    async def scene() -> None:
        protocol, wire, door = line()
        protocol.data_received(ASK + ASK[:9])
        await answered(wire, 1)
        protocol.look(100.0)
        protocol.look(129.0)
        assert not wire.is_closing(), "it is in the middle of a request, and not idle"
        protocol.look(131.0)
        assert wire.aborted
        assert door.dropped["request"] == 1

    run(scene())
