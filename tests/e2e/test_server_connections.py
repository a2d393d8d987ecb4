"""Whoever opens connections and does nothing with them: real processes with few files, real sockets, short patience."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families
from tests.server import Plant

from tidegate.cli.home import Home
from tidegate.intake.doors import Door
from tidegate.intake.listening import Listening, TlsListening, listening_on, open_lines

pytestmark = [pytest.mark.room("intake"), pytest.mark.room("cli")]
FILES = 256
HALF = b"POST /v1/announce HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"
ANY = ("--devices", "127.0.0.1:0", "--operators", "127.0.0.1:0")
Serve = Callable[..., "Server"]


class Server:
    """A server process with few files."""

    def __init__(self, home: Path, files: int, words: tuple[str, ...]) -> None:
        self.home = home
        told = "collector-*.json" if "collector" in words else "server.json"
        whole = [sys.executable, "-m", "tidegate", "serve", "--home", str(home), *(words or ANY)]
        self.process = subprocess.Popen(
            whole,
            stdout=subprocess.DEVNULL,
            stderr=(home / f"err{len(words)}").open("wb"),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, 128), files)),
        )
        self.err = home / f"err{len(words)}"
        deadline = time.monotonic() + 120
        while not (news := list(home.glob(told))):
            assert self.process.poll() is None, self.err.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.address: dict[str, str] = json.loads(news.pop().read_text())
        self.token = (home / "operator.token").read_text().strip()

    def end(self, port: str) -> tuple[str, int]:
        host, _, number = self.address[port].partition("//")[2].partition(":")
        return host, int(number)

    def asks(self, port: str = "devices", path: str = "/repo/metadata/timestamp.json", **more: Any) -> int:
        """Ask over a connection of its own; 0 if that breaks."""
        try:
            return httpx.get(self.address[port] + path, timeout=20, **more).status_code
        except httpx.TransportError:
            return 0

    def works(self) -> None:
        """Wait until both ports answer."""
        until(lambda: self.asks() == 200)
        if "operators" in self.address:
            until(lambda: self.asks("operators", "/readyz") == 200, self.err)

    def figures(self) -> dict[tuple[str, str], float]:
        """Give what is told of connections, by name and why (or port)."""
        reply = httpx.get(
            self.address["operators"] + "/metrics", headers={"authorization": f"Bearer {self.token}"}, timeout=60
        )
        return {
            (
                sample.name.removeprefix("tidegate_connections_"),
                f"{sample.labels['port']} {sample.labels.get('why')}",
            ): (sample.value)
            for family in text_string_to_metric_families(reply.text)
            for sample in family.samples
            if sample.name.startswith("tidegate_connections_")
        }


def until(true: Callable[[], Any], said: Path | None = None) -> None:
    deadline = time.monotonic() + 90
    while not true():
        assert time.monotonic() < deadline, said and said.read_text()[-2000:]
        time.sleep(0.1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    plant = Plant(tmp_path)
    plant.log.close()
    return plant.home.path


@pytest.fixture
def serve(home: Path) -> Iterator[Serve]:
    started: list[Server] = []

    def start(*words: str, files: int = FILES) -> Server:
        started.append(Server(home, files, words))
        return started[-1]

    yield start
    for server in started:
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()


@pytest.fixture
def lines() -> Iterator[Callable[..., list[socket.socket]]]:
    """Open many connections that say something, from an address of this machine."""
    with ExitStack() as stack:

        def open_many(end: tuple[str, int], count: int, said: bytes, source: str = "127.0.0.1") -> list[socket.socket]:
            found = []
            for _ in range(count):
                line = stack.enter_context(socket.socket())
                line.settimeout(60)
                line.bind((source, 0))
                line.connect(end)
                with suppress(OSError):
                    line.sendall(said)
                found.append(line)
            return found

        yield open_many


def closed(line: socket.socket) -> bool:
    """Say whether the server has closed it, without waiting."""
    line.setblocking(False)
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_half_requests_take_neither_the_files_nor_the_ports(serve: Serve, lines: Any) -> None:
    server = serve(*ANY, "--patience", "2")
    said = json.loads(next(line for line in server.err.read_text().splitlines() if "open files" in line))
    assert said["most"] == FILES, "the soft limit was raised to the hard one"
    assert 0 < said["operators"] < said["devices"] < FILES - 90
    some = lines(server.end("devices"), 400, HALF)
    assert server.asks("operators", "/readyz") == 200, "the devices' crowd does not take the operators' port"
    figures = server.figures()
    assert figures["max", "devices None"] == said["devices"]
    assert figures["open", "devices None"] <= said["devices"]
    turned_away = figures["refused_total", "devices full"] + figures["dropped_total", "devices room"]
    assert turned_away >= 400 - said["devices"]
    until(lambda: all(map(closed, some)))
    server.works()
    figures = server.figures()
    assert figures["dropped_total", "devices request"] + figures["dropped_total", "devices room"] >= 50
    more = lines(server.end("operators"), 400, b"GET /healthz HTTP/1.1\r\n")
    assert server.asks() == 200, "nor the other way round"
    until(lambda: all(map(closed, more)))
    server.works()


def test_a_byte_a_second_is_too_slow_and_a_pause_between_requests_is_not(serve: Serve, lines: Any) -> None:
    server = serve(*ANY, "--patience", "3")
    slow = lines(server.end("devices"), 20, b"P") + lines(server.end("operators"), 5, b"P")
    [good] = lines(server.end("devices"), 1, b"")
    rest = iter(HALF[1:] * 10)
    asked = 0
    deadline = time.monotonic() + 90
    while not all(map(closed, slow)):
        assert time.monotonic() < deadline
        byte = bytes([next(rest)])
        for line in slow:
            line.setblocking(True)
            with suppress(OSError):
                line.sendall(byte)
        good.sendall(b"GET /repo/metadata/timestamp.json HTTP/1.1\r\nhost: x\r\n\r\n")
        good.setblocking(True)
        assert good.recv(100_000).startswith(b"HTTP/1.1 200")
        asked += 1
        time.sleep(0.5)
    assert asked > 4, "whoever goes on asking in time is not dropped"
    figures = server.figures()
    assert figures["dropped_total", "devices request"] == 20
    assert figures["dropped_total", "operators request"] == 5


@pytest.mark.slow
def test_whoever_does_not_read_its_answer_is_dropped_and_who_reads_slowly_is_not(serve: Serve, lines: Any) -> None:
    server = serve(*ANY, "--patience", "2")
    payload = Home(server.home).repository / "large"
    payload.write_bytes(os.urandom(24 << 20))
    ask = b"GET /repo/large HTTP/1.1\r\nhost: x\r\n\r\n"
    deaf = lines(server.end("devices"), 10, ask)
    [slow] = lines(server.end("devices"), 1, ask)
    got = 0
    while server.figures()["dropped_total", "devices unread"] < 10:
        got += len(slow.recv(400_000))
        assert got < 24 << 20
        time.sleep(0.05)
    while got < 24 << 20:
        part = slow.recv(1 << 20)
        assert part, "whoever reads is not dropped"
        got += len(part)
    assert len(deaf) == 10
    assert server.figures()["dropped_total", "devices unread"] == 10
    server.works()


@pytest.mark.slow
def test_downloads_hold_no_files(serve: Serve, lines: Any) -> None:
    server = serve(*ANY, "--patience", "60")
    (Home(server.home).repository / "large").write_bytes(bytes(24 << 20))
    most = int(server.figures()["max", "devices None"])
    lines(server.end("devices"), most, b"GET /repo/large HTTP/1.1\r\nhost: x\r\n\r\n")
    until(lambda: server.figures()["open", "devices None"] == most)
    assert server.asks("operators", "/readyz") == 200
    held = [os.readlink(f) for f in Path(f"/proc/{server.process.pid}/fd").iterdir() if os.path.lexists(f)]
    assert sum(where.startswith("socket:") for where in held) >= most
    assert sum(where.endswith("large") for where in held) < 50, "those that are being read from at this moment"


@pytest.mark.slow
def test_the_unread_end_of_a_last_answer_holds_no_connection(serve: Serve, lines: Any) -> None:
    """After its last answer a line is closed as soon as all is taken, so nobody may leave the end of it for ever."""
    server, size = serve(*ANY, "--patience", "1"), 8 << 20
    (Home(server.home).repository / "large").write_bytes(bytes(size))
    ask = b"GET /repo/large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    for left in range(50_000, 5_000_000, 50_000):  # where the end is, depends on the system's own buffers
        [line] = lines(server.end("devices"), 1, b"")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        line.sendall(ask)
        want = size - left
        while want > 0:
            want -= len(line.recv(min(65_536, want)))
    until(lambda: server.figures()["open", "devices None"] == 0)


@pytest.mark.slow
def test_an_endless_head_is_cut_off(serve: Serve, lines: Any) -> None:
    server = serve(*ANY, "--patience", "60")
    [one, other] = lines(server.end("devices"), 2, b"GET / HTTP/1.1\r\n")
    for line, part in ((one, b"x: " + b"y" * 4000 + b"\r\n"), (other, b"z" * 4000)):
        with pytest.raises(OSError):
            for _ in range(100_000):
                line.sendall(part)
    assert server.figures()["dropped_total", "devices size"] == 2


def test_one_address_has_a_share_and_leaves_room_for_others(serve: Serve, lines: Any) -> None:
    server = serve(*ANY, "--connections", "100", "--address-connections", "30")
    lines(server.end("devices"), 80, HALF, "127.0.0.2")
    figures = server.figures()
    assert figures["open", "devices None"] == 30
    assert figures["refused_total", "devices share"] == 50
    lines(server.end("devices"), 20, HALF, "127.0.0.3")
    until(lambda: server.figures()["open", "devices None"] == 50)
    assert server.asks() == 200


CROWDS = {
    "this machine": ["127.0.0.1"],
    "several addresses": [f"127.0.0.{number}" for number in range(2, 10)],
    "one other address": ["127.0.0.2"],
}


@pytest.mark.parametrize(
    ("crowd", "said"),
    [*((crowd, b"") for crowd in CROWDS), ("this machine", b"POST /v1/ann"), ("several addresses", HALF)],
)
def test_a_crowd_that_asks_for_nothing_makes_way(serve: Serve, lines: Any, crowd: str, said: bytes) -> None:
    """Long before its time is up: whoever comes and asks is answered, from the crowd's own address as well."""
    server = serve(*ANY, "--patience", "30")
    most = int(server.figures()["max", "devices None"])
    sources = CROWDS[crowd]
    some = [line for source in sources for line in lines(server.end("devices"), 2 * most // len(sources), said, source)]
    began = time.monotonic()
    with httpx.Client(transport=httpx.HTTPTransport(local_address=sources[-1])) as client:

        def asks() -> bool:
            with suppress(httpx.TransportError):
                address = server.address["devices"] + "/repo/metadata/timestamp.json"
                return client.get(address, headers={"connection": "close"}, timeout=20).status_code == 200
            return False

        until(asks)
        for _ in range(20):
            until(asks)
    if time.monotonic() - began < 25:  # else this machine was so slow that they went by themselves
        assert server.figures()["dropped_total", "devices room"] >= 1
        assert not all(map(closed, some)), "only as many go as others need"


@pytest.mark.slow
def test_whoever_is_being_served_does_not_make_way(serve: Serve, lines: Any) -> None:
    server = serve(*ANY, "--patience", "30")
    size = 24 << 20
    (Home(server.home).repository / "large").write_bytes(bytes(size))
    [slow] = lines(server.end("devices"), 1, b"GET /repo/large HTTP/1.1\r\nhost: x\r\n\r\n")
    got, ends = 0, time.monotonic() + 15
    while time.monotonic() < ends:
        lines(server.end("devices"), 40, HALF)
        got += len(slow.recv(100_000))
        time.sleep(0.2)
    while got < size:
        part = slow.recv(1 << 20)
        assert part, "it reads, so it keeps its place"
        got += len(part)
    assert server.figures()["dropped_total", "devices room"] > 0


@pytest.mark.slow
def test_endless_trailers_are_cut_off(serve: Serve, lines: Any) -> None:
    """They stand behind a body, where no application looks."""
    server = serve(*ANY, "--patience", "60")
    head = b"POST /api/v1/tokens HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
    for port in ("operators", "devices"):
        [line] = lines(server.end(port), 1, head)
        with pytest.raises(OSError):
            for number in range(1_000_000):
                line.sendall(b"x%d: y\r\n" % number)
        assert server.figures()["dropped_total", f"{port} size"] == 1


def test_a_collector_is_bounded_as_well(serve: Serve, lines: Any, home: Path) -> None:
    serve("--role", "controller", "--operators", "127.0.0.1:0")
    collector = serve("--role", "collector", "--devices", "127.0.0.1:0", "--patience", "2")
    some = lines(collector.end("devices"), 400, HALF)
    until(lambda: all(map(closed, some)))
    collector.works()
    token = (home / "collector.token").read_text().strip()
    shown = httpx.get(collector.address["devices"] + "/metrics", headers={"authorization": f"Bearer {token}"}).text
    assert 'tidegate_connections_refused_total{port="devices",why="full"}' in shown


@pytest.mark.slow
def test_a_server_without_a_file_left_goes_on_when_there_are_some(serve: Serve, lines: Any) -> None:
    """The limit is taken down under its feet: what it counted on is not there, so accepting itself fails."""
    server = serve()
    pid = server.process.pid
    operator = httpx.Client(
        base_url=server.address["operators"], headers={"authorization": f"Bearer {server.token}"}, timeout=60
    )

    def token() -> httpx.Response:
        asked = {"labels": {}, "uses": 1, "expires_s": 60, "who": "ada", "why": ""}
        return operator.post("/api/v1/tokens", json=asked)

    until(lambda: token().status_code == 201)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, FILES))
    reply = token()
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert "Too many open files" in reply.json()["detail"]
    some = lines(server.end("devices"), 20, HALF) + lines(server.end("operators"), 20, HALF)
    time.sleep(2.0)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    for line in some:
        line.close()
    server.works()
    assert token().status_code == 201


@pytest.mark.parametrize("tls", [False, True])
def test_a_port_that_the_loop_gave_up_is_opened_again(tls: bool) -> None:
    class Says(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            cast(asyncio.Transport, transport).abort()

        who: str | None = None
        transport = None

        def admitted(self, who: str) -> None:
            self.who = who

        def leave(self) -> None:
            if self.who is not None:
                door.leave(self.who)
            self.who = None

    door = Door("x", most=10)

    async def play() -> None:
        [line] = open_lines("127.0.0.1", 0)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        port = listening_on(line, cast(Any, Says), door, context)
        host, number = line.getsockname()
        await port.tend()
        if isinstance(port, Listening):
            assert port._server is not None
            port._server.close()
        else:
            port._rest()
        while isinstance(port, Listening) and port._copy is not None and port._copy.fileno() >= 0:
            await asyncio.sleep(0.01)
        await port.tend()
        reader, writer = await asyncio.open_connection(host, number)
        writer.write(b"hello")  # to a port with TLS no hello at all
        with suppress(OSError):
            await asyncio.wait_for(reader.read(), 60)
        writer.close()
        assert door.failures == (0 if tls else 1)
        port.close()
        await port.wait_closed()
        assert door.open == 0

    uvloop.run(play())


def test_whoever_is_turned_away_before_the_first_step_of_a_handshake_is_forgotten() -> None:
    async def play() -> None:
        door = Door("x", most=10)
        [line] = open_lines("127.0.0.1", 0)
        port = listening_on(line, lambda: cast(Any, GuardedSays(door)), door, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        assert isinstance(port, TlsListening)
        await port.tend()
        with socket.create_connection(line.getsockname(), 60):
            port._accept()
            assert door.open == 1
            port.close()
            await port.wait_closed()
            await asyncio.sleep(0)
        assert not list(port.greeted())
        assert door.open == 0

    uvloop.run(play())


class GuardedSays:
    """As much of a connection as a greeting needs."""

    transport = None

    def __init__(self, door: Door) -> None:
        self.door, self.who = door, cast("str | None", None)

    def admitted(self, who: str) -> None:
        self.who = who

    def leave(self) -> None:
        if self.who is not None:
            self.door.leave(self.who)
        self.who = None


def test_handshakes_that_do_not_end_are_bounded(serve: Serve, lines: Any, home: Path, tmp_path: Path) -> None:
    for words in (("create-ca",), ("issue", "127.0.0.1")):
        subprocess.run(
            [sys.executable, "-m", "tidegate", "tls", *words, "--home", str(home)], check=True, capture_output=True
        )
    server = serve(*ANY, "--patience", "5")
    began = time.monotonic()
    some = lines(server.end("devices"), 300, b"\x16")
    context = ssl.create_default_context(cafile=Home(home).ca)
    assert server.asks("operators", "/readyz", verify=context) == 200
    until(lambda: server.asks(verify=context) == 200)
    if time.monotonic() - began < 4:
        assert not all(map(closed, some)), "some made way before their time was up"
    until(lambda: all(map(closed, some)))
    until(lambda: server.asks(verify=context) == 200)
    reply = httpx.get(
        server.address["operators"] + "/metrics", headers={"authorization": f"Bearer {server.token}"}, verify=context
    )
    assert 'tidegate_connections_dropped_total{port="devices",why="handshake"}' in reply.text
    assert 'tidegate_connections_open{port="devices"} 0.0' in reply.text
