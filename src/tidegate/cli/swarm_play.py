"""A part of a swarm in one process: its devices poll, announce, soak and report, in one of several patterns."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tidegate.agent.pace import Backoff, at_turn
from tidegate.cli.swarm_board import Board
from tidegate.cli.swarm_client import Pool, Tally
from tidegate.trust.credentials import authorization

TIMESTAMP = "/repo/metadata/timestamp.json"
AHEAD_S = 0.1
"""Devices are called up this long before their first moment, so that a million of them need no million timers."""
TOLD_S = 0.25


@dataclass(frozen=True, slots=True)
class Part:
    """What one process is told: who its devices are, whom they ask, and how they come."""

    host: str
    port: int
    rollout: str
    devices: list[tuple[int, str]]
    """Index and credential."""
    files: tuple[str, ...] = (TIMESTAMP,)
    """What each device reads before it announces, in order; none: it announces at once."""
    connections: int = 64
    per_s: float = 0.0
    """Devices that begin in a second; 0: all at once."""
    poll_s: float = 1.0
    """The agents' poll interval, from which their back-off grows."""
    soak_s: float = 0.0
    most_s: float = 60.0
    bad_macs: float = 0.0
    """Share of devices that once send a MAC that does not hold before they send a right one."""
    slow: int = 0
    """Connections besides that send a byte a second."""
    seed: int = 1
    board: str = ""
    """The file of the board on which progress is told; none: it is not told."""
    place: int = 0
    """This part's line on it."""


@dataclass(slots=True)
class Played:
    """What came of it."""

    tally: Tally = field(default_factory=Tally)
    confirmed: int = 0
    begun: int = 0
    seconds: float = 0.0
    slow_closed: int = 0
    refused: int = 0
    """Devices that the rollout turned away for good."""
    away: int = 0
    """Answers 429 and 503: too much waits, or one asks too often."""
    away_untold: int = 0
    """Of these, answers that did not say when to come again."""


class _Device:
    __slots__ = ("backoff", "credential", "index", "read", "seq")

    def __init__(self, index: int, credential: str) -> None:
        self.index, self.credential, self.seq, self.read = index, credential, 0, 0
        self.backoff: Backoff | None = None


class _Play:
    """The devices of one part, as callbacks: no task for each of them."""

    def __init__(self, part: Part, pool: Pool) -> None:
        self.part, self.pool, self.found = part, pool, Played()
        self._random = random.Random(part.seed)
        self._loop = asyncio.get_running_loop()
        self._left = len(part.devices)
        self._started_s = 0.0
        self._files = [_get(part.host, path) for path in part.files]
        self._kinds = ["poll" if path == TIMESTAMP else "file" for path in part.files]
        self.over = asyncio.Event()

    def begin(self) -> None:
        """Let the devices come, each at its moment."""
        self._started_s = time.monotonic()
        self._call_up()

    def _call_up(self) -> None:
        part, found = self.part, self.found
        until = time.monotonic() - self._started_s + AHEAD_S
        while found.begun < len(part.devices):
            after_s = found.begun / part.per_s if part.per_s else 0.0
            if after_s > until:
                self._loop.call_later(AHEAD_S / 2, self._call_up)
                return
            device = _Device(*part.devices[found.begun])
            found.begun += 1
            self._read(device, b"", self._started_s + after_s)

    def _read(self, device: _Device, _: bytes, due: float) -> None:
        """Read the next of the signed files, or go on to announce."""
        if device.read >= len(self._files):
            self._announce(device, b"", due)
            return
        number = device.read
        device.read += 1
        self._ask(due, self._kinds[number], self._files[number], device, self._read)

    def _ask(
        self,
        due: float,
        kind: str,
        message: bytes | Callable[[], bytes],
        device: _Device,
        then: Callable[[_Device, bytes, float], None],
    ) -> None:
        def done(status: int, body: bytes, wait_s: float) -> None:
            now = time.monotonic()
            self.found.tally.add(kind, status, now - due)
            if status == 200 or (status == 404 and kind == "file"):  # no newer root is the usual answer
                device.backoff = None
                then(device, body, now)
            elif status == 409 or (status == 401 and kind != "bad mac"):
                self.found.refused += 1
                self._end()
            elif status == 401:
                then(device, body, now)
            else:
                if status in (429, 503):
                    self.found.away += 1
                    self.found.away_untold += not wait_s
                self._ask(now + self._pause_s(device, wait_s), kind, message, device, then)

        self.pool.at(due, message, done)

    def _pause_s(self, device: _Device, wait_s: float) -> float:
        """Give the agent's own wait after an error: full jitter, and never sooner than the server has said."""
        if device.backoff is None:
            device.backoff = Backoff(self.part.poll_s, self._random)
        return device.backoff.next_s(wait_s or None)

    def _announce(self, device: _Device, _: bytes, due: float) -> None:
        if self.part.bad_macs and device.seq == 0 and self._random.random() < self.part.bad_macs:
            message = self._message(device, "/v1/announce", {"rollout": self.part.rollout}, bad=True)
            self._ask(due, "bad mac", message, device, self._say)
            return
        self._say(device, b"", due)

    def _say(self, device: _Device, _: bytes, due: float) -> None:
        said = {"rollout": self.part.rollout, "plan_version": 0, "installed": None, "attempt": 1}
        self._ask(due, "announce", self._message(device, "/v1/announce", said), device, self._answered)

    def _answered(self, device: _Device, body: bytes, now: float) -> None:
        found = msgspec.json.decode(body)
        if "lease_id" not in found:
            self._say(device, b"", now + at_turn(float(found.get("retry_after_s", 1)), self._random))
            return
        said = {"reports": [{"lease_id": found["lease_id"], "kind": "confirmed", "seq": device.seq + 1, "boot_s": 1}]}
        message = self._message(device, "/v1/reports", said)
        treated = found["arm"] == "treated"
        self._ask(now + self.part.soak_s, "report", message, device, self._confirmed if treated else self._say)

    def _confirmed(self, *_: object) -> None:
        self.found.confirmed += 1
        self._end()

    def _end(self) -> None:
        self._left -= 1
        if not self._left:
            self.over.set()

    def _message(self, device: _Device, path: str, said: dict[str, Any], bad: bool = False) -> bytes:
        device.seq += 1
        body = msgspec.json.encode({**said, "seq": device.seq} if path == "/v1/announce" else said)
        header = authorization(device.credential, device.seq, path, body)
        if bad:
            header = header[:-4] + ("0000" if header[-4:] != "0000" else "1111")
        return (
            f"POST {path} HTTP/1.1\r\nhost: {self.part.host}\r\nauthorization: {header}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode() + body


def _get(host: str, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode()


async def play(part: Part) -> Played:
    """Play one part. Raises OSError if nobody listens."""
    pool = Pool(part.host, part.port, part.connections)
    scene = _Play(part, pool)
    slow = [asyncio.create_task(_slow(part, scene.found)) for _ in range(part.slow)]
    await pool.start()
    started = time.monotonic()
    telling = asyncio.create_task(_tell(part, scene))
    scene.begin()
    try:
        async with asyncio.timeout(part.most_s):
            await scene.over.wait()
    except TimeoutError:
        pass
    scene.found.seconds = time.monotonic() - started
    pool.close()
    for task in (telling, *slow):
        task.cancel()
    await asyncio.gather(telling, *slow, return_exceptions=True)
    return scene.found


async def _tell(part: Part, scene: _Play) -> None:
    """Write on the board how far it is, and end early if that is asked for there."""
    if not part.board:
        return
    board = Board(part.board)
    while not board.stopped:
        board.tell(part.place, scene.found.begun, scene.found.confirmed, scene.found.tally.answers)
        await asyncio.sleep(TOLD_S)
    scene.over.set()


async def _slow(part: Part, found: Played) -> None:
    """A connection that sends its request a byte a second, and begins anew when it is closed."""
    while True:
        try:
            _, writer = await asyncio.open_connection(part.host, part.port)
            for byte in b"POST /v1/reports HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n" + b" " * 60000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1.0)
        except OSError:
            found.slow_closed += 1
            await asyncio.sleep(1.0)


def play_process(part: Part) -> Played:
    """Play one part in a process of its own; an interrupt is for the one that has started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        import uvloop
    except ImportError:
        return asyncio.run(play(part))
    return uvloop.run(play(part))
