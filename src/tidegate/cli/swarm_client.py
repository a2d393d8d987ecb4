"""Many devices on few connections: requests go out when they are due, answers call back, latencies are kept."""

from __future__ import annotations

import asyncio
import heapq
import resource
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import numpy.typing as npt

from tidegate.agent.transport import IO_TIMEOUT_S
from tidegate.core.errors import Refused


def allow_files(wanted: int) -> None:
    """Let this process, and those that it starts, have so many connections. Raises Refused if the system forbids it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted += FILES_BESIDES
    if 0 <= hard < wanted:
        raise Refused(f"the system lets a process have {hard:,} open files; take --connections {hard // 2:,} or fewer")
    if 0 <= soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


Done = Callable[[int, bytes, float], None]
"""Called with status (0: the connection broke), body, and the Retry-After in seconds (0: none)."""
STEPS_PER_DECADE, DECADES, LEAST_S = 20, 7, 1e-4
OPENED_AT_ONCE = 64
FILES_BESIDES = 256
LEAST_PAUSE_S = 0.001
"""A loop's timers go in whole milliseconds; a shorter pause would only turn it round."""


@dataclass(slots=True)
class Tally:
    """What came back, and how long it took: a histogram with steps of 12 %."""

    statuses: Counter[str] = field(default_factory=Counter)
    steps: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(STEPS_PER_DECADE * DECADES + 2, dtype=np.int64)
    )
    slowest_s: float = 0.0

    def add(self, kind: str, status: int, took_s: float) -> None:
        """Count one answer; its time only if it was one."""
        self.statuses[f"{kind} {status or 'broken'}"] += 1
        if status:
            self.slowest_s = max(self.slowest_s, took_s)
            place = int(np.log10(max(took_s, LEAST_S) / LEAST_S) * STEPS_PER_DECADE) + 1
            self.steps[min(place, len(self.steps) - 1)] += 1

    def merge(self, other: Tally) -> None:
        """Take up what another process has counted."""
        self.statuses += other.statuses
        self.steps += other.steps
        self.slowest_s = max(self.slowest_s, other.slowest_s)

    @property
    def answers(self) -> int:
        """How many answers came."""
        return int(self.steps.sum())

    def quantile_s(self, share: float) -> float:
        """Give the time within which this share was answered, to the upper end of its step."""
        total = self.answers
        if not total:
            return float("nan")
        place = int(np.searchsorted(np.cumsum(self.steps), share * total))
        return min(LEAST_S * 10 ** (place / STEPS_PER_DECADE), self.slowest_s)


class _Connection(asyncio.Protocol):
    """One keep-alive connection; it knows HTTP answers with a length, as our server gives, and in chunks."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._done: Done | None = None
        self.until_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._pool.idle(self)

    def send(self, message: bytes, done: Done) -> None:
        self._done = done
        self.until_s = time.monotonic() + IO_TIMEOUT_S
        assert self._transport is not None
        self._transport.write(message)

    @property
    def waits(self) -> bool:
        """Say whether an answer is due."""
        return self._done is not None

    def forget(self) -> None:
        """Call nobody back any more."""
        self._done = None

    def end(self) -> None:
        """Break the connection off; what was asked counts as not answered."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._data = data if not self._data else self._data + data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._data[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if at < 0 and b"transfer-encoding: chunked" in head:
            if not self._data.endswith(b"0\r\n\r\n"):
                return
            length = len(self._data) - end - 4
        if len(self._data) < end + 4 + length:
            return
        body, done = self._data[end + 4 : end + 4 + length], self._done
        self._data, self._done = b"", None
        at = head.find(b"retry-after:")
        wait_s = float(head[at + 12 :].split(b"\r\n", 1)[0]) if at >= 0 else 0.0
        closing = b"connection: close" in head
        if done is not None:
            done(int(head[9:12]), body, wait_s)
        if closing and self._transport is not None:
            self._transport.close()
        else:
            self._pool.idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        done, self._done, self._transport = self._done, None, None
        if done is not None:
            done(0, b"", 0.0)
        self._pool.lost(self)


class Pool:
    """Sends what is due over a fixed number of connections; what finds none free waits, and its clock runs."""

    def __init__(self, host: str, port: int, connections: int) -> None:
        self._host, self._port, self._wanted = host, port, connections
        self._idle: deque[_Connection] = deque()
        self._due: list[tuple[float, int, bytes | Callable[[], bytes], Done]] = []
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._open: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self.closed = False

    async def start(self) -> None:
        """Open the connections. Raises OSError if nobody listens."""
        for first in range(0, self._wanted, OPENED_AT_ONCE):
            some = range(first, min(first + OPENED_AT_ONCE, self._wanted))
            await asyncio.gather(*(self._connect() for _ in some))
        self._sweep()

    async def _connect(self) -> None:
        _, connection = await self._loop.create_connection(lambda: _Connection(self), self._host, self._port)
        self._open.add(connection)

    def _sweep(self) -> None:
        """Break off what has waited too long for its answer, once a second."""
        now = time.monotonic()
        for connection in [one for one in self._open if one.waits and one.until_s < now]:
            connection.end()
        if not self.closed:
            self._sweeper = self._loop.call_later(1.0, self._sweep)

    def at(self, due_s: float, message: bytes | Callable[[], bytes], done: Done) -> None:
        """Send at a moment of the monotonic clock, or as soon after as a connection is free."""
        self._number += 1
        heapq.heappush(self._due, (due_s, self._number, message, done))
        if self._idle:
            self._pump()

    def idle(self, connection: _Connection) -> None:
        """Take a connection that is free; called by itself."""
        self._idle.append(connection)
        self._pump()

    def lost(self, connection: _Connection) -> None:
        """Replace a connection that broke."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self.closed:
            task = self._loop.create_task(self._reopen())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _reopen(self) -> None:
        while not self.closed:
            await asyncio.sleep(0.2)
            try:
                await self._connect()
                return
            except OSError:
                continue

    def _pump(self) -> None:
        now = time.monotonic()
        while self._idle and self._due and self._due[0][0] <= now:
            _, _, message, done = heapq.heappop(self._due)
            self._idle.popleft().send(message if isinstance(message, bytes) else message(), done)
        if self._idle and self._due and not self.closed:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_later(max(self._due[0][0] - now, LEAST_PAUSE_S), self._pump)

    def close(self) -> None:
        """Let all connections go."""
        self.closed = True
        for timer in (self._timer, self._sweeper):
            if timer is not None:
                timer.cancel()
        self._idle.clear()
        for connection in list(self._open):
            connection.forget()
            connection.end()
