"""How a swarm's figures are shown: progress while it runs, then a table and a histogram, and all of it as JSON."""

from __future__ import annotations

import sys
from typing import Any

from tidegate.cli.show import out, table
from tidegate.cli.swarm_client import LEAST_S, STEPS_PER_DECADE, Tally
from tidegate.cli.swarm_watch import Progress, Watched

BAR = 40
BARS_PER_DECADE = 5
TOLD_EVERY_S = 10.0
"""Where nobody watches a terminal, progress is a line this often."""
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


class Teller:
    """Says how far it is, on stderr: one line that is written over; where that is no terminal, a line now and then."""

    def __init__(self, devices: int, quiet: bool) -> None:
        self._devices, self._terminal = devices, sys.stderr.isatty()
        self._quiet = quiet and not self._terminal
        self._next_s, self._width = TOLD_EVERY_S, 0

    def __call__(self, now: Progress) -> None:
        """Say it, if it is time."""
        if self._quiet or (not self._terminal and now.seconds < self._next_s):
            return
        self._next_s = now.seconds + TOLD_EVERY_S
        line = (
            f"{now.seconds:5.0f} s: {now.begun:,} of {self._devices:,} devices came, {now.confirmed:,} confirmed,"
            f" {now.per_s:,.0f} answers/s, server {now.memory_bytes / 1e6:,.0f} MB"
        )
        self._width = max(self._width, len(line))
        sys.stderr.write(f"\r{line:<{self._width}}" if self._terminal else line + "\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._terminal and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")


def whole(watched: Watched) -> Tally:
    """Put the counts of all processes together."""
    found = Tally()
    for part in watched.played:
        found.merge(part.tally)
    return found


def summary(watched: Watched, pattern: str, devices: int) -> dict[str, Any]:
    """Give all figures as JSON has them."""
    tally = whole(watched)
    seconds = max(part.seconds for part in watched.played)
    memory = watched.memory_bytes or [0]
    slope = watched.slope_bytes_per_s
    return {
        "pattern": pattern,
        "devices": devices,
        "begun": sum(part.begun for part in watched.played),
        "confirmed": sum(part.confirmed for part in watched.played),
        "refused": sum(part.refused for part in watched.played),
        "stopped_early": watched.stopped,
        "seconds": round(seconds, 3),
        "requests": tally.answers,
        "requests_per_s": round(tally.answers / seconds, 1),
        "statuses": dict(sorted(tally.statuses.items())),
        "latency_ms": {
            name: round(1000 * tally.quantile_s(share), 2) if tally.answers else None
            for name, share in QUANTILES.items()
        },
        "slowest_ms": round(1000 * tally.slowest_s, 2),
        "histogram": [{"to_ms": round(to_ms, 3), "answers": count} for to_ms, count in bars(tally)],
        "turned_away": sum(part.away for part in watched.played),
        "turned_away_without_retry_after": sum(part.away_untold for part in watched.played),
        "slow_connections_closed": sum(part.slow_closed for part in watched.played),
        "server": {
            "cpu_s": round(watched.cpu_s, 2),
            "memory_mb": [round(memory[0] / 1e6, 1), round(memory[-1] / 1e6, 1)],
            "memory_peak_mb": round(max(memory) / 1e6, 1),
            "memory_slope_kb_per_s": None if slope != slope else round(slope / 1e3, 2),
        },
    }


def bars(tally: Tally) -> list[tuple[float, int]]:
    """Give the histogram, five bars to a decade, as (upper end in ms, answers); empty ends are left out."""
    per = STEPS_PER_DECADE // BARS_PER_DECADE
    sums = [
        (1000 * LEAST_S * 10 ** ((at + per - 1) / STEPS_PER_DECADE), int(tally.steps[at : at + per].sum()))
        for at in range(0, len(tally.steps), per)
    ]
    used = [number for number, (_, count) in enumerate(sums) if count]
    return sums[used[0] : used[-1] + 1] if used else []


def show(said: dict[str, Any]) -> None:
    """Print the figures for people."""
    out(
        f"{said['confirmed']:,} of {said['devices']:,} devices confirmed in {said['seconds']:.1f} s:"
        f" {said['requests']:,} requests, {said['requests_per_s']:,.0f} a second."
    )
    rows = [(*name.rsplit(" ", 1), f"{count:,}") for name, count in said["statuses"].items()]
    table("Answers", ("request", "status", "count"), rows, empty="Nothing was answered.")
    most = max((bar["answers"] for bar in said["histogram"]), default=0)
    for bar in said["histogram"]:
        filled = "█" * round(BAR * bar["answers"] / most)
        out(f"  up to {bar['to_ms']:>10,.2f} ms {filled:<{BAR}} {bar['answers']:>10,}")
    if said["histogram"]:
        quantiles = ", ".join(f"{name} {value:,.1f} ms" for name, value in said["latency_ms"].items())
        out(f"{quantiles}, slowest {said['slowest_ms']:,.1f} ms")
    if said["turned_away"]:
        untold = said["turned_away_without_retry_after"]
        out(
            f"{said['turned_away']:,} answers turned a device away for a while; "
            + (f"{untold:,} did not say for how long." if untold else "each said for how long.")
        )
    if said["slow_connections_closed"]:
        out(f"{said['slow_connections_closed']:,} slow connections were closed by the server.")
    server = said["server"]
    before, after = server["memory_mb"]
    slope = server["memory_slope_kb_per_s"]
    out(
        f"The server used {server['cpu_s']:.1f} s of processor time; its memory: {before} to {after} MB,"
        f" at most {server['memory_peak_mb']} MB" + ("." if slope is None else f", {slope:+,.1f} kB a second.")
    )
