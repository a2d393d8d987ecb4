"""`tidegate serve` as a process: it starts and stops cleanly, also under load, and refuses what it cannot serve."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from tests.e2e.stage import events_of
from tests.server import Plant

Serve = Callable[..., subprocess.Popen[str]]
ANY = ("--devices", "127.0.0.1:0", "--operators", "127.0.0.1:0")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    plant = Plant(tmp_path)
    plant.log.close()
    return plant.home.path


@pytest.fixture
def serve(home: Path) -> Iterator[Serve]:
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        whole = [sys.executable, "-m", "tidegate", "serve", "--home", str(home), *(words or ANY)]
        started.append(
            subprocess.Popen(
                whole,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONFAULTHANDLER": "1"},
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def listening(home: Path, process: subprocess.Popen[str]) -> dict[str, str]:
    deadline = time.monotonic() + 90
    while not (home / "server.json").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return dict(json.loads((home / "server.json").read_text()))


def refused(process: subprocess.Popen[str], code: int, words: str) -> None:
    out, err = process.communicate(timeout=90)
    assert process.returncode == code, err
    lines = [line for line in err.strip().splitlines() if line.startswith("tidegate: ")]
    assert len(lines) == 1, err
    assert words in lines[0]
    assert "Traceback" not in err
    assert "Devices:" not in out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_under_load_and_every_request_has_an_end(
    home: Path, serve: Serve, number: signal.Signals
) -> None:
    process = serve()
    address = listening(home, process)
    token = (home / "operator.token").read_text().strip()
    ends: list[int | str] = []

    def load() -> None:
        with httpx.Client(base_url=address["operators"], headers={"authorization": f"Bearer {token}"}) as client:
            while True:
                try:
                    reply = client.post("/api/v1/tokens", json={"who": "ada"}, timeout=60)
                    ends.append(reply.status_code)
                    if reply.status_code >= 500:
                        return
                except httpx.TimeoutException:
                    ends.append("timeout")
                    return
                except httpx.HTTPError:
                    return

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 90
    while ends.count(201) <= 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # says where it hangs
        raise AssertionError(process.communicate()[1]) from None
    for thread in threads:
        thread.join(90)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert out.startswith("Devices:   http://127.0.0.1:")
    assert set(ends) <= {201, 503}
    assert ends.count(201) > 20
    recorded = [event for event in events_of(home / "log.db") if event.get("what") == "token_created"]
    assert len(recorded) >= ends.count(201)


def test_it_refuses_what_it_cannot_serve(home: Path, serve: Serve) -> None:
    first = serve()
    address = listening(home, first)
    refused(serve(), 1, "another server running")
    assert httpx.get(address["operators"] + "/healthz").status_code == 200
    first.send_signal(signal.SIGTERM)
    assert first.wait(90) == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(serve("--devices", f"127.0.0.1:{port}", "--operators", "127.0.0.1:0"), 1, "port")


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        (lambda home: (home / "log.db").write_bytes(b"no database, but long enough to be one" * 50), 1, "log"),
        (lambda home: (home / "log.db").unlink() or (home / "log.db").mkdir(), 1, "log"),
        (lambda home: (home / "device-secrets.json").write_text("{}"), 2, "secret"),
        (lambda home: (home / "keys" / "timestamp.pem").unlink(), 2, "key"),
        (lambda home: (home / "operator.token").unlink(), 2, "tidegate init"),
    ],
    ids=["damaged log", "no log", "no secrets", "no key", "no home"],
)
def test_a_damaged_home_is_one_clear_line(
    home: Path, serve: Serve, damage: Callable[[Path], object], code: int, words: str
) -> None:
    damage(home)
    refused(serve(), code, words)
