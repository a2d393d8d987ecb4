"""A server that leads astray: redirects, packed and endless answers, headers without end; on devices and at the server.

Real servers on loopback, in front of the agent's own HTTP and of what the control plane asks strangers with.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import httpx
import pytest
from tests.wire import Wire, answer

from tidegate.agent.transport import HttpRefused, Link, Server
from tidegate.control.strangers import Asker, ask
from tidegate.core.errors import TidegateError
from tidegate.trust.errors import Unreachable

pytestmark = [pytest.mark.room("agent"), pytest.mark.room("control")]
CREDENTIAL = "Tidegate 1.0.secret"
BOMB, DEFLATED = gzip.compress(bytes(10_000_000)), zlib.compress(bytes(10_000_000))
Pieces = list[bytes | float | None]


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.fixture
def elsewhere() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent", "300 Many"]
)
@pytest.mark.parametrize("to", ["other host", "same host", "file:///etc/passwd", "//{host}/x", "ftp://127.0.0.1/x"])
def test_a_redirect_is_followed_nowhere_and_the_credential_stays_here(
    wire: Wire, elsewhere: Wire, status: str, to: str
) -> None:
    host = elsewhere.address.removeprefix("http://")
    place = {"other host": elsewhere.address, "same host": wire.address + "/x"}.get(to, to.format(host=host))
    wire.talk = lambda head: [answer(status, b"moved", f"Location: {place}")]
    link = Link(wire.address)
    with pytest.raises(HttpRefused) as refused:
        link.post("/v1/announce", b"{}", {"Authorization": CREDENTIAL})
    assert refused.value.status == int(status[:3])
    with pytest.raises(HttpRefused):
        link.get("metadata/timestamp.json", 1000)
    with pytest.raises(HttpRefused):
        list(link.stream("payloads/x.tar", 0))
    link.close()
    assert elsewhere.connections == 0
    assert len(wire.requests) == 3 and all(b"GET /x " not in request for request in wire.requests)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
@pytest.mark.parametrize("header", ["Content-Encoding", "Transfer-Encoding"])
def test_a_packed_answer_is_never_inflated(wire: Wire, coding: str, header: str) -> None:
    """What comes is what is hashed: 10 MB in 10 kB stay 10 kB, and are no file that anybody signed."""
    packed = DEFLATED if coding == "deflate" else BOMB
    wire.talk = lambda head: [answer("200 OK", packed, f"{header}: {coding}")]
    link = Link(wire.address)
    assert link.get("metadata/timestamp.json", len(packed)) == packed
    with pytest.raises(HttpRefused, match="more than the 1000 bytes"):
        link.get("metadata/timestamp.json", 1000)
    assert b"".join(link.stream("payloads/x.tar", 0)) == packed
    link.close()
    assert all(b"Accept-Encoding: identity" in request for request in wire.requests)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ODD: dict[str, Pieces] = {
    "a chunk of 2^60": [CHUNKED + b"1000000000000000\r\n" + b"x" * 200_000, None],
    "a chunk below nothing": [CHUNKED + b"-5\r\nxxxxx\r\n0\r\n\r\n", None],
    "a chunk that is no number": [CHUNKED + b"zz\r\nxx\r\n0\r\n\r\n", None],
    "a line of a chunk without end": [CHUNKED + b"5;" + b"x" * 200_000, None],
    "a chunk that is cut": [CHUNKED + b"64\r\nxx", None],
    "chunks of one byte without end": [CHUNKED, *[b"1\r\nx\r\n" * 1000] * 20, None],
    "headers without end": [b"HTTP/1.1 200 OK\r\n", *[b"X-%d: y\r\n" % n for n in range(200)], b"\r\n"],
    "a header of a megabyte": [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n"],
    "a status of a megabyte": [b"HTTP/1.1 200 " + b"y" * 1_000_000 + b"\r\n\r\n"],
    "go on, for ever": [b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, *[b"HTTP/1.1 100 Continue\r\n\r\n", 0.05] * 100],
    "trailers without end": [CHUNKED + b"0\r\n", *[b"X: y\r\n", 0.05] * 100],
    "a length below nothing": [b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + b"x" * 5000, None],
    "a length beyond all": [b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx", None],
    "not modified, though nothing is known": [answer("304 Not Modified", b"")],
    "a part that was not asked for": [answer("206 Partial Content", b"x" * 5000, "Content-Range: bytes 0-9/10")],
    "no HTTP": [b"\x16\x03\x01\x00\x05hello", None],
}


@pytest.mark.parametrize("pieces", ODD.values(), ids=ODD)
def test_an_answer_that_breaks_the_rules_is_refused_and_never_held(wire: Wire, pieces: Pieces) -> None:
    wire.talk = lambda head: pieces
    drips = any(isinstance(piece, float) for piece in pieces)
    link = Link(wire.address, io_timeout_s=5.0, deadline_s=0.2 if drips else 60.0)
    with pytest.raises(TidegateError) as refused:
        link.get("metadata/timestamp.json", 1000)
    assert isinstance(refused.value, HttpRefused | Unreachable)
    assert len(str(refused.value)) < 700
    link.close()


@pytest.mark.parametrize(
    "problem",
    [
        {"retry_after_s": 1e308}, {"retry_after_s": "inf"}, {"retry_after_s": [1]}, {"retry_after_s": -5},
        {"last_seq": "7"}, {"last_seq": 1.5}, {"renew": "yes"}, {"detail": ["x"]}, {"detail": {"a": 1}},
    ],
)  # fmt: skip
def test_a_refusal_that_says_odd_things_says_nothing(wire: Wire, problem: dict[str, Any]) -> None:
    wire.talk = lambda head: [answer("503 Busy", json.dumps(problem).encode())]
    with pytest.raises(HttpRefused) as refused:
        Link(wire.address).post("/v1/announce", b"{}", {})
    found = refused.value
    assert (found.retry_after_s, found.last_seq, found.renew) == (None, None, False)


def test_a_name_from_signed_metadata_cannot_break_out_of_the_request_line(wire: Wire) -> None:
    wire.talk = lambda head: [answer("404 Not Found", b"{}")]
    server = Server(wire.address, wire.address, lambda path, body: CREDENTIAL)
    for name in ("x HTTP/1.1\r\nHost: evil\r\n\r\nGET /y", "x\r\nX-Own: 1", "x?y#z", "\u2028", "x%0d%0aX: 1"):
        with pytest.raises(FileNotFoundError):
            server.fetch(name, 1000)
    server.close()
    for request in wire.requests:
        assert request.count(b"Host:") == 1 and b"X-Own" not in request.partition(b"\r\n")[2]
        assert CREDENTIAL.encode() not in request  # files are for everybody: no credential goes with them


# --- what the server and its operators ask of strangers -------------------------------------------------------------


def _both(url: str, most: int, deadline_s: float) -> list[Callable[[], Any]]:
    async def in_a_loop() -> Any:
        async with httpx.AsyncClient(timeout=5, follow_redirects=False) as client:
            return await ask(client, "GET", url, most=most, deadline_s=deadline_s)

    def now() -> Any:
        with Asker() as asker:
            return asker.ask("GET", url, most=most, deadline_s=deadline_s)

    return [lambda: asyncio.run(in_a_loop()), now]


UNFIT: dict[str, Pieces] = {
    "endless": [b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 100_000] * 50, None],
    "longer than it says it may be": [answer("200 OK", b"x" * 1001)],
    "endless chunks": [CHUNKED, *[b"1\r\nx\r\n" * 2000] * 20, None],
    "packed": [answer("200 OK", BOMB, "Content-Encoding: gzip")],
    "packed twice": [answer("200 OK", b"x", "Content-Encoding: gzip, gzip")],
    "drips": [b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", *[b"x", 0.05] * 30],
    "never begins": [b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n", 0.05] * 15, None],
    "refuses endlessly": [b"HTTP/1.1 500 No\r\n\r\n", *[b"x" * 100_000] * 50, None],
}


@pytest.mark.parametrize("pieces", UNFIT.values(), ids=UNFIT)
def test_what_a_stranger_answers_is_read_within_bounds(wire: Wire, pieces: Pieces) -> None:
    wire.talk = lambda head: pieces
    drips = any(isinstance(piece, float) for piece in pieces)
    for attempt in _both(wire.address, 1000, 0.3 if drips else 60.0):
        with pytest.raises(httpx.HTTPError):
            attempt()


def test_a_head_that_drips_ends_at_the_deadline(wire: Wire) -> None:
    ended: list[bool] = []

    def talk(head: bytes) -> Pieces:
        def pieces() -> Iterator[bytes | float | None]:
            yield b"HTTP/1.1 200 OK\r\n"
            for _ in range(600):
                yield from (b"X: y\r\n", 0.1)
            ended.append(True)
            yield b"Content-Length: 2\r\n\r\nok"

        return cast("Pieces", pieces())

    wire.talk = talk
    for attempt in _both(wire.address, 1000, 0.3):
        with pytest.raises(httpx.HTTPError, match="took more than"):
            attempt()
    assert not ended, "it was given up while the head still dripped"


def test_a_stranger_that_is_honest_is_heard_and_redirects_nobody(wire: Wire, elsewhere: Wire) -> None:
    wire.talk = lambda head: [answer("200 OK", b"x" * 1000)]
    for attempt in _both(wire.address, 1000, 60.0):
        assert attempt() == (200, b"x" * 1000)
    wire.talk = lambda head: [answer("307 Moved", b"", f"Location: {elsewhere.address}")]
    for attempt in _both(wire.address, 1000, 60.0):
        assert attempt() == (307, b"")
    assert elsewhere.connections == 0
