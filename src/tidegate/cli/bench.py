"""`tidegate bench swarm`: thousands to a million devices that speak the real protocol, from a few processes."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Literal

from cyclopts import App

from tidegate.cli.show import out, out_json
from tidegate.cli.swarm_board import Board
from tidegate.cli.swarm_client import allow_files
from tidegate.cli.swarm_play import TIMESTAMP, Part
from tidegate.cli.swarm_show import Teller, show, summary
from tidegate.cli.swarm_stage import SwarmStage
from tidegate.cli.swarm_watch import Watched, watch
from tidegate.core.errors import BadInput, Refused

app = App(name="bench", help="Load a control plane with devices that speak the real protocol.")
Pattern = Literal["steady", "herd", "slow-loris", "bad-macs"]
Reads = Literal["plan", "timestamp", "nothing"]
SLOW, BAD_MACS = 200, 0.2
MOST_CONNECTIONS = 20_000
GRACE_S = 120.0
"""By default a run may take this long after its last device has come."""


@app.command
def swarm(
    *,
    devices: int = 10_000,
    processes: int = 1,
    pattern: Pattern = "steady",
    rate: float = 500.0,
    connections: int = 128,
    reads: Reads = "plan",
    poll: float = 1.0,
    soak: float = 0.0,
    most: float | None = None,
    seed: int = 1,
    json: bool = False,
) -> None:
    """Let a made-up fleet poll, announce, soak and report on a control plane of its own; print how long answers took.

    Each device reads the signed files, announces until it has its lease, and reports. What fails or is turned away is
    sent again after the agent's own back-off. Times count from the moment at which a request was due, not from when it
    could be sent. Ctrl-C ends it early and prints what there is. Exit code 1 if not every device was confirmed in time.

    Args:
        devices: How many, 1 to 1,000,000.
        processes: How many processes play them.
        pattern: steady: so many devices a second begin; herd: all at once, as after an outage; slow-loris: steady,
            while 200 connections send a byte a second; bad-macs: steady, and one device in five first sends a MAC that
            does not hold.
        rate: Devices that begin in a second, all processes together.
        connections: Open connections, all processes together. More than 8,192 can have more waiting than the server
            takes in, and it turns devices away.
        reads: plan: the five files of a refresh that finds a new plan; timestamp: the first file alone; nothing.
        poll: The agents' poll interval in seconds, from which their back-off grows.
        soak: Seconds from lease to report.
        most: Give up after so many seconds; by default two minutes after the last device has come.
        seed: Makes the pauses repeatable.
        json: Print JSON.
    """
    _check(devices, processes, connections, {"--rate": rate, "--poll": poll}, soak)
    come_s = 0.0 if pattern == "herd" else devices / rate
    most_s = come_s + GRACE_S if most is None else most
    if not 0 < most_s < math.inf:
        raise BadInput("--most must be a number of seconds above 0")
    allow_files(connections + SLOW)
    with tempfile.TemporaryDirectory(prefix="tidegate-swarm-") as place:
        if not json:
            out(f"A control plane with {devices:,} enrolled devices is made ...")
        with SwarmStage(Path(place), devices) as stage:
            host, port = stage.start()
            rollout = stage.roll_out()
            files = {"plan": stage.refresh_paths, "timestamp": lambda: (TIMESTAMP,), "nothing": tuple[str, ...]}
            read = files[reads]()
            parts = [
                Part(
                    host,
                    port,
                    rollout,
                    stage.credentials(seed, number, processes),
                    files=read,
                    connections=connections // processes,
                    per_s=0.0 if pattern == "herd" else rate / processes,
                    poll_s=poll,
                    soak_s=soak,
                    most_s=most_s,
                    bad_macs=BAD_MACS if pattern == "bad-macs" else 0.0,
                    slow=SLOW // processes if pattern == "slow-loris" else 0,
                    seed=seed + number,
                    board=str(Path(place) / "board"),
                    place=number,
                )
                for number in range(processes)
            ]
            board = Board(parts[0].board, processes)
            if not json:
                out(f"{devices:,} devices come, {pattern}: {processes} process(es), {connections} connections.")
            watched = _watched(stage, parts, board, Teller(devices, quiet=json))
    said = summary(watched, pattern, devices)
    if json:
        out_json(said)
    else:
        show(said)
    if watched.stopped:
        raise Refused(f"ended early, with {said['confirmed']:,} of {devices:,} devices confirmed")
    if said["confirmed"] < devices:
        raise Refused(f"{devices - said['confirmed']:,} of {devices:,} devices were not confirmed within {most_s:g} s")


def _check(devices: int, processes: int, connections: int, above_0: dict[str, float], soak: float) -> None:
    if not 1 <= devices <= 1_000_000:
        raise BadInput("--devices must be between 1 and 1,000,000")
    if not 1 <= processes <= min(64, devices):
        raise BadInput("--processes must be between 1 and 64, and no more than there are devices")
    if not processes <= connections <= MOST_CONNECTIONS:
        raise BadInput(f"--connections must be at least one for each process, and at most {MOST_CONNECTIONS:,}")
    for name, value in above_0.items():
        if not 0 < value < math.inf:
            raise BadInput(f"{name} must be a number above 0")
    if not 0 <= soak < math.inf:
        raise BadInput("--soak must be a number of seconds, 0 or more")


def _watched(stage: SwarmStage, parts: list[Part], board: Board, teller: Teller) -> Watched:
    try:
        return watch(stage, parts, board, teller)
    except OSError as error:
        raise Refused(f"the swarm's server could not be reached: {error}") from None
    finally:
        teller.end()
