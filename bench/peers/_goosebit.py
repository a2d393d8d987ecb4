"""gooseBit 0.2.12 from PyPI: hawkBit's device API in Python, one worker, SQLite. In an environment of its own."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.intake import _free_port
from bench.peers._port import Skip, answers, end, request, start, tree_cpu_s, wait_for

VERSION = "0.2.12"
FILL = """
import asyncio, sys
from tortoise import Tortoise
from goosebit.db.config import TORTOISE_CONF
from goosebit.db.models import Device, Hardware, Rollout, Software, UpdateStateEnum
async def fill(devices):
    await Tortoise.init(config=TORTOISE_CONF)
    await Tortoise.generate_schemas()
    hardware = await Hardware.create(model="default", revision="default")
    software = await Software.create(uri="file:///x", size=1, hash="0" * 40, version="1.0.0", image_format=0)
    await software.compatibility.add(hardware)
    await Rollout.create(name="r", feed="default", software=software)
    some = [Device(id=f"device-{n}", hardware=hardware, sw_version="1.0.0", last_state=UpdateStateEnum.FINISHED)
            for n in range(devices)]
    await Device.bulk_create(some, batch_size=1000)
    await Tortoise.close_connections()
    print(software.id)
asyncio.run(fill(int(sys.argv[1])))
"""


class GooseBit:
    """A gooseBit with devices that have what its rollout gives."""

    name = f"gooseBit {VERSION}"
    once = False

    def __init__(self, place: Path, cache: Path) -> None:
        self._python = installed(cache)
        self._whole, self._place = place, place
        self.port, self._software = 0, ""
        self._process: subprocess.Popen[bytes] | None = None

    def stand(self, devices: int) -> None:
        self.end()
        self._place = self._whole / str(devices)
        self._place.mkdir()
        env = {"GOOSEBIT_DB_URI": f"sqlite:///{self._place / 'db.sqlite3'}",
               "GOOSEBIT_ARTIFACTS_DIR": str(self._place / "artifacts")}  # fmt: skip
        log = self._place / "goosebit.log"
        with log.open("wb") as file:
            filled = subprocess.run([self._python, "-c", FILL, str(devices)], env=env, cwd=self._place,
                                    stdout=subprocess.PIPE, stderr=file, check=False)  # fmt: skip
        if filled.returncode:
            raise Skip(f"gooseBit's database could not be filled: {log.read_text()[-400:]}")
        self._software = filled.stdout.decode().split()[-1]
        self.port = _free_port()
        words = ["-m", "uvicorn", "goosebit:app", "--port", str(self.port), "--no-access-log", "--log-level", "warning"]
        self._process = start([self._python, *words], log, env)
        wait_for("gooseBit", lambda: answers(self.port, self._path(0)), self._process, log)

    def end(self) -> None:
        end(self._process)

    def _path(self, device: int) -> str:
        return f"/DEFAULT/controller/v1/device-{device}"

    def poll(self, device: int) -> Sequence[bytes]:
        return (request("GET", self._path(device)),)

    def reports(self, first: int, count: int) -> list[bytes]:
        said = {"status": {"execution": "closed", "result": {"finished": "success"}, "details": ["done"]}}
        body = json.dumps(said).encode()
        tail = f"/deploymentBase/{self._software}/feedback"
        head = {"content_type": "application/json"}
        return [request("POST", self._path(n) + tail, body, **head) for n in range(first, first + count)]

    def kept(self) -> int:
        with contextlib.closing(sqlite3.connect(self._place / "db.sqlite3")) as db:
            return int(db.execute("SELECT count(*) FROM device WHERE last_log LIKE 'done%'").fetchone()[0])

    def cpu_s(self) -> float:
        assert self._process is not None
        return tree_cpu_s([self._process.pid])


def installed(cache: Path) -> Path:
    """Give the interpreter that has gooseBit, and make it where there is none. Raises Skip."""
    place = cache / f"goosebit-{VERSION}"
    python = place / "bin" / "python"
    if (place / "done").exists():
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", place], check=True, capture_output=True)
        command = [python, "-m", "pip", "install", "--quiet", f"goosebit=={VERSION}"]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
    except (subprocess.SubprocessError, OSError) as error:
        said = getattr(error, "stderr", b"") or b""
        raise Skip(f"gooseBit {VERSION} could not be installed from PyPI: {error} {said[-300:].decode()}") from None
    (place / "done").touch()
    return python
