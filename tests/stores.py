"""Real stores for tests: a PostgreSQL server and a NATS cluster of three nodes, on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

NODES = 3
LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for found in sockets:
            found.bind(("127.0.0.1", 0))
        return [found.getsockname()[1] for found in sockets]


def place_name(place: Path) -> str:
    """A short name for what belongs to one test's directory."""
    return f"t{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"


def wait_until_open(host: str, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, port), 0.5):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"it did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


class PostgresqlServer:
    """PostgreSQL as anyone may have it: a role without privileges, passwords asked, fsync on."""

    def __init__(self, host: str = LOOPBACK, place: Path | None = None) -> None:
        self.host = host
        programs = postgresql_bin()
        assert programs is not None
        self.bin = programs
        self.place = place or Path(tempfile.mkdtemp(prefix="tidegate-pg-"))
        self.place.mkdir(exist_ok=True)
        self.place.chmod(0o755)
        self.data = self.place / "data"
        # PostgreSQL refuses to run as root.
        self.user: dict[str, Any] = (
            {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        )
        if self.user:
            shutil.chown(self.place, "postgres")
        self.port = free_ports(1)[0]
        self.password_file = self.place / "password"
        self.password_file.write_text(secrets.token_hex(12))
        self.password_file.chmod(0o600)
        if self.user:
            shutil.chown(self.password_file, "postgres")
        words = [
            self.bin / "initdb",
            "-D",
            self.data,
            "-U",
            "chief",
            "--pwfile",
            self.password_file,
            "-A",
            "scram-sha-256",
        ]
        subprocess.run(
            [*words, "--no-sync", "-E", "UTF8", "--locale=C"], check=True, capture_output=True, cwd="/", **self.user
        )
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {host}/24 scram-sha-256\n")
        self.start()
        self.sql(f"CREATE ROLE tidegate LOGIN NOSUPERUSER PASSWORD '{self.password_file.read_text()}'")
        self.sql("CREATE DATABASE tidegate")

    def start(self) -> None:
        self.log = self.place / "server.log"
        words = [
            self.bin / "postgres",
            "-D",
            self.data,
            "-p",
            str(self.port),
            "-k",
            "",
            "-c",
            f"listen_addresses={self.host}",
        ]
        words += ["-c", "shared_buffers=32MB", "-c", "max_connections=40", "-c", "max_wal_size=64MB"]
        with self.log.open("ab") as file:
            started: Any = subprocess.Popen(
                words, stdout=file, stderr=file, cwd="/", start_new_session=True, **self.user
            )
        self.process: subprocess.Popen[bytes] = started
        wait_until_open(self.host, self.port, self.process, self.log)
        deadline = time.monotonic() + 120
        while True:
            try:
                self.sql("SELECT 1", database="postgres")
                return
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def ask(self, question: str) -> Any:
        """Ask for one value as the server's chief."""
        return self.sql(question, answer=True)

    def sql(self, statement: str, *, database: str = "postgres", answer: bool = False) -> Any:
        """Run one statement as the server's chief."""
        import psycopg

        address = f"postgresql://chief@{self.host}:{self.port}/{database}"
        with psycopg.connect(
            address, password=self.password_file.read_text(), autocommit=True, connect_timeout=30
        ) as db:
            done = db.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]
            row = done.fetchone() if answer else None
            return row[0] if row else None

    def kill(self) -> None:
        """kill -9 of every process of the server."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        time.sleep(0.1)

    def url(self, place: Path) -> str:
        """The address of a log of this test's own."""
        name = place_name(place)
        self.sql(f"CREATE SCHEMA IF NOT EXISTS {name} AUTHORIZATION tidegate", database="tidegate")
        return f"postgresql://tidegate@{self.host}:{self.port}/tidegate?options=-csearch_path%3D{name}"

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.place, ignore_errors=True)


class NatsCluster:
    """Three nodes with JetStream, each a process with files of its own."""

    password_file = None

    def __init__(self, host: str = LOOPBACK, stores: Sequence[Path] = ()) -> None:
        self.host = host
        self.place = Path(tempfile.mkdtemp(prefix="tidegate-nats-"))
        self.stores = stores or [self.place / f"store{number}" for number in range(NODES)]
        ports = free_ports(3 * NODES)
        self.ports, self.routes, self.watch = ports[:NODES], ports[NODES : 2 * NODES], ports[2 * NODES :]
        self.nodes: list[subprocess.Popen[bytes] | None] = [None] * NODES
        for number in range(NODES):
            self.start(number)
        for number in range(NODES):
            process = self.nodes[number]
            assert process is not None
            wait_until_open(host, self.ports[number], process, self.place / f"{number}.log")

    def start(self, number: int) -> None:
        routes = ",".join(f"nats://{self.host}:{port}" for port in self.routes)
        words = ["nats-server", "-a", self.host, "-p", str(self.ports[number]), "-n", f"n{number}", "-js"]
        words += ["-m", str(self.watch[number])]
        words += ["-sd", str(self.stores[number]), "-cluster_name", "tidegate"]
        words += ["-cluster", f"nats://{self.host}:{self.routes[number]}", "-routes", routes]
        with (self.place / f"{number}.log").open("ab") as file:
            self.nodes[number] = subprocess.Popen(words, stdout=file, stderr=file)

    def healthy(self, number: int) -> bool:
        """Whether a node holds all that the others hold, by its own word."""
        try:
            return httpx.get(f"http://{self.host}:{self.watch[number]}/healthz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def kill(self, number: int) -> None:
        """kill -9 of one node."""
        process = self.nodes[number]
        assert process is not None
        process.kill()
        process.wait()
        self.nodes[number] = None

    def url(self, place: Path) -> str:
        """The address of a log of this test's own."""
        return f"nats://{','.join(f'{self.host}:{port}' for port in self.ports)}/{place_name(place)}"

    def close(self) -> None:
        for process in self.nodes:
            if process is not None:
                process.kill()
                process.wait()
        shutil.rmtree(self.place, ignore_errors=True)


def postgresql_bin() -> Path | None:
    """Where PostgreSQL's programs are, the newest if there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


_running: dict[str, PostgresqlServer | NatsCluster] = {}


def make_store(name: str, host: str = LOOPBACK, places: Sequence[Path] = ()) -> PostgresqlServer | NatsCluster:
    """Start a server of a kind, for one test alone; skips where the program is not installed.

    `places` are directories for its data: one for PostgreSQL, one a node for NATS.
    """
    if name == "postgresql":
        pytest.importorskip("psycopg", reason="psycopg is not installed: tidegate[postgresql]")
        if postgresql_bin() is None:
            pytest.skip("PostgreSQL is not installed: apt install postgresql")
    else:
        pytest.importorskip("nats", reason="nats-py is not installed: tidegate[nats]")
        if shutil.which("nats-server") is None:
            pytest.skip("NATS is not installed: apt install nats-server")
    return PostgresqlServer(host, *places) if name == "postgresql" else NatsCluster(host, places)


def store_server(name: str) -> PostgresqlServer | NatsCluster:
    """Give the server of a kind, started once in a session; skips where the program is not installed."""
    if name not in _running:
        _running[name] = make_store(name)
    return _running[name]


def close_stores() -> None:
    """End what was started; called as the session ends."""
    for name in list(_running):
        _running.pop(name).close()
