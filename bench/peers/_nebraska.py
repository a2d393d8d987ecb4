"""Flatcar's Nebraska, built from a clone of its public repository: Go, Omaha, PostgreSQL on the same core."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.intake import _free_port
from bench.peers._port import Skip, answers, end, request, start, tree_cpu_s, wait_for
from bench.peers._postgres import Postgres
from bench.peers._sources import sources

COMMIT = "30a488d8d3008b2f01d299e31431080791001a33"
"""Of August 2026."""
BUILD_S = 1200
APP = "e96281a6-d1af-4bde-9a0a-97b76e56dc57"
HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?><request protocol="3.0" version="update_engine-0.4.10" ismachine="1">'
    '<os version="Chateau" platform="CoreOS" sp="1.0.0_x86_64"></os>'
    f'<app appid="{APP}" version="1.0.0" track="stable" board="amd64-usr" machineid="device-%d">'
)
POLL = HEAD + '<ping active="1"></ping><updatecheck></updatecheck></app></request>'
DONE = HEAD + '<event eventtype="3" eventresult="2" previousversion="0.9.0"></event></app></request>'
PACKAGE = f"""
INSERT INTO package (type, version, url, filename, size, hash, application_id, arch)
VALUES (1, '1.0.0', 'http://127.0.0.1/', 'x', '1', 'x', '{APP}', 1)
"""
CHANNEL = f"""
UPDATE channel SET package_id = (SELECT id FROM package WHERE version = '1.0.0' AND application_id = '{APP}')
WHERE application_id = '{APP}' AND arch = 1 AND name = 'stable'
"""
INSTANCES = "INSERT INTO instance (id, ip) SELECT 'device-' || n, '127.0.0.1' FROM generate_series(0, {last}) n"
PLACED = f"""
INSERT INTO instance_application (version, instance_id, application_id, group_id, last_check_for_updates, status)
SELECT '1.0.0', i.id, '{APP}', g.id, now() - interval '1 hour', 4 FROM instance i, groups g JOIN channel c
ON c.id = g.channel_id WHERE g.application_id = '{APP}' AND g.track = 'stable' AND c.arch = 1
"""
GRANTED = """
UPDATE instance_application SET update_in_progress = true, last_update_version = '1.0.0', status = 7
WHERE instance_id IN (SELECT 'device-' || n FROM generate_series({first}, {last}) n)
"""


class Nebraska:
    """A Nebraska whose machines run what their channel gives; some are told that they are amid an update."""

    name = f"Nebraska {COMMIT[:7]}"
    once = True
    """Who polls again within five minutes is not written down, as it otherwise is."""

    def __init__(self, place: Path, cache: Path) -> None:
        self._program = built(cache)
        self._whole = place
        self.port = 0
        self._stack = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def stand(self, devices: int) -> None:
        self.end()
        place = self._whole / str(devices)
        place.mkdir()
        self._postgres = Postgres("nebraska")
        self._stack.callback(self._postgres.stop)
        self._postgres.start()
        self.port = _free_port()
        log, pages = place / "nebraska.log", place / "pages"
        pages.mkdir()
        (pages / "index.html").write_text("<html></html>")
        url = f"postgres://peer@127.0.0.1:{self._postgres.port}/nebraska?sslmode=disable"
        words = ["-auth-mode", "noop", "-port", str(self.port), "-http-static-dir", str(pages)]
        self._process = start([self._program, *words], log, {"NEBRASKA_DB_URL": url})
        self._stack.callback(lambda: end(self._process))
        wait_for("Nebraska", lambda: answers(self.port, "/health"), self._process, log)
        for statement in (PACKAGE, CHANNEL, INSTANCES.format(last=devices - 1), PLACED, "ANALYZE"):
            self._postgres.sql(statement)

    def end(self) -> None:
        self._stack.close()

    def poll(self, device: int) -> Sequence[bytes]:
        return (request("POST", "/v1/update/", (POLL % device).encode(), content_type="text/xml"),)

    def reports(self, first: int, count: int) -> list[bytes]:
        self._postgres.sql(GRANTED.format(first=first, last=first + count - 1))
        return [
            request("POST", "/v1/update/", (DONE % n).encode(), content_type="text/xml")
            for n in range(first, first + count)
        ]

    def kept(self) -> int:
        return int(self._postgres.sql("SELECT count(*) FROM event")[0][0])

    def cpu_s(self) -> float:
        assert self._process is not None
        return tree_cpu_s([self._process.pid, self._postgres.pid])


def built(cache: Path) -> Path:
    """Give Nebraska's program, and build it where there is none. Raises Skip."""
    program = cache / f"nebraska-{COMMIT[:7]}"
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise Skip("Nebraska needs go, which is not installed")
    place = sources("nebraska", COMMIT, cache) / "backend"
    try:
        words = ["go", "build", "-o", program, "./cmd/nebraska"]
        done = subprocess.run(words, cwd=place, capture_output=True, timeout=BUILD_S, check=False)
    except subprocess.TimeoutExpired:
        raise Skip(f"Nebraska could not be built within {BUILD_S} s") from None
    if done.returncode:
        raise Skip(f"Nebraska could not be built: {done.stderr.decode()[-300:]}")
    shutil.rmtree(place.parent)
    return program
