"""A PostgreSQL for a peer, on the server's core: as it comes, with fsync, reached over loopback alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.intake import _free_port
from bench.peers._port import START_S, Skip, end, pinned


class Postgres:
    """One server with one database, gone with all its files on leaving."""

    def __init__(self, database: str) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
        if not found:
            raise Skip("PostgreSQL is not installed: apt install postgresql")
        self._bin, self.database, self.port = found[-1], database, _free_port()
        self._place = Path(tempfile.mkdtemp(prefix="peer-pg-"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with its database. Raises Skip."""
        who: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            who = {"user": "postgres", "group": "postgres", "extra_groups": []}
            shutil.chown(self._place, "postgres", "postgres")
        data = self._place / "data"
        made = [self._bin / "initdb", "-D", data, "-U", "peer", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(made, check=True, capture_output=True, cwd="/", **who)
        words = [self._bin / "postgres", "-D", data, "-p", str(self.port), "-k", "", "-c", "listen_addresses=127.0.0.1"]
        with (self._place / "log").open("wb") as file:
            started: Any = subprocess.Popen(
                [str(word) for word in words], stdout=file, stderr=file, cwd="/", preexec_fn=pinned, **who
            )
        self._process = started
        self._wait()
        self.sql(f"CREATE DATABASE {self.database}", database="postgres")

    def _wait(self) -> None:
        import psycopg

        deadline = time.monotonic() + START_S
        while True:
            try:
                self.sql("SELECT 1", database="postgres")
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise Skip(f"PostgreSQL did not start: {error}") from None
                time.sleep(0.1)

    def stop(self) -> None:
        """End it, and remove its files."""
        end(self._process)
        shutil.rmtree(self._place, ignore_errors=True)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def sql(self, statement: str, *, database: str = "") -> list[Any]:
        """Run one statement; give the rows, where it has any."""
        import psycopg

        address = f"host=127.0.0.1 port={self.port} user=peer dbname={database or self.database}"
        with psycopg.connect(address, autocommit=True, connect_timeout=10) as db:
            done = db.execute(statement)  # pyright: ignore[reportArgumentType, reportCallIssue]
            return done.fetchall() if done.description else []
