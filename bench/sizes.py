"""A lease and a report, as whole requests to real servers, against the fleet's size; the servers take turns."""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import uvloop

from bench.intake import Keep, announcement, drive, post, report
from bench.rows import Row
from tidegate.cli.swarm_stage import SwarmStage

SMALLEST, SMALL, WHOLE = 10_000, 1_000_000, 8_500_000
TURNS, EACH = 10, 1000
"""In each turn so many devices, drawn from the whole fleet, ask and report."""


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Measure fleets of ten thousand and a million devices, and (`full`) of 8.5 million."""
    del write
    sizes = (SMALLEST, SMALL, *((WHOLE,) if full else ()))
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        fleets = [stack.enter_context(_Fleet(Path(place) / str(size), size)) for size in sizes]
        for fleet in fleets:
            fleet.begin()
        for _ in range(TURNS):
            for fleet in fleets:
                fleet.turn()
        memory = fleets[-1].stage.memory_bytes()
    found: list[Row] = []
    for what in ("lease", "report"):
        base = statistics.median(fleets[0].took_s[what])
        for fleet in fleets:
            middle = statistics.median(fleet.took_s[what])
            name, other = f"a {what}, {fleet.devices:,} devices", f"with {SMALLEST:,} devices, in turns"
            found.append(Row(name, 1e6 * middle, "us of CPU", other, 1e6 * base))
    found.append(Row(f"memory of the server, {sizes[-1]:,} devices", memory / 1e6, "MB", "1,000 MB", 1000))
    return found


class _Fleet:
    """One server with its fleet, a rollout to everyone, and devices that come in an order of chance."""

    def __init__(self, place: Path, devices: int) -> None:
        place.mkdir()
        self.devices, self.stage = devices, SwarmStage(place, devices, cpus=[0])
        self.took_s: dict[str, list[float]] = {"lease": [], "report": []}
        self._left = np.random.default_rng(1).permutation(devices)[: TURNS * EACH].tolist()
        self._address, self._rollout = ("", 0), ""

    def __enter__(self) -> _Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.stage.stop()

    def begin(self) -> None:
        """Start the server and the rollout."""
        os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - {0} or {0})
        self._address = self.stage.start()
        self._rollout = self.stage.roll_out()

    def turn(self) -> None:
        """Let some devices ask for a lease, and report."""
        some, self._left = self._left[:EACH], self._left[EACH:]
        who = [self.stage.credential(index)[1] for index in some]
        leases = [""] * EACH

        def keep(number: int, body: bytes) -> None:
            leases[number] = msgspec.json.decode(body)["lease_id"]

        asking = [post(credential, 1, "/v1/announce", announcement(self._rollout)) for credential in who]
        self._measure("lease", asking, keep)
        self._measure(
            "report",
            [post(one, 2, "/v1/reports", report(lease)) for one, lease in zip(who, leases, strict=True)],
        )

    def _measure(self, what: str, messages: list[bytes], keep: Keep | None = None) -> None:
        before = self._busy_s()
        _, tally = uvloop.run(drive(*self._address, messages, keep))
        assert tally.statuses == {"x 200": len(messages)}, tally.statuses
        self.took_s[what].append((self._busy_s() - before) / len(messages))

    def _busy_s(self) -> float:
        """The processor time of the server's threads, to the nanosecond."""
        assert self.stage.process is not None
        found = 0
        for thread in Path(f"/proc/{self.stage.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += int((thread / "schedstat").read_text().split()[0])
        return found / 1e9
