"""HTTP as the agent speaks it, against a real server that answers as badly as servers do."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.wire import Wire, answer

from tidegate.agent.download import Download
from tidegate.agent.transport import HttpRefused, Link, Server
from tidegate.core.errors import BadInput, TidegateError, Untrusted
from tidegate.core.model import Payload
from tidegate.trust.errors import Unreachable


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def test_one_connection_serves_all_requests_and_errors_too(wire: Wire) -> None:
    link = Link(wire.address + "/prefix")
    wire.talk = lambda head: [answer("404 Not Found", b"{}") if b"missing" in head else answer("200 OK", b"yes")]
    for _ in range(3):
        assert link.get("a/b c", 10) == b"yes"
        with pytest.raises(HttpRefused) as refused:
            link.get("missing", 10)
        assert refused.value.status == 404
    assert wire.connections == 1 and wire.requests[0].startswith(b"GET /prefix/a/b%20c HTTP/1.1")


def test_a_connection_that_was_closed_meanwhile_is_made_anew(wire: Wire) -> None:
    wire.talk = lambda head: [answer("200 OK", b"yes"), None]
    link = Link(wire.address)
    assert [link.get("x", 10) for _ in range(3)] == [b"yes"] * 3
    assert wire.connections == 3


def test_what_is_known_is_asked_for_conditionally(wire: Wire) -> None:
    def talk(head: bytes) -> list[bytes | float | None]:
        return [
            answer("304 Not Modified") if b'If-None-Match: "t1"' in head else answer("200 OK", b"yes", 'ETag: "t1"')
        ]

    wire.talk = talk
    link = Link(wire.address)
    assert [link.get("x", 10) for _ in range(3)] == [b"yes"] * 3
    assert [b"If-None-Match" in request for request in wire.requests] == [False, True, True]


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([answer("200 OK", b"x" * 11)], HttpRefused),
        ([b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100, None], HttpRefused),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxx", None], Unreachable),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nxx", 1.0], Unreachable),
        ([b"not http at all\r\n\r\n", None], Unreachable),
        ([None], Unreachable),
        ([1.0], Unreachable),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", *[b"x", 0.2] * 10], Unreachable),
        ([b"HTTP/1.1 200 OK\r\nX-Slow: ", *[b"x", 0.2] * 10], Unreachable),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"0", 0.2] * 10], Unreachable),
        ([answer("301 Moved", b"", "Location: http://elsewhere")], HttpRefused),
        ([answer("503 Down", b"<html>")], HttpRefused),
    ],
    ids=["long", "endless", "cut", "stalls", "rubbish", "hangs-up", "silent", "drips", "head", "size", "moved", "down"],
)
def test_bad_answers_end_soon_and_leave_the_link_usable(
    wire: Wire, pieces: list[bytes | float | None], error: type[TidegateError]
) -> None:
    wire.talk = lambda head: pieces
    slow = any(isinstance(piece, float) for piece in pieces)
    link = Link(wire.address, io_timeout_s=0.4 if slow else 5.0, deadline_s=0.5 if slow else 5.0)
    with pytest.raises(error):
        link.get("x", 10)
    wire.talk = lambda head: [answer("200 OK", b"fine")]
    for _ in range(5):  # so short a deadline may pass by itself on a busy machine
        with suppress(Unreachable):
            assert link.get("x", 10) == b"fine"
            return
    pytest.fail("the link is of no more use")


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unreachable):
        Link(f"http://127.0.0.1:{port}").get("x", 10)
    with pytest.raises(BadInput):
        Link("file:///etc/passwd")


def test_problem_details_become_the_error(wire: Wire) -> None:
    problem = b'{"title": "Busy", "detail": "the log is full", "retry_after_s": 7}'
    wire.talk = lambda head: [answer("503 Busy", problem, "Retry-After: 3", "Content-Type: application/problem+json")]
    with pytest.raises(HttpRefused, match="the log is full") as refused:
        Link(wire.address).post("/v1/announce", b"{}", {})
    assert refused.value.retry_after_s == 7 and refused.value.status == 503


@pytest.mark.parametrize("body", [b"[]", b"nonsense", b'"text"', b"{" * 5000])
def test_an_answer_that_is_no_object_is_refused(wire: Wire, body: bytes) -> None:
    wire.talk = lambda head: [answer("200 OK", body)]
    with pytest.raises(BadInput):
        Link(wire.address).post("/v1/announce", b"{}", {})


def test_too_long_a_message_is_never_sent(wire: Wire) -> None:
    with pytest.raises(BadInput, match="longer"):
        Link(wire.address).post("/v1/reports", b"x" * 70_000, {})
    assert wire.requests == []


def test_the_repository_says_what_trust_expects(wire: Wire) -> None:
    server = Server(wire.address, wire.address + "/repo/", lambda path, body: "Tidegate x")
    wire.talk = lambda head: [answer("404 Not Found")]
    with pytest.raises(FileNotFoundError):
        server.fetch("metadata/2.root.json", 10)
    wire.talk = lambda head: [answer("500 Oh")]
    with pytest.raises(OSError):
        server.fetch("metadata/2.root.json", 10)
    wire.talk = lambda head: [answer("200 OK", b"{}")]
    server.post("/v1/announce", {"a": "é"})
    assert wire.requests[-1].endswith('{"a":"é"}'.encode()) and b"Authorization: Tidegate x" in wire.requests[-1]


CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def payload() -> Payload:
    return Payload(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), 1, 1)


def whole(download: Download) -> bytes:
    while not download.advance(0.0):
        pass
    return download.file.read_bytes()


def test_a_download_comes_in_slices_and_is_resumed(wire: Wire, payload: Payload, tmp_path: Path) -> None:
    directory = tmp_path / "fetch"
    link = Link(wire.address)

    def talk(head: bytes) -> list[bytes | float | None]:
        if b"Range" not in head:  # the first answer is cut in its middle
            return [answer("200 OK", CONTENT)[:200_000], None]
        offset = int(head.split(b"bytes=")[1].split(b"-")[0])
        last = f"Content-Range: bytes {offset}-{len(CONTENT) - 1}/{len(CONTENT)}"
        return [answer("206 Partial Content", CONTENT[offset:], last)]

    wire.talk = talk
    download = Download(link.stream, payload, directory)
    with pytest.raises(Unreachable, match="cut off"):
        whole(download)
    assert 0 < download.progress < 1
    assert whole(Download(link.stream, payload, directory)) == CONTENT
    assert b"Range: bytes=" in wire.requests[-1]
    assert whole(Download(link.stream, payload, directory)) == CONTENT, "what is whole is not fetched again"
    assert len(wire.requests) == 2


def test_a_server_that_ignores_the_range_begins_anew(wire: Wire, payload: Payload, tmp_path: Path) -> None:
    directory = tmp_path
    (directory / f"{payload.sha256}.part").write_bytes(b"old" * 100)
    wire.talk = lambda head: [answer("200 OK", CONTENT)]
    assert whole(Download(Link(wire.address).stream, payload, directory)) == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"\xff\x00", CONTENT[:-1] + b"x"], ids=["longer", "other"])
def test_wrong_content_is_removed(wire: Wire, payload: Payload, tmp_path: Path, content: bytes) -> None:
    wire.talk = lambda head: [answer("200 OK", content)]
    download = Download(Link(wire.address).stream, payload, tmp_path)
    with pytest.raises(Untrusted):
        whole(download)
    assert not download.file.exists()


def test_a_range_that_cannot_be_begins_anew_next_time(wire: Wire, payload: Payload, tmp_path: Path) -> None:
    directory = tmp_path
    (directory / f"{payload.sha256}.part").write_bytes(CONTENT[:1000])
    wire.talk = lambda head: [answer("416 Range Not Satisfiable")]
    download = Download(Link(wire.address).stream, payload, directory)
    with pytest.raises(HttpRefused):
        whole(download)
    assert not download.file.exists()
