"""A control plane made for a swarm: its fleet stands in the log already, and one rollout takes everyone at once."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tidegate.cli.home import Home
from tidegate.cli.init import make_control_plane
from tidegate.cli.office import OfficeClient
from tidegate.cli.release_files import SpeedOptions, create_draft, sign_draft
from tidegate.core.errors import Refused
from tidegate.core.model import Health
from tidegate.log.events import Act
from tidegate.log.pack import MOST_EVENTS, pack, pack_columns
from tidegate.log.sqlite import SqliteLog
from tidegate.trust.credentials import load_secrets
from tidegate.trust.layout import release_role
from tidegate.trust.metadata import latest_bytes

COMPONENT = "edr-rules"
SITES = 1000
START_S = 120.0


class SwarmStage:
    """A home with enrolled devices, its server process, and a rollout. Use as a context manager."""

    def __init__(self, place: Path, devices: int, *, cpus: Sequence[int] = ()) -> None:
        self.place, self.devices, self._cpus = place, devices, tuple(cpus)
        self.home = Home(place / "home")
        make_control_plane(self.home, place / "offline", [COMPONENT])
        self._secrets = load_secrets(self.home.device_secrets)
        self._ids = np.frombuffer(secrets.token_bytes(16 * devices), dtype=">i8").reshape(devices, 2)
        self._enrol()
        self.process: subprocess.Popen[bytes] | None = None
        self.rollout = ""

    def __enter__(self) -> SwarmStage:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _enrol(self) -> None:
        log, at_ms = SqliteLog(self.home.log), int(time.time() * 1000) - 60_000
        token = {"token_id": "swarm", "hash": "", "labels": {}, "uses": self.devices, "expires_ms": at_ms}
        records = [pack([Act(at_ms=at_ms, what="token_created", who="bench", why="", body=token)])]
        texts: list[Any] = ["swarm", {}, *({"site": f"s{number:03}"} for number in range(SITES))]
        for first in range(0, self.devices, MOST_EVENTS):
            count = min(MOST_EVENTS, self.devices - first)
            index = np.arange(first, first + count, dtype=np.int64)
            zero = np.zeros(count, dtype=np.int64)
            ids = self._ids[first : first + count].astype(np.int64)
            records.append(
                pack_columns(
                    texts,
                    enrolled={
                        "at_ms": zero + at_ms,
                        "index": index,
                        "token_id": zero,
                        "facts": zero + 1,
                        "labels": 2 + index % SITES,
                        "has_key": zero,
                        "id0": ids[:, 0],
                        "id1": ids[:, 1],
                        **dict.fromkeys(("key0", "key1", "key2", "key3"), zero),
                    },
                )
            )
        log.append_records(records)
        log.close()

    def credential(self, index: int) -> tuple[int, str]:
        """Give a device's index and credential."""
        return index, self._secrets.credential(self._secrets.newest_epoch, index, self._ids[index].tobytes().hex())

    def credentials(self, seed: int, part: int, parts: int) -> list[tuple[int, str]]:
        """Give index and credential of one of several equal parts of the devices, in an order of chance."""
        order = np.random.default_rng(seed).permutation(self.devices)
        return [self.credential(index) for index in order[part::parts].tolist()]

    def refresh_paths(self) -> tuple[str, ...]:
        """Give what a device reads that finds a new plan: no newer root, then timestamp, snapshot, plans, its plan.

        Raises:
            Refused: no plan was published in time.
        """
        published = self.home.repository / "targets" / "plans"
        deadline = time.monotonic() + START_S
        while not (plans := sorted(published.glob(f"*.{COMPONENT}.json"), key=_changed)):
            if time.monotonic() > deadline:
                raise Refused("the swarm's rollout has no published plan")
            time.sleep(0.05)
        names = [path.name for path in (self.home.repository / "metadata").iterdir()]
        newest = {
            role: max(int(name.partition(".")[0]) for name in names if name.partition(".")[2] == f"{role}.json")
            for role in ("root", "snapshot", "plans")
        }
        return (
            f"/repo/metadata/{newest['root'] + 1}.root.json",
            "/repo/metadata/timestamp.json",
            f"/repo/metadata/{newest['snapshot']}.snapshot.json",
            f"/repo/metadata/{newest['plans']}.plans.json",
            f"/repo/targets/plans/{plans[-1].name}",
        )

    def start(self, *words: str) -> tuple[str, int]:
        """Start the server; give the host and port of its devices' port. Raises Refused if it does not start."""
        cpus = self._cpus
        command = [sys.executable, "-m", "tidegate", "serve", "--home", str(self.home.path), "--log-level", "warning"]
        with (self.place / "server.log").open("ab") as file:
            self.process = subprocess.Popen(
                [*command, "--devices", "127.0.0.1:0", "--operators", "127.0.0.1:0", "--device-rate", "0", *words],
                stdout=file,
                stderr=file,
                start_new_session=True,  # a Ctrl-C is for the swarm, which then ends the server itself
                preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
            )
        deadline = time.monotonic() + START_S
        while not self.home.address.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.place / "server.log").read_text(errors="replace")[-500:]
                raise Refused(f"the swarm's server did not start: {said}")
            time.sleep(0.02)
        host, _, port = json.loads(self.home.address.read_text())["devices"].removeprefix("http://").partition(":")
        return host, int(port)

    def cpu_s(self) -> float:
        """The processor time that the server has used."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """The memory that the server holds."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def roll_out(self, *, max_harmed: int = 0, observe_s: int = 3600, caps: dict[str, int] | None = None) -> str:
        """Log a release and start a rollout whose first ring holds everyone, unless `max_harmed` says less."""
        office = OfficeClient(self.home.path)
        source = self.place / "content"
        source.mkdir()
        (source / "rules.txt").write_text("nothing\n")
        draft = create_draft(
            source, self.place / "release", component=COMPONENT, version="1.0", seq=1, driver="files", health=Health(0)
        )
        newest = latest_bytes(self.home.repository, release_role(COMPONENT))
        signed = sign_draft(draft, newest, self.place / "offline", SpeedOptions.for_trial(86_400))
        office.put(f"/api/v1/payloads/{draft.manifest.payload.sha256}", draft.payload)
        office.post(
            "/api/v1/releases",
            {"component": COMPONENT, "releases": signed.decode(), "manifest": draft.manifest_bytes.decode()},
        )
        body = {
            "component": COMPONENT,
            "release": "1",
            "max_harmed": max_harmed or self.devices,
            "late_budget_share": 0.0,
            "confidence": 0.999999,
            "placebo_per_treated": 0.0,
            "observe_s": observe_s,
            "allow_hold": True,
            "caps": caps or {},
        }
        self.rollout = str(office.post("/api/v1/rollouts", body)["rollout"])
        deadline = time.monotonic() + START_S
        while not office.get(f"/api/v1/rollouts/{self.rollout}")["ring"]:
            if time.monotonic() > deadline:
                raise Refused("the swarm's rollout did not open its first ring")
            time.sleep(0.05)
        return self.rollout

    def stop(self) -> None:
        """End the server."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def _changed(path: Path) -> float:
    return path.stat().st_mtime
