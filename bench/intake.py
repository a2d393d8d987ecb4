"""The devices' port over loopback: durable leases and reports beside a bare ASGI echo, polls beside nginx, and p99.

Rates are per second of the server's processor time, so that whatever else the machine does moves both sides little.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import uvloop

from bench.rows import Row
from tidegate.cli.swarm_client import Pool, Tally
from tidegate.cli.swarm_stage import SwarmStage
from tidegate.trust.credentials import authorization

DEVICES, FULL = 40_000, 100_000
CONNECTIONS = 256
LEAD_S, LEAD_PER_MESSAGE_S = 0.2, 30e-6
"""All messages wait in the client before the first is due: else the first would be late by what that takes."""
POLL = "/repo/metadata/timestamp.json"
Messages = Sequence[bytes]
Keep = Callable[[int, bytes], None]
"""Takes the number of a message, and the body of its answer."""


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Measure with 40,000 devices, or (`full`) 100,000."""
    del write
    devices = FULL if full else DEVICES
    with tempfile.TemporaryDirectory() as place, SwarmStage(Path(place), devices, cpus=[0]) as stage:
        os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - {0} or {0})
        host, port = stage.start()
        rollout = stage.roll_out()
        who = [stage.credential(index) for index in range(devices)]
        announces = [post(c, 1, "/v1/announce", announcement(rollout)) for _, c in who]
        leases: list[str] = [""] * devices

        def keep(number: int, body: bytes) -> None:
            leases[number] = msgspec.json.decode(body)["lease_id"]

        lease_s, lease_wall_s, _ = _measured(host, port, announces, stage.cpu_s, keep)
        reports = [post(c, 2, "/v1/reports", report(lease)) for (_, c), lease in zip(who, leases, strict=True)]
        some = len(reports) // 2
        report_s, report_wall_s, _ = _measured(host, port, reports[:some], stage.cpu_s)
        rate = 0.7 * some / report_wall_s
        _, _, calm = _measured(host, port, reports[some:], stage.cpu_s, per_s=rate)
        polls = [f"GET {POLL} HTTP/1.1\r\nhost: x\r\n\r\n".encode()] * devices
        poll_s, _, _ = _measured(host, port, polls, stage.cpu_s)
        memory = stage.memory_bytes()
        echo = _echo(reports, Path(place))
        nginx = _nginx(polls, stage.home.repository, Path(place))
    found = [
        Row("durable reports", some / report_s, "reports/CPU s", "a bare ASGI echo of the same requests", echo),
        Row("durable leases", devices / lease_s, "leases/CPU s", "a bare ASGI echo of reports", echo),
        Row("durable reports, as the clock goes", some / report_wall_s, "reports/s", "15,000/s", 15_000),
        Row("durable leases, as the clock goes", devices / lease_wall_s, "leases/s", "15,000/s", 15_000),
        Row(f"p99 of reports at 70 % of that ({rate:,.0f}/s)", 1e3 * calm.quantile_s(0.99), "ms", "50 ms", 50),
        Row(f"memory of the server, {devices:,} devices, after the load", memory / 1e6, "MB", "1,000 MB", 1000),
    ]
    if nginx:
        found.append(Row("static polls", devices / poll_s, "polls/CPU s", "nginx with the same files", nginx))
    return found


def post(credential: str, seq: int, path: str, body: bytes) -> bytes:
    """Write a signed request."""
    header = authorization(credential, seq, path, body)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: {header}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def announcement(rollout: str) -> bytes:
    """Say that the candidate is here."""
    said = {"rollout": rollout, "plan_version": 0, "installed": None, "seq": 1, "attempt": 1}
    return msgspec.json.encode(said)


def report(lease: str) -> bytes:
    """Confirm a lease."""
    return msgspec.json.encode({"reports": [{"lease_id": lease, "kind": "confirmed", "seq": 1, "boot_s": 1}]})


def _measured(
    host: str,
    port: int,
    messages: Messages,
    cpu_s: Callable[[], float],
    keep: Keep | None = None,
    per_s: float = 0.0,
) -> tuple[float, float, Tally]:
    """Send messages over keep-alive connections; give the server's processor time, seconds, and latencies."""
    before = cpu_s()
    seconds, tally = uvloop.run(drive(host, port, messages, keep, per_s))
    assert tally.statuses == {"x 200": len(messages)}, tally.statuses
    return cpu_s() - before, seconds, tally


async def drive(host: str, port: int, messages: Messages, keep: Keep | None, per_s: float = 0.0) -> tuple[float, Tally]:
    """Send messages over keep-alive connections, all at once or `per_s`; give the seconds, and the latencies."""
    pool, tally, over, loop = Pool(host, port, CONNECTIONS), Tally(), asyncio.Event(), asyncio.get_running_loop()
    await pool.start()
    left = len(messages)
    started = loop.time() + LEAD_S + len(messages) * LEAD_PER_MESSAGE_S

    def ask(number: int) -> None:
        due = started + number / per_s if per_s else started

        def done(status: int, body: bytes, _: float) -> None:
            nonlocal left
            tally.add("x", status, loop.time() - due)
            if keep is not None:
                keep(number, body)
            left -= 1
            if not left:
                over.set()

        pool.at(due, messages[number], done)

    for number in range(len(messages)):
        ask(number)
    await asyncio.wait_for(over.wait(), 150)
    pool.close()
    return loop.time() - started, tally


def _process_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


ECHO = """
import uvicorn, uvloop
async def app(scope, receive, send):
    body = (await receive())["body"]
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
config = uvicorn.Config(app, "127.0.0.1", PORT, log_config=None, access_log=False, lifespan="off")
uvloop.run(uvicorn.Server(config).serve())
"""


def _echo(messages: Messages, place: Path) -> float:
    """Requests per second of processor time of a server that only sends bodies back: same loop, parser and client."""
    port = _free_port()
    (place / "echo.py").write_text(ECHO.replace("PORT", str(port)))
    process = subprocess.Popen([sys.executable, place / "echo.py"], preexec_fn=lambda: os.sched_setaffinity(0, {0}))
    try:
        _wait(port)
        took_s, _, _ = _measured("127.0.0.1", port, messages, lambda: _process_cpu_s(process.pid))
    finally:
        process.kill()
        process.wait()
    return len(messages) / took_s


def _nginx(messages: Messages, repository: Path, place: Path) -> float:
    """Polls per second of processor time of nginx with one worker, or 0 where it is not installed."""
    program = shutil.which("nginx")
    if program is None:
        return 0.0
    port, config = _free_port(), place / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(
        f"{user} daemon off; master_process off; pid {place}/nginx.pid; error_log {place}/nginx.log;"
        f"events {{ worker_connections 1024; }} http {{ access_log off; keepalive_requests 1000000;"
        f" client_body_temp_path {place}/t1; proxy_temp_path {place}/t2; fastcgi_temp_path {place}/t3;"
        f" uwsgi_temp_path {place}/t4; scgi_temp_path {place}/t5; server {{ listen 127.0.0.1:{port};"
        f" location /repo/ {{ alias {repository}/; }} }} }}"
    )
    process = subprocess.Popen([program, "-c", config], preexec_fn=lambda: os.sched_setaffinity(0, {0}))
    try:
        _wait(port)
        took_s, _, _ = _measured("127.0.0.1", port, messages, lambda: _process_cpu_s(process.pid))
    finally:
        process.kill()
        process.wait()
    return len(messages) / max(took_s, 0.01)
