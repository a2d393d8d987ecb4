"""The short way answers as the long way does, and leaves everything else to it."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator

import pytest
from tests.server import Device, World

from tidegate.intake.http import MOST_BODY, write_head
from tidegate.intake.lane import LaneProtocol
from tidegate.trust.credentials import authorization

pytestmark = pytest.mark.room("intake")

ANNOUNCE = json.dumps({"rollout": "r", "plan_version": 0, "installed": None, "seq": 1, "attempt": 1}).encode()
LONG = ("x-forwarded-for: 127.0.0.1",)
"""A request with this header goes the long way."""


@pytest.fixture(scope="module")
def device(still: World) -> Device:
    return still.enrol()


class Line:
    """One connection, spoken byte by byte."""

    def __init__(self, world: World) -> None:
        port = world.devices.base_url.port
        assert port is not None
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.rest = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer."""
        while b"\r\n\r\n" not in self.rest:
            self.rest += self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        size = int(headers.get("content-length", "0"))
        while len(self.rest) < size:
            self.rest += self._more()
        body, self.rest = self.rest[:size], self.rest[size:]
        return int(status.split()[1]), headers, body

    def ended(self) -> bool:
        """Whether the server has closed, and said nothing more."""
        return not self.rest and not self.socket.recv(1)

    def _more(self) -> bytes:
        found = self.socket.recv(65536)
        assert found, "the server hung up"
        return found


@pytest.fixture
def line(still: World, ways: list[bool]) -> Iterator[Line]:
    del ways  # the server's parser takes its methods when the connection is made: the watch must be there before
    found = Line(still)
    yield found
    found.socket.close()


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes for each request with its headers whether it went the short way."""
    seen: list[bool] = []
    ask = LaneProtocol.on_headers_complete

    def watch(self: LaneProtocol) -> None:
        ask(self)
        seen.append(type(self.cycle).__name__ == "_Cycle")

    monkeypatch.setattr(LaneProtocol, "on_headers_complete", watch)
    return seen


def post(device: Device, body: bytes, *more: str, path: str = "/v1/announce", version: str = "1.1") -> bytes:
    device.seq += 1
    header = authorization(device.credential, device.seq, path, body)
    lines = [f"POST {path} HTTP/{version}", "host: x", f"authorization: {header}", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, *more, "", ""]).encode() + body


def get(path: str, *more: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: x", *more, "", ""]).encode()


def _told(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "date"}


def test_both_ways_say_the_same(still: World, device: Device, line: Line, ways: list[bool]) -> None:
    asked = [
        (get("/repo/metadata/timestamp.json"), get("/repo/metadata/timestamp.json", *LONG)),
        (post(device, ANNOUNCE), post(device, ANNOUNCE, *LONG)),
        (post(device, b"nonsense"), post(device, b"nonsense", *LONG)),
        (post(device, ANNOUNCE, path="/v1/nothing"), post(device, ANNOUNCE, *LONG, path="/v1/nothing")),
        (b"POST /v1/reports HTTP/1.1\r\n\r\n", f"POST /v1/reports HTTP/1.1\r\n{LONG[0]}\r\n\r\n".encode()),
    ]
    statuses = []
    for pair in asked:
        answers = []
        for request in pair:
            line.send(request)
            answers.append(line.reply())
        (status, headers, body), (other_status, other_headers, other_body) = answers
        assert (status, _told(headers)) == (other_status, _told(other_headers))
        assert re.sub(rb"\d+ is older", b"", body) == re.sub(rb"\d+ is older", b"", other_body)
        assert "date" in headers and "date" in other_headers
        statuses.append(status)
    assert statuses == [200, 404, 400, 404, 401]
    assert ways == [True, False] * 5


@pytest.mark.parametrize(
    "request_",
    [
        get("/repo/metadata/timestamp.json", "range: bytes=0-3"),
        get("/repo/metadata/timestamp.json", "if-none-match: x"),
        get("/repo/metadata/timestamp.json?x=1"),
        get("/repo/metadata/%74imestamp.json"),
        get("/repo/metadata/../metadata/timestamp.json"),
        get("/repo/nothing.json"),
        get("/repo/metadata/timestamp.json", method="HEAD"),
        get("/v1/reports"),
        get("/elsewhere"),
        b"POST /repo/metadata/timestamp.json HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
        b"POST /v1/reports HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"POST /v1/reports HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n{}",
        b"GET /repo/metadata/timestamp.json HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
    ],
    ids=lambda found: found.split(b" HTTP")[0].decode() + f" {len(found)}",
)
def test_what_is_not_plain_goes_the_long_way(line: Line, ways: list[bool], request_: bytes) -> None:
    line.send(request_)
    if request_.startswith(b"HEAD"):
        assert b"200 OK" in line.socket.recv(4096)
    else:
        status = line.reply()[0]
        assert status == 100 or status in (200, 206, 401, 404, 405)
    assert ways == [False]


def test_a_body_that_is_too_large_is_refused(still: World, device: Device, line: Line, ways: list[bool]) -> None:
    line.send(post(device, b" " * (MOST_BODY + 1)))
    assert line.reply()[0] == 413
    assert ways == [False]
    other = Line(still)
    other.send(post(device, ANNOUNCE.ljust(MOST_BODY)))
    assert other.reply()[0] == 404  # read whole: there is no such rollout
    assert ways == [False, True]
    other.socket.close()


def test_many_in_one_packet_are_answered_in_their_order(device: Device, line: Line, ways: list[bool]) -> None:
    poll = get("/repo/metadata/timestamp.json")
    line.send(poll + post(device, b"nonsense") + poll + post(device, ANNOUNCE) + poll)
    assert [line.reply()[0] for _ in range(5)] == [200, 400, 200, 404, 200]
    assert ways[:2] == [True, True]  # what came while one was being answered had to wait its turn
    line.send(poll)
    assert line.reply()[0] == 200
    assert ways[-1]


def test_a_request_in_single_bytes(device: Device, line: Line) -> None:
    for byte in post(device, ANNOUNCE):
        line.send(bytes([byte]))
    assert line.reply()[0] == 404


def test_who_says_close_is_left(device: Device, line: Line, ways: list[bool]) -> None:
    line.send(post(device, ANNOUNCE, "connection: close"))
    status, headers, _ = line.reply()
    assert (status, headers["connection"]) == (404, "close")
    assert line.ended()
    assert ways == [True]


def test_an_old_protocol_goes_the_long_way(device: Device, line: Line, ways: list[bool]) -> None:
    line.send(post(device, ANNOUNCE, version="1.0"))
    assert line.reply()[0] == 404
    assert line.ended()
    assert ways == [False]


@pytest.mark.parametrize("path", ["/v1/reports", "/v1/renew"])
def test_an_answer_waits_until_the_other_side_reads(
    still: World, device: Device, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    taken: list[LaneProtocol] = []
    ask = LaneProtocol.on_headers_complete

    def watch(self: LaneProtocol) -> None:
        ask(self)
        taken.append(self)
        self.flow.pause_writing()

    monkeypatch.setattr(LaneProtocol, "on_headers_complete", watch)
    line = Line(still)
    line.send(post(device, b"{", path=path))
    line.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        line.reply()
    assert len(taken) == 1
    still.loop.call_soon_threadsafe(taken[0].flow.resume_writing)
    line.socket.settimeout(60)
    assert line.reply()[0] == 400
    line.socket.close()


def test_who_hangs_up_harms_nobody(world: World) -> None:
    device = world.enrol()
    for _ in range(20):
        gone = Line(world)
        request = post(device, ANNOUNCE)
        gone.send(request[: len(request) - 3 * (device.seq % 2)])
        gone.socket.close()
    deadline = time.monotonic() + 60
    while any(server.server_state.tasks for server in world.servers) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(server.server_state.tasks for server in world.servers)
    assert device.post("/v1/announce", ANNOUNCE).status_code == 404


def test_a_header_never_has_two_lines() -> None:
    with pytest.raises(ValueError, match="several lines"):
        write_head([(b"a", b"b\r\nc: d")])
