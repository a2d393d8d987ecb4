"""A part of a swarm in one process: its devices poll, announce, soak and report, in one of several patterns."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tidegate.cli.swarm_client import Pool, Tally
from tidegate.trust.credentials import authorization

POLL = "/repo/metadata/timestamp.json"
AGAIN_S = 1.0
MOST_BACKOFF_S = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """What one process is told: who its devices are, whom they ask, and how they come."""

    host: str
    port: int
    rollout: str
    devices: list[tuple[int, str]]
    """Index and credential."""
    connections: int = 64
    per_s: float = 0.0
    """Devices that begin in a second; 0: all at once."""
    soak_s: float = 0.0
    most_s: float = 60.0
    bad_macs: float = 0.0
    """Share of devices that once send a MAC that does not hold before they send a right one."""
    slow: int = 0
    """Connections besides that send a byte a second."""
    seed: int = 1
    poll: bool = True


@dataclass(slots=True)
class Played:
    """What came of it."""

    tally: Tally = field(default_factory=Tally)
    confirmed: int = 0
    begun: int = 0
    seconds: float = 0.0
    slow_closed: int = 0


class _Device:
    __slots__ = ("backoff", "credential", "index", "seq")

    def __init__(self, index: int, credential: str) -> None:
        self.index, self.credential, self.seq, self.backoff = index, credential, 0, 0


class _Play:
    """The devices of one part, as callbacks: no task for each of them."""

    def __init__(self, part: Part, pool: Pool) -> None:
        self.part, self.pool, self.found = part, pool, Played()
        self._random = random.Random(part.seed)
        self._loop = asyncio.get_running_loop()
        self._left = len(part.devices)
        self.over = asyncio.Event()

    def begin(self) -> None:
        """Set every device's first moment."""
        now = self._loop.time()
        for number, (index, credential) in enumerate(self.part.devices):
            due = now + (number / self.part.per_s if self.part.per_s else 0.0)
            device = _Device(index, credential)
            if self.part.poll:
                head = f"GET {POLL} HTTP/1.1\r\nhost: {self.part.host}\r\n\r\n".encode()
                self._ask(due, "poll", head, device, self._announce)
            else:
                self._announce(device, b"", due)

    def _ask(
        self,
        due: float,
        kind: str,
        message: bytes | Callable[[], bytes],
        device: _Device,
        then: Callable[[_Device, bytes, float], None],
    ) -> None:
        def done(status: int, body: bytes, wait_s: float) -> None:
            now = self._loop.time()
            self.found.tally.add(kind, status, now - due)
            if status == 200:
                device.backoff = 0
                then(device, body, now)
            elif status == 409 or (status == 401 and kind != "bad mac"):
                self._end()
            elif status == 401:
                then(device, body, now)
            else:
                self._ask(now + self._pause_s(device, wait_s), kind, message, device, then)

        self.pool.at(due, message, done)

    def _pause_s(self, device: _Device, wait_s: float) -> float:
        """Full jitter, as the agent's back-off; never sooner than the server has said."""
        device.backoff = min(device.backoff + 1, 6)
        return wait_s + self._random.uniform(0, min(MOST_BACKOFF_S, AGAIN_S * 2**device.backoff))

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
            wait_s = float(found.get("retry_after_s", 1))
            self._say(device, b"", now + wait_s * self._random.uniform(1.0, 1.2))
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


async def play(part: Part) -> Played:
    """Play one part. Raises OSError if nobody listens."""
    pool = Pool(part.host, part.port, part.connections)
    scene = _Play(part, pool)
    slow = [asyncio.create_task(_slow(part, scene.found)) for _ in range(part.slow)]
    await pool.start()
    started = asyncio.get_running_loop().time()
    scene.begin()
    try:
        async with asyncio.timeout(part.most_s):
            await scene.over.wait()
    except TimeoutError:
        pass
    scene.found.seconds = asyncio.get_running_loop().time() - started
    scene.found.begun = len(part.devices)
    pool.close()
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    return scene.found


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
    """Play one part in a process of its own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(play(part))
    return uvloop.run(play(part))
