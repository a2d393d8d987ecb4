"""Under load: does the server's memory grow over minutes, and what becomes of who comes when too much waits already?

The slope is that of a steady load of new devices, each with a lease and a report of its own, in an order of chance. The
first fifth is left out, in which buffers fill and the fleet's arrays are touched for the first time. It is compared
with what would pile up if the server kept every message that it has answered.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bench.rows import Row
from tidegate.cli.swarm_board import Board
from tidegate.cli.swarm_client import allow_files
from tidegate.cli.swarm_play import Part
from tidegate.cli.swarm_stage import SwarmStage
from tidegate.cli.swarm_watch import Watched, watch

STEADY_S, STEADY_FULL_S, PER_S = 60, 600, 400
HERD, HERD_CONNECTIONS = 20_000, 15_000
MESSAGE_BYTES = 300 + 250
"""An announcement and a report as they come over the line: head, credential and body."""


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Load a server steadily for a minute, or (`full`) ten, and once with more than it takes in."""
    del write
    seconds = STEADY_FULL_S if full else STEADY_S
    steady = _loaded(seconds * PER_S, connections=128, per_s=PER_S, most_s=2 * seconds + 60)
    herd = _loaded(HERD, connections=HERD_CONNECTIONS, per_s=0.0, most_s=300)
    slope = 60 * steady.slope_bytes_per_s / 1e6
    confirmed = sum(part.confirmed for part in steady.played)
    took_s = max(part.seconds for part in steady.played)
    away, untold = (sum(getattr(part, name) for part in herd.played) for name in ("away", "away_untold"))
    memory = herd.memory_bytes
    settled = memory[len(memory) // 3]
    return [
        Row(f"intake memory slope, {seconds} s of {confirmed / took_s:,.0f} devices/s", slope, "MB/min",
            "all messages, kept", 60 * PER_S * MESSAGE_BYTES / 1e6),
        Row(f"overload, {HERD_CONNECTIONS:,} connections at once: answers that said when to come again", away - untold,
            "answers", "all that turned away", away),
        Row("overload: devices that got through by their own back-off", sum(part.confirmed for part in herd.played),
            "devices", "all", HERD),
        Row("overload: memory at its most", max(memory) / 1e6, "MB", "a third into it", settled / 1e6),
    ]  # fmt: skip


def _loaded(devices: int, *, connections: int, per_s: float, most_s: float) -> Watched:
    """Load a new server with devices from two processes."""
    allow_files(connections)
    processes = min(2, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as place, SwarmStage(Path(place), devices) as stage:
        host, port = stage.start()
        rollout = stage.roll_out()
        board = Path(place) / "board"
        parts = [
            Part(
                host,
                port,
                rollout,
                stage.credentials(1, number, processes),
                files=(),
                connections=connections // processes,
                per_s=per_s / processes,
                most_s=most_s,
                seed=number,
                board=str(board),
                place=number,
            )
            for number in range(processes)
        ]
        return watch(stage, parts, Board(board, processes), lambda _: None)
