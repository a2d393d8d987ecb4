"""The client, the same for every peer: 32 connections, each with the next request when the last is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uvloop

from tidegate.cli.swarm_client import Pool, Tally

CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Rate:
    """What one load gave: of what was counted, in a second of the clock and of the server's processor time."""

    per_s: float
    per_cpu_s: float
    p99_ms: float
    failed: int
    cut: bool
    """The time was up before all was asked."""


def rate(port: int, asked: Sequence[Sequence[bytes]], cpu_s: Callable[[], float], most_s: float) -> Rate:
    """Ask what is listed, until all was answered or the time is up; one entry is one thing, of one or more requests."""
    before = cpu_s()
    done, seconds, tally = uvloop.run(_drive(port, asked, most_s))
    used_s = max(cpu_s() - before, 0.01)
    failed = sum(count for name, count in tally.statuses.items() if name.rpartition(" ")[2] not in ("200", "404"))
    return Rate(done / seconds, done / used_s, 1e3 * tally.quantile_s(0.99), failed, done < len(asked))


async def _drive(port: int, asked: Sequence[Sequence[bytes]], most_s: float) -> tuple[int, float, Tally]:
    pool, tally, over = Pool("127.0.0.1", port, CONNECTIONS), Tally(), asyncio.Event()
    await pool.start()
    started, next_one, finished, flying = time.monotonic(), 0, 0, 0

    def begin() -> None:
        nonlocal next_one, flying
        if next_one < len(asked) and time.monotonic() - started < most_s:
            flying += 1
            next_one += 1
            step(asked[next_one - 1], 0)
        elif not flying:
            over.set()

    def step(requests: Sequence[bytes], place: int) -> None:
        due = time.monotonic()

        def done(status: int, _: bytes, __: float) -> None:
            nonlocal finished, flying
            tally.add("x", status, time.monotonic() - due)
            if place + 1 < len(requests):
                step(requests, place + 1)
                return
            flying -= 1
            finished += 1
            begin()

        pool.at(due, requests[place], done)

    for _ in range(CONNECTIONS):
        begin()
    await asyncio.wait_for(over.wait(), most_s + 60)
    pool.close()
    return finished, time.monotonic() - started, tally
