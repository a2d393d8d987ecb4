"""How long a fleet has no controller: from the end of the active one to a standby that is ready, on PostgreSQL.

The controller is killed (SIGKILL) and, in other turns, paused (SIGSTOP), each time with a standby that has read along.
Each device of the log has been enrolled, and has had one lease and one report.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg

from bench import _fleets as fleets
from bench.peers._port import Skip
from bench.peers._postgres import Postgres
from bench.rows import Row
from tidegate.cli.home import Home
from tidegate.cli.init import make_control_plane
from tidegate.log.batch import unpack

DEVICES, FULL = 200_000, 8_500_000
TURNS, START_S = 3, 600
PROMISED_S = 5.0


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Measure with 200,000 devices, or (`full`) 8.5 million; nothing where PostgreSQL is not installed."""
    del write
    devices = FULL if full else DEVICES
    try:
        database = Postgres("tidegate")
    except Skip as reason:
        print(f"bench takeover: {reason}", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory() as place, contextlib.closing(_Stage(Path(place), database, devices)) as stage:
        found = {how: [stage.turn(how) for _ in range(TURNS)] for how in (signal.SIGKILL, signal.SIGSTOP)}
    named = {signal.SIGKILL: "killed", signal.SIGSTOP: "paused"}
    return [
        Row(f"{said} to ready, {devices:,} devices: {kind} of {TURNS}", how(found[sign]), "s", "5 s", PROMISED_S)
        for sign, said in named.items()
        for kind, how in (("median", statistics.median), ("longest", max))
    ]


class _Stage:
    """A control plane whose log holds a fleet, its active controller, and one standby at a time."""

    def __init__(self, place: Path, database: Postgres, devices: int) -> None:
        self._place, self._database, self._home = place, database, Home(place / "home")
        self._running: list[subprocess.Popen[bytes]] = []
        database.start()
        make_control_plane(self._home, place / "offline", [fleets.COMPONENT])
        url = f"postgresql://peer@127.0.0.1:{database.port}/{database.database}"
        self._home.log_address.write_text(json.dumps({"url": url}))
        self._home.open_log().close()
        _fill(url, devices)
        self._serve()
        self._ready(b"")

    def close(self) -> None:
        """End what runs, and remove the database."""
        for process in self._running:
            process.kill()
            process.wait()
        self._database.stop()

    def turn(self, how: signal.Signals) -> float:
        """End the active controller once a standby has read all; give the seconds until that is ready."""
        self._serve("--standby")
        self._until_read(self._running[-1].pid)
        stood = self._home.address.read_bytes()
        old = self._running.pop(0)
        old.send_signal(how)
        began = time.monotonic()
        self._ready(stood)
        took_s = time.monotonic() - began
        old.kill()
        old.wait()
        return took_s

    def _serve(self, *words: str) -> None:
        command = [sys.executable, "-m", "tidegate", "serve", "--home", str(self._home.path), "--log-level", "warning"]
        with (self._place / "servers.log").open("ab") as file:
            ports = ["--devices", "127.0.0.1:0", "--operators", "127.0.0.1:0"]
            self._running.append(subprocess.Popen([*command, *ports, *words], stdout=file, stderr=file))

    def _ready(self, stood: bytes) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError, httpx.HTTPError):
                said = self._home.address.read_bytes()
                if said != stood and httpx.get(json.loads(said)["operators"] + "/readyz").status_code == 200:
                    return
            time.sleep(0.01)
        raise TimeoutError((self._place / "servers.log").read_text()[-2000:])

    def _until_read(self, pid: int) -> None:
        """Wait until a process does next to nothing any more: a standby that reads along says nothing by itself."""
        until, before = time.monotonic() + START_S, -1.0
        while time.monotonic() < until:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            busy = int(fields[11]) + int(fields[12])  # hundredths of a second
            if 0 < busy - before <= 15 and before > 100:
                return
            before = busy
            time.sleep(1.5)
        raise TimeoutError("the standby goes on reading")


def _records(devices: int) -> Iterator[bytes]:
    yield from itertools.chain(fleets.enrolments(devices), [fleets.start(devices)])
    yield from itertools.chain(fleets.leases(devices, 1, 1), fleets.reports(devices, 1, 10))


def _fill(url: str, devices: int) -> None:
    """Put a fleet's records into an empty log, as no server does: all in one statement."""
    seq = 1
    with psycopg.connect(url) as db, db.cursor() as cursor:
        db.execute(
            "CREATE TABLE IF NOT EXISTS tidegate_record_00000 PARTITION OF tidegate_record"
            " FOR VALUES FROM (0) TO (50000000)"
        )
        with cursor.copy("COPY tidegate_record (seq, count, at_ms, body) FROM STDIN (FORMAT BINARY)") as copy:
            copy.set_types(["int8", "int4", "int8", "bytea"])
            for body in _records(devices):
                batch = unpack(body)
                copy.write_row((seq, batch.count, batch.last_ms, body))
                seq += batch.count
        db.execute("UPDATE tidegate_writer SET last = %s", (seq - 1,))
