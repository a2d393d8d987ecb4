"""A demo's stage under attack: a recording proxy before the server, a checker that reads the log alone, and /proc."""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from tidegate.cli.demo_content.releases import demo_manifest_parts, good_release
from tidegate.cli.demo_stage import COMPONENT, Stage
from tidegate.cli.office import OfficeClient
from tidegate.cli.release_files import SpeedOptions, create_draft
from tidegate.cli.releases import sign_with, submit
from tidegate.log.batch import unpack
from tidegate.log.events import encode


@dataclass(frozen=True)
class Acknowledged:
    """One message that a device got a 2xx for."""

    path: str
    index: int
    message: dict[str, Any]
    answer: dict[str, Any]


Hook = Callable[[int, str, int], None]
"""Called with the number of the POST, its path and the device's index."""


class Proxy:
    """Stands between the agents and the server, and writes down what was acknowledged.

    `before_answer` runs when the server has the request and nobody has its answer; what it kills, loses the answer.
    `after_answer` runs when the device has it.
    """

    def __init__(self, stage: Stage) -> None:
        self.upstream = stage.home.read_address()["devices"].removeprefix("http://")  # kept over restarts
        self.acknowledged: list[Acknowledged] = []
        self.posts = 0
        self.lock = Lock()
        self.before_answer: Hook = lambda number, path, index: None
        self.after_answer: Callable[[Acknowledged], None] = lambda message: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            del format, args

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            header = self.headers.get("Authorization", "")
            index = int(header.split(".")[1]) if header else -1
            try:
                line = http.client.HTTPConnection(proxy.upstream, timeout=10)
                line.request(self.command, self.path, body or None, dict(self.headers.items()))
                if self.command == "POST" and header:
                    with proxy.lock:
                        proxy.posts += 1
                        proxy.before_answer(proxy.posts, self.path, index)
                reply = line.getresponse()
                data = reply.read()
                line.close()
            except (OSError, http.client.HTTPException, ValueError):
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()
            if self.command == "POST" and header and reply.status == 200:
                done = Acknowledged(self.path, index, json.loads(body), json.loads(data))
                with proxy.lock:
                    proxy.acknowledged.append(done)
                    proxy.after_answer(done)

        do_GET = do_POST = do_HEAD = _pass_on

    return Handler


def set_up(stage: Stage, devices: int) -> tuple[OfficeClient, Proxy]:
    """Start a server with enrolled devices that reach it through a proxy; no agent runs yet."""
    office = stage.start_server()
    proxy = Proxy(stage)
    direct, office.devices_url = office.devices_url, proxy.address
    stage.enrol_devices(devices, office)
    office.devices_url = direct
    return office, proxy


def roll_out(stage: Stage, office: OfficeClient, **changes: Any) -> str:
    """Release the demo's good content, and start its rollout; give the rollout's name."""
    parts = demo_manifest_parts()
    source = good_release(stage.path / "good")
    draft = create_draft(
        source,
        stage.path / "release-1",
        component=COMPONENT,
        version="2026.1",
        seq=1,
        driver=parts.driver,
        health=parts.health,
    )
    sign_with(office, draft, stage.path / "release-1", stage.offline, SpeedOptions.for_trial(3600))
    submit(office, draft, stage.path / "release-1", "test")
    body = {
        "component": COMPONENT,
        "release": "1",
        "max_harmed": 3,
        "placebo_per_treated": 1.0,
        "observe_s": 20,
        "allow_hold": True,
        **changes,
    }
    return str(office.post("/api/v1/rollouts", body, "test")["rollout"])


def wait_for(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until something is true, and give it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def events_of(log: Path) -> list[dict[str, Any]]:
    """Read a log's file; its numbers must have no gaps."""
    database = sqlite3.connect(f"file:{log}?mode=ro", uri=True)
    rows = database.execute("SELECT seq, count, body FROM record ORDER BY seq").fetchall()
    database.close()
    found: list[dict[str, Any]] = []
    for seq, count, body in rows:
        assert seq == len(found) + 1
        found += [json.loads(encode(event)) for event in unpack(body).events]
        assert len(found) == seq + count - 1
    return found


def check_log(events: list[dict[str, Any]]) -> dict[str, int]:
    """Hold every event of a log against the certain rule; give (exposed, confirmed) of all rollouts together."""
    specs: dict[str, dict[str, Any]] = {}
    treated: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    confirmed: dict[str, set[int]] = defaultdict(set)
    over: set[str] = set()
    for event in events:
        name = event.get("rollout", "")
        if event["kind"] == "act" and event["what"] == "rollout_started":
            specs[event["body"]["rollout"]] = event["body"]["spec"]
        elif event["kind"] == "verdict" and event["verdict"]["happening"] in ("harm", "complete"):
            over.add(name)
        elif event["kind"] == "leased":
            assert name not in over, "a rollout that has ended grants nothing"
            assert event["index"] not in treated[name], "an exposed device gets no second lease, and is no control"
            if event["arm"] == "treated":
                treated[name][event["index"]] = event
            budget = specs[name]["budget"]
            at_risk = len(treated[name]) - len(confirmed[name])
            first = budget["canary"] or budget["max_harmed"]
            assert at_risk <= min(budget["max_harmed"], first + len(confirmed[name])), event
        elif event["kind"] == "reported" and event["outcome"] == "confirmed" and event["index"] in treated[name]:
            confirmed[name].add(event["index"])
    return {"exposed": sum(map(len, treated.values())), "confirmed": sum(map(len, confirmed.values()))}


def check_acknowledged(events: list[dict[str, Any]], acknowledged: list[Acknowledged]) -> tuple[int, int]:
    """Whatever a device got a 2xx for is in the log; give how many leases and reports were acknowledged."""
    leases = {f"{e['rollout']}:{e['ring']}:{e['position']}": e for e in events if e["kind"] == "leased"}
    reports = {f"{e['rollout']}:{e['ring']}:{e['position']}" for e in events if e["kind"] == "reported"}
    counts = [0, 0]
    for done in acknowledged:
        if done.path == "/v1/announce" and "lease_id" in done.answer:
            lease = leases[done.answer["lease_id"]]
            assert (lease["index"], lease["arm"]) == (done.index, done.answer["arm"])
            counts[0] += 1
        for report in done.message.get("reports", ()):
            assert report["lease_id"] in reports, "an acknowledged report was lost"
            counts[1] += 1
    return counts[0], counts[1]


def processes_naming(text: str) -> list[str]:
    """List the processes whose command line, directory or environment names a text."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdecimal() or int(place.name) == os.getpid():
            continue
        try:
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            known = words + os.readlink(place / "cwd") + (place / "environ").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in known:
            found.append(f"{place.name}: {words}")
    return found


def tidegate(stage: Stage, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the operators' command line on the stage's control plane."""
    whole = [sys.executable, "-m", "tidegate", *words, "--home", str(stage.home.path)]
    return subprocess.run(whole, capture_output=True, text=True, timeout=60)
