"""Under load: does the server's memory grow over minutes, and what becomes of who comes when too much waits already?

The slope is that of a steady load of new devices, each with a lease and a report of its own, in an order of chance,
after so many have come at once that all is full that a server keeps of the devices heard last (`intake/copies.py`). It
is compared with what would pile up if the server kept every message that it has answered.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench._scale_page import put, table
from bench.rows import Row
from tidegate.cli.swarm_board import Board
from tidegate.cli.swarm_client import allow_files
from tidegate.cli.swarm_play import Part
from tidegate.cli.swarm_stage import SwarmStage
from tidegate.cli.swarm_watch import Watched, watch
from tidegate.intake.copies import MOST_DEVICES

STEADY_S, STEADY_FULL_S, PER_S = 60, 600, 400
WARM = MOST_DEVICES + MOST_DEVICES // 10
HERD, HERD_CONNECTIONS = 20_000, 15_000
MESSAGE_BYTES = 300 + 250
"""An announcement and a report as they come over the line: head, credential and body."""


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Load a server steadily for a minute, or (`full`, `write`) ten, and once with more than it takes in."""
    seconds = STEADY_FULL_S if full or write else STEADY_S
    first, steady = _loaded([Load(WARM, 128, 0.0), Load(seconds * PER_S, 128, PER_S)], most_s=2 * seconds + 240)
    (herd,) = _loaded([Load(HERD, HERD_CONNECTIONS, 0.0)], most_s=300)
    slope = 60 * steady.slope_bytes_per_s / 1e6
    confirmed = sum(part.confirmed for part in steady.played)
    took_s = max(part.seconds for part in steady.played)
    away, untold = (sum(getattr(part, name) for part in herd.played) for name in ("away", "away_untold"))
    memory = herd.memory_bytes
    found = [
        Row(f"intake memory slope, {seconds} s of {confirmed / took_s:,.0f} devices/s", slope, "MB/min",
            "all messages, kept", 60 * PER_S * MESSAGE_BYTES / 1e6),
        Row("memory after that", steady.memory_bytes[-1] / 1e6, "MB", f"after {WARM:,} devices at once",
            first.memory_bytes[-1] / 1e6),
        Row(f"overload, {HERD_CONNECTIONS:,} connections at once: answers that said when to come again", away - untold,
            "answers", "all that turned away", away),
        Row("overload: devices that got through by their own back-off", sum(part.confirmed for part in herd.played),
            "devices", "all", HERD),
        Row("overload: memory at its most", max(memory) / 1e6, "MB", "a third into it",
            memory[len(memory) // 3] / 1e6),
    ]  # fmt: skip
    if write:
        put("load", tabled(found))
    return found


def tabled(found: Sequence[Row]) -> str:
    """Write the rows for docs/scale.md."""
    rows = [
        (row.name, f"{_short(row.value)} {row.unit}", f"{row.reference}: {_short(row.reference_value)}")
        for row in found
    ]
    return table(("", "figure", "against"), rows)


@dataclass(frozen=True, slots=True)
class Load:
    """Devices that come over so many connections, so many in a second (0: all at once)."""

    devices: int
    connections: int
    per_s: float


def _loaded(loads: Sequence[Load], most_s: float) -> list[Watched]:
    """Load a new server from two processes, with one load after the other."""
    processes, begun, found = min(2, os.cpu_count() or 1), 0, list[Watched]()
    allow_files(max(load.connections for load in loads))
    with tempfile.TemporaryDirectory() as place, SwarmStage(Path(place), sum(load.devices for load in loads)) as stage:
        host, port = stage.start()
        rollout = stage.roll_out()
        who = stage.credentials(1, 0, 1)
        for load in loads:
            board = Path(place) / "board"
            some = who[begun : begun + load.devices]
            begun += load.devices
            parts = [
                Part(
                    host,
                    port,
                    rollout,
                    some[number::processes],
                    files=(),
                    connections=load.connections // processes,
                    per_s=load.per_s / processes,
                    most_s=most_s,
                    seed=number,
                    board=str(board),
                    place=number,
                )
                for number in range(processes)
            ]
            found.append(watch(stage, parts, Board(board, processes), lambda _: None))
    return found


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
