"""Tidegate beside its peers: the whole server in one process, SQLite, each report durable before it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from bench.intake import announcement, drive, post, report
from bench.peers._port import CORE, request, tree_cpu_s
from tidegate import __version__
from tidegate.cli.office import OfficeClient
from tidegate.cli.swarm_stage import SwarmStage


class Tidegate:
    """A control plane with a rollout that takes everyone."""

    name = f"Tidegate {__version__}"
    once = False

    def __init__(self, place: Path, cache: Path) -> None:
        del cache
        self._place = place
        self._stage: SwarmStage | None = None
        self.port, self._rollout = 0, ""
        self._polls: tuple[bytes, ...] = ()

    def stand(self, devices: int) -> None:
        self.end()
        place = self._place / str(devices)
        place.mkdir()
        self._stage = SwarmStage(place, devices, cpus=[CORE])
        _, self.port = self._stage.start()
        self._rollout = self._stage.roll_out()
        root, timestamp = self._stage.refresh_paths()[:2]
        self._polls = (request("GET", root), request("GET", timestamp))

    def end(self) -> None:
        if self._stage is not None:
            self._stage.stop()

    def poll(self, device: int) -> Sequence[bytes]:
        """Give the two requests of a refresh with nothing new: no newer root, and the same timestamp."""
        del device
        return self._polls

    def reports(self, first: int, count: int) -> list[bytes]:
        assert self._stage is not None
        who = [self._stage.credential(index)[1] for index in range(first, first + count)]
        leases = [""] * count

        def keep(number: int, body: bytes) -> None:
            leases[number] = msgspec.json.decode(body)["lease_id"]

        announces = [post(c, 1, "/v1/announce", announcement(self._rollout)) for c in who]
        uvloop.run(drive("127.0.0.1", self.port, announces, keep, 0.0))
        return [post(c, 2, "/v1/reports", report(lease)) for c, lease in zip(who, leases, strict=True)]

    def kept(self) -> int:
        assert self._stage is not None
        said = OfficeClient(self._stage.home.path).get(f"/api/v1/rollouts/{self._rollout}")
        return int(said["confirmed"])

    def cpu_s(self) -> float:
        assert self._stage is not None and self._stage.process is not None
        return tree_cpu_s([self._stage.process.pid])
