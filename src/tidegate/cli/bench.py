"""`tidegate bench swarm`: thousands to a million devices that speak the real protocol, from a few processes."""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal

from cyclopts import App

from tidegate.cli.show import out, out_json, table
from tidegate.cli.swarm_client import LEAST_S, STEPS_PER_DECADE, Tally
from tidegate.cli.swarm_play import Part, Played, play_process
from tidegate.cli.swarm_stage import SwarmStage
from tidegate.core.errors import BadInput, Refused

app = App(name="bench", help="Load a control plane with devices that speak the real protocol.")
Pattern = Literal["steady", "herd", "slow-loris", "bad-macs"]
BAR = 40


@app.command
def swarm(
    *,
    devices: int = 10_000,
    processes: int = 1,
    pattern: Pattern = "steady",
    rate: float = 500.0,
    connections: int = 128,
    soak: float = 0.0,
    most: float = 120.0,
    seed: int = 1,
    json: bool = False,
) -> None:
    """Let a made-up fleet poll, announce, soak and report on a control plane of its own; print how long answers took.

    Each device reads the signed timestamp, announces until it has its lease, and reports; what is not answered is sent
    again, as an agent does. Times count from the moment at which a request was due, not from when it could be sent.
    Exit code 1 if not every device was confirmed in time.

    Args:
        devices: How many, 1 to 1,000,000.
        processes: How many processes play them.
        pattern: steady: so many devices a second begin; herd: all at once, as after an outage; slow-loris: steady,
            while 200 connections send a byte a second; bad-macs: steady, and one device in five first sends a MAC that
            does not hold.
        rate: Devices that begin in a second, all processes together.
        connections: Open connections, all processes together.
        soak: Seconds from lease to report.
        most: Give up after so many seconds.
        seed: Makes the pauses repeatable.
        json: Print JSON.
    """
    if not 1 <= devices <= 1_000_000:
        raise BadInput("--devices must be between 1 and 1,000,000")
    if not 1 <= processes <= 64 or connections < processes or rate <= 0 or most <= 0:
        raise BadInput("--processes 1 to 64, at least one connection for each, --rate and --most above 0")
    with tempfile.TemporaryDirectory(prefix="tidegate-swarm-") as place:
        if not json:
            out(f"A control plane with {devices:,} enrolled devices is made ...")
        with SwarmStage(Path(place), devices) as stage:
            host, port = stage.start()
            rollout = stage.roll_out()
            parts = [
                Part(
                    host,
                    port,
                    rollout,
                    [stage.credential(index) for index in range(number, devices, processes)],
                    connections=connections // processes,
                    per_s=0.0 if pattern == "herd" else rate / processes,
                    soak_s=soak,
                    most_s=most,
                    bad_macs=0.2 if pattern == "bad-macs" else 0.0,
                    slow=200 // processes if pattern == "slow-loris" else 0,
                    seed=seed + number,
                )
                for number in range(processes)
            ]
            if not json:
                out(f"{devices:,} devices come, {pattern}: {processes} process(es), {connections} connections.")
            before_mb, before_cpu_s = stage.memory_bytes() / 1e6, stage.cpu_s()
            found = _play_all(parts)
            said = _summary(found, pattern, devices)
            said["server"] = {
                "cpu_s": round(stage.cpu_s() - before_cpu_s, 2),
                "memory_mb": [round(before_mb, 1), round(stage.memory_bytes() / 1e6, 1)],
            }
    if json:
        out_json(said)
    else:
        _show(said, found)
    if said["confirmed"] < devices:
        raise Refused(f"{devices - said['confirmed']:,} of {devices:,} devices were not confirmed within {most:g} s")


def _play_all(parts: list[Part]) -> list[Played]:
    if len(parts) == 1:
        return [play_process(parts[0])]
    with ProcessPoolExecutor(len(parts), mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(play_process, parts))


def _summary(found: list[Played], pattern: str, devices: int) -> dict[str, Any]:
    whole = _whole(found)
    seconds = max(part.seconds for part in found)
    answers = int(whole.steps.sum())
    return {
        "pattern": pattern,
        "devices": devices,
        "confirmed": sum(part.confirmed for part in found),
        "seconds": round(seconds, 3),
        "requests": answers,
        "requests_per_s": round(answers / seconds, 1),
        "statuses": dict(sorted(whole.statuses.items())),
        "latency_ms": {name: round(1000 * whole.quantile_s(share), 2) for name, share in _QUANTILES.items()},
        "slowest_ms": round(1000 * whole.slowest_s, 2),
        "slow_connections_closed": sum(part.slow_closed for part in found),
    }


_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def _whole(found: list[Played]) -> Tally:
    whole = Tally()
    for part in found:
        whole.merge(part.tally)
    return whole


def _show(said: dict[str, Any], found: list[Played]) -> None:
    out(
        f"{said['confirmed']:,} of {said['devices']:,} devices confirmed in {said['seconds']:.1f} s:"
        f" {said['requests']:,} requests, {said['requests_per_s']:,.0f} a second."
    )
    rows = [(*name.rsplit(" ", 1), f"{count:,}") for name, count in said["statuses"].items()]
    table("Answers", ("request", "status", "count"), rows, empty="Nothing was answered.")
    _histogram(_whole(found))
    quantiles = ", ".join(f"{name} {value:,.1f} ms" for name, value in said["latency_ms"].items())
    out(f"{quantiles}, slowest {said['slowest_ms']:,.1f} ms")
    before, after = said["server"]["memory_mb"]
    out(f"The server used {said['server']['cpu_s']:.1f} s of processor time; its memory: {before} to {after} MB.")


def _histogram(whole: Tally) -> None:
    """Draw the latencies, five bars to a decade."""
    per = STEPS_PER_DECADE // 5
    sums = [(int(whole.steps[at : at + per].sum()), at + per - 1) for at in range(0, len(whole.steps), per)]
    used = [number for number, (count, _) in enumerate(sums) if count]
    if not used:
        return
    most = max(count for count, _ in sums)
    for count, last in sums[used[0] : used[-1] + 1]:
        upper_ms = 1000 * LEAST_S * 10 ** (last / STEPS_PER_DECADE)
        out(f"  up to {upper_ms:>10,.2f} ms {'█' * round(BAR * count / most):<{BAR}} {count:>10,}")
