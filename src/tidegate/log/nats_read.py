"""Reading a log in NATS: its messages by number, many under way at a time, from whichever node has them.

No consumer is made for it. A consumer needs the cluster's own leader, and choosing another one takes ten seconds and
more; a message that is in the stream can be had from any node that is alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from tidegate.log.batch import Batch
from tidegate.log.nats_groups import Address, Group, groups_of, last_whole
from tidegate.log.nats_line import NatsLine
from tidegate.log.port import LogError

UNDER_WAY = 200
CONNECT_S = 30
Found = tuple[dict[str, str], bytes]


def read_groups(line: NatsLine, after: int) -> Iterator[tuple[int, Batch]]:
    """Give whole groups from the one that holds event `after + 1`, each with its first number. Raises LogError."""
    for group in groups_of(_messages(line, after)):
        if group.first + group.count > after + 1:
            yield group.first, _batch_of(group)


def _batch_of(group: Group) -> Batch:
    try:
        return group.batch()
    except ValueError as error:
        raise LogError(f"the record of event {group.first} cannot be read: {error}; restore a backup") from error


def _messages(line: NatsLine, after: int) -> Iterator[Found]:
    try:
        end = line.patiently(line.end)
        at = line.patiently(lambda: _start(line, after, end))
        while at <= end:
            some = line.patiently(lambda: _fetch(line, at, min(end - at + 1, UNDER_WAY)))  # noqa: B023
            yield from some
            at += len(some)
    except LogError as error:
        raise LogError(f"the log cannot be read after event {after}: {error}") from error


async def _start(line: NatsLine, after: int, end: int) -> int:
    """Find the stream's message with which to begin: a binary search, since events and messages both only rise."""
    low, high = 1, max(end, 1)
    while after and low < high:
        middle = (low + high + 1) // 2
        at, first = middle, 0
        while at <= high and not first:  # a claim has no event; look at the next one
            first = int((await _one(line, at))[0].get("Tidegate-First", 0))
            at += 1
        if first and first <= after + 1:
            low = middle
        else:
            high = middle - 1
    headers = (await _one(line, low))[0] if end else {}
    return max(low - int(headers.get("Tidegate-Part", "0/0").split("/")[0]), 1)


async def _fetch(line: NatsLine, at: int, count: int) -> list[Found]:
    return list(await asyncio.gather(*(_one(line, seq) for seq in range(at, at + count))))


async def _one(line: NatsLine, seq: int) -> Found:
    found = await line.message(seq)
    return dict(found.headers or {}), found.data or b""


class NatsReader:
    """The log in NATS beside its writer: it claims nothing, and sees the groups that are whole in the stream."""

    def __init__(self, url: str, *, password_file: Path | None = None) -> None:
        """Connect; the address is as for its writer. Raises LogError."""
        self._line = NatsLine(Address.parse(url), password_file.read_text().strip() if password_file else None)
        self._end = self._last = 0
        try:
            self._line.wait(self._open(), CONNECT_S)
        except BaseException:
            self.close()
            raise

    async def _open(self) -> None:
        await self._line.connect()
        found = await self._line.stream.stream_info(self._line.address.stream)
        self._line.direct = bool(found.config.allow_direct)

    @property
    def last(self) -> int:
        """The sequence number of the newest event. Raises LogError."""
        end = self._line.patiently(self._line.end)
        if end != self._end:
            self._last = self._line.patiently(lambda: last_whole(self._line.message, end))
            self._end = end
        return self._last

    def read_batches(self, after: int = 0) -> Iterator[tuple[int, Batch]]:
        """Give whole groups from the one that holds event `after + 1`. Raises LogError."""
        return read_groups(self._line, after)

    def close(self) -> None:
        """Close the connection and end its thread."""
        self._line.close()
