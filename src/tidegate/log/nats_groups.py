"""Appends as groups of NATS messages: cut by partition and by size, and put together again. Nothing here sends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tidegate.core.assign import mix64
from tidegate.core.errors import BadInput
from tidegate.core.model import check_name
from tidegate.log.batch import Batch, unpack
from tidegate.log.events import Event
from tidegate.log.pack import MOST_EVENTS, merge, pack

CHUNK_BYTES = 768 * 1024
"""A server takes messages of 1 MB unless told otherwise."""
LEAST_SPLIT = 32
"""A batch of fewer events goes as one message: splitting it would cost more than it gives."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a log is: servers, stream, and how it is laid out."""

    servers: tuple[str, ...]
    stream: str
    user: str
    replicas: int
    partitions: int
    monitor: int = 0
    """The port that the nodes' monitoring listens on, 0 if it is not known."""

    @staticmethod
    def parse(url: str) -> Address:
        """Read `nats://[user@]host:port,host:port/stream?replicas=3&partitions=4&monitor=8222`. Raises BadInput."""
        parts = urlsplit(url)
        stream = parts.path.strip("/")
        user, _, hosts = parts.netloc.rpartition("@")
        found = parse_qs(parts.query)
        try:
            check_name("the stream", stream.lower())
            if "." in stream or not hosts:
                raise ValueError("it names no host, or the stream has a dot in its name")
            known = {name: int(found.pop(name, [str(default)])[0]) for name, default in _SETTINGS.items()}
            if found or any(not least <= known[name] <= most for name, (least, most) in _RANGES.items()):
                raise ValueError("known settings are replicas (1 to 5), partitions (1 to 256) and monitor (a port)")
        except ValueError as error:
            raise BadInput(f"a log in NATS is nats://[user@]host:port,host:port/stream: {error}") from None
        servers = tuple(f"{parts.scheme}://{host}" for host in hosts.split(","))
        return Address(servers, stream, user, **known)


_SETTINGS = {"replicas": 3, "partitions": 4, "monitor": 0}
_RANGES = {"replicas": (1, 5), "partitions": (1, 256), "monitor": (0, 65_535)}


def partition_of(event: Event, partitions: int) -> int:
    """Give the partition of a device's event: by the device's row, scattered; other events go to partition 0."""
    index = getattr(event, "index", None)
    return 0 if index is None else mix64(int(index)) % partitions


def messages_of(events: Sequence[Event], first: int, address: Address) -> Iterator[tuple[str, bytes, dict[str, str]]]:
    """Give the messages (subject, body, headers) of one append.

    Raises:
        ValueError, TypeError, OverflowError: if an event cannot be written down.
    """
    bodies: list[tuple[int, bytes]] = []
    for start in range(0, len(events), MOST_EVENTS):
        bodies += _split(events[start : start + MOST_EVENTS], start, len(events), address.partitions)
    chunks = [
        (partition, body[at : at + CHUNK_BYTES], at + CHUNK_BYTES >= len(body))
        for partition, body in bodies
        for at in range(0, len(body), CHUNK_BYTES)
    ]
    for part, (partition, body, ends) in enumerate(chunks):
        headers = {
            "Tidegate-First": str(first),
            "Tidegate-Count": str(len(events)),
            "Tidegate-Part": f"{part}/{len(chunks)}",
            "Tidegate-Ends": "1" if ends else "0",
        }
        yield f"{address.stream}.{partition}", body, headers


def _split(events: Sequence[Event], start: int, count: int, partitions: int) -> list[tuple[int, bytes]]:
    if len(events) < LEAST_SPLIT:
        return [(partition_of(events[0], partitions), pack(events, range(start, start + len(events)), count))]
    lots: dict[int, tuple[list[Event], list[int]]] = {}
    for offset, event in enumerate(events, start=start):
        some, places = lots.setdefault(partition_of(event, partitions), ([], []))
        some.append(event)
        places.append(offset)
    return [(partition, pack(some, places, count)) for partition, (some, places) in sorted(lots.items())]


@dataclass(slots=True)
class Group:
    """One append, as its messages come in."""

    first: int
    count: int
    parts: int
    seen: int = 0
    bodies: list[bytes] = field(default_factory=lambda: [])
    open: list[bytes] = field(default_factory=lambda: [])

    def take(self, headers: dict[str, str], body: bytes) -> None:
        """Take the next message."""
        self.seen += 1
        self.open.append(body)
        if headers["Tidegate-Ends"] == "1":
            self.bodies.append(b"".join(self.open))
            self.open = []

    def batch(self) -> Batch:
        """Put the whole together. Raises ValueError if it is damaged."""
        return merge([unpack(body) for body in self.bodies])


def groups_of(messages: Iterable[tuple[dict[str, str], bytes]]) -> Iterator[Group]:
    """Give the whole groups in a run of messages; what was never finished is passed over."""
    group: Group | None = None
    for headers, body in messages:
        if "Tidegate-First" not in headers:
            group = None
            continue
        part, parts = (int(text) for text in headers["Tidegate-Part"].split("/"))
        first = int(headers["Tidegate-First"])
        if part == 0:
            group = Group(first, int(headers["Tidegate-Count"]), parts)
        elif group is None or (group.first, group.seen, group.parts) != (first, part, parts):
            group = None
            continue
        group.take(headers, body)
        if group.seen == group.parts:
            yield group
            group = None


async def last_whole(message: Callable[[int], Awaitable[Any]], end: int) -> int:
    """Find the number of the last event in the stream: that of the newest group whose last message is there."""
    for seq in range(end, 0, -1):
        headers: dict[str, str] = (await message(seq)).headers or {}
        if "Tidegate-First" in headers:
            part, parts = (int(text) for text in headers["Tidegate-Part"].split("/"))
            if part == parts - 1:
                return int(headers["Tidegate-First"]) + int(headers["Tidegate-Count"]) - 1
    return 0
