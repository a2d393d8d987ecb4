"""One keep-alive connection that speaks the agent's protocol, with as little cost for each request as can be."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, NamedTuple

import msgspec

from tidegate.trust.credentials import authorization


class Answer(NamedTuple):
    """What came back; status 0 where nothing did."""

    status: int
    body: bytes
    retry_after_s: float

    def json(self) -> Any:
        """Read the body. Raises msgspec.DecodeError."""
        return msgspec.json.decode(self.body)


NOTHING = Answer(0, b"", 0.0)


class Line:
    """A connection to one server; it is opened when needed, and opened again after it broke."""

    def __init__(self, host: str, port: int, timeout_s: float = 15.0) -> None:
        self._host, self._port, self._timeout_s = host, port, timeout_s
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: bytes, header: str = "") -> Answer:
        """Send one request; `NOTHING` if the connection broke or no answer came in time."""
        head = f"POST {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-length: {len(body)}\r\n"
        if header:
            head += f"authorization: {header}\r\n"
        return await self._exchange(head.encode() + b"\r\n" + body)

    async def get(self, path: str) -> Answer:
        """Fetch a file."""
        return await self._exchange(f"GET {path} HTTP/1.1\r\nhost: {self._host}\r\n\r\n".encode())

    async def _exchange(self, message: bytes) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._writer is None:
                    self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
                assert self._reader is not None
                self._writer.write(message)
                return await _read(self._reader)
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError, asyncio.LimitOverrunError):
            self.close()
            return NOTHING

    def close(self) -> None:
        """Let the connection go."""
        if self._writer is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self._writer.close()
        self._reader = self._writer = None


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    length, wait_s = 0, 0.0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"content-length":
            length = int(value)
        elif name == b"retry-after":
            wait_s = float(value)
    return Answer(status, await reader.readexactly(length), wait_s)


class SwarmDevice:
    """One device of a swarm: what an agent keeps, and the messages it sends."""

    __slots__ = ("credential", "device_id", "index", "seq")

    def __init__(self, index: int, device_id: str, credential: str) -> None:
        self.index, self.device_id, self.credential = index, device_id, credential
        self.seq = 0

    @staticmethod
    async def enrol(line: Line, token: str) -> SwarmDevice | None:
        """Enrol a new device; None if it did not work."""
        found = await line.post("/v1/enrol", msgspec.json.encode({"token": token}))
        if found.status != 200:
            return None
        said = found.json()
        return SwarmDevice(said["index"], said["device_id"], said["credential"])

    def announcement(self, rollout: str, plan_version: int = 0, *, bad_mac: bool = False) -> tuple[str, bytes, str]:
        """Give path, body and header of an announcement."""
        self.seq += 1
        said = {"rollout": rollout, "plan_version": plan_version, "installed": None, "seq": self.seq, "attempt": 1}
        return self._signed("/v1/announce", msgspec.json.encode(said), bad_mac)

    def report(self, lease_id: str, kind: str = "confirmed") -> tuple[str, bytes, str]:
        """Give path, body and header of a report."""
        self.seq += 1
        said = {"reports": [{"lease_id": lease_id, "kind": kind, "seq": self.seq, "boot_s": 1}]}
        return self._signed("/v1/reports", msgspec.json.encode(said))

    def _signed(self, path: str, body: bytes, bad_mac: bool = False) -> tuple[str, bytes, str]:
        header = authorization(self.credential, self.seq, path, body)
        return path, body, header[:-4] + ("0000" if header[-4:] != "0000" else "1111") if bad_mac else header
