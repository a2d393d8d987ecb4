"""The log in NATS JetStream: a replicated stream (R3), partitioned by device, with one fenced writer.

An append is a group of messages: one for each partition that its devices fall into, long ones cut into chunks. Each
message must follow the stream's last one that the writer knows (`Nats-Expected-Last-Sequence`), so a group lies in one
piece, a second writer's first message ends the first writer, and a group without its last message never counts. A
message that is sent again is recognised by `Nats-Msg-Id`. An acknowledgement means that a quorum of nodes holds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tidegate.log.batch import Batch
from tidegate.log.events import Event
from tidegate.log.nats_groups import Address, last_whole, messages_of
from tidegate.log.nats_line import ACK_S, RETRY_S, TROUBLE, APIError, NatsLine, NotFoundError, said
from tidegate.log.nats_read import read_groups
from tidegate.log.nats_sync import sync_warning
from tidegate.log.port import Busy, Fenced, LogError, events_of

try:
    import nats.errors
    from nats.aio.msg import Msg
    from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
except ImportError as error:  # an extra: the embedded log needs none of it
    raise LogError("a log in NATS needs nats-py: install tidegate[nats]") from error

_WRONG_LAST = 10071
_ALIVE_S = 2.5
"""A writer that is alive answers within this; one that does not is replaced."""


class NatsLog:
    """A log in one JetStream stream."""

    def __init__(self, url: str, *, password_file: Path | None = None) -> None:
        """Open or create the log, as its only writer.

        Args:
            url: `nats://[user@]host:port,host:port,.../stream`, with `?replicas=` (3), `?partitions=` (4) and
                `?monitor=` (the nodes' monitoring port, to see whether they sync what they acknowledge).
            password_file: a file with the user's password, or the token where no user is named.

        Raises:
            Busy: if another writer is alive.
            LogError: if the cluster cannot be reached, or has no room for the replicas.
        """
        self._address = Address.parse(url)
        self._lock = threading.Lock()
        self._id = secrets.token_hex(8)
        self._last = self._stream_last = 0
        self._doubt = False
        secret = password_file.read_text().strip() if password_file else None
        self._line = NatsLine(self._address, secret)
        try:
            self._line.wait(self._open(), 30)
        except BaseException:
            self.close()
            raise

    async def _open(self) -> None:
        client = await self._line.connect()
        self._client, self._stream = client, self._line.stream
        if await self._someone_writes():
            raise Busy("cannot open the log: another writer holds it; is another server running on it?")
        await self._make_stream()
        await self._claim(fresh=True)
        await client.subscribe(self._alive_subject, cb=self._answer)
        await client.flush()
        version, address = client.connected_server_version, self._address
        self.warning = await asyncio.to_thread(
            sync_warning, (version.major, version.minor), address.servers, address.monitor
        )

    async def _make_stream(self) -> None:
        address = self._address
        config = StreamConfig(
            name=address.stream,
            subjects=[f"{address.stream}.>"],
            num_replicas=address.replicas,
            storage=StorageType.FILE,
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.NEW,
            deny_delete=True,
            deny_purge=True,
            allow_direct=True,  # any node that has a message may give it, also while the stream has no leader
            duplicate_window=120,
        )
        until = time.monotonic() + 10
        while True:
            try:
                await self._check_stream((await self._stream.stream_info(address.stream)).config)
                return
            except NotFoundError:
                pass
            except TROUBLE as error:  # a cluster that has just started has no leader yet
                if time.monotonic() > until:
                    raise LogError(f"cannot open the log: {said(error)}") from error
                await asyncio.sleep(0.2)
                continue
            try:
                await self._stream.add_stream(config)
            except TROUBLE as error:
                if time.monotonic() > until:
                    raise LogError(
                        f"cannot make the stream {address.stream} with {address.replicas} replicas: {said(error)};"
                        " a trial on one node can have ?replicas=1"
                    ) from error
                await asyncio.sleep(0.2)

    async def _check_stream(self, found: StreamConfig) -> None:
        """Refuse a stream that keeps less than was asked for."""
        name, wanted = self._address.stream, self._address.replicas
        if (found.num_replicas or 1) < wanted:
            raise LogError(
                f"cannot open the log: the stream {name} has {found.num_replicas or 1} replicas, and the log's address"
                f" asks for {wanted}; raise them with: nats stream edit {name} --replicas={wanted}"
            )
        if found.storage != StorageType.FILE:
            raise LogError(f"cannot open the log: the stream {name} is kept in memory, and would be lost with its node")
        if not found.allow_direct:  # made by an older version
            with contextlib.suppress(*TROUBLE):
                found = (await self._stream.update_stream(replace(found, allow_direct=True))).config
        self._line.direct = bool(found.allow_direct)

    @property
    def _alive_subject(self) -> str:
        return f"_tidegate.writer.{self._address.stream}"

    async def _answer(self, message: Msg) -> None:
        await message.respond(self._id.encode())

    async def _someone_writes(self) -> bool:
        """Ask whether a writer is alive; one that does not answer is replaced, and fenced by the claim."""
        for _ in range(2):  # nodes that have just found each other may not know yet who listens where
            try:
                await self._client.request(self._alive_subject, b"", timeout=_ALIVE_S / 2)
                return True
            except nats.errors.NoRespondersError:
                await asyncio.sleep(0.1)
            except nats.errors.TimeoutError:
                pass
        return False

    async def _claim(self, *, fresh: bool) -> None:
        """Put a message of our own at the stream's end: from then on nobody else's append can follow."""
        until = time.monotonic() + RETRY_S
        while True:
            try:
                state = (await self._stream.stream_info(self._address.stream)).state
                if not fresh:
                    await self._check_fence(state.last_seq)
                number = f"{self._id}-claim-{state.last_seq}"
                self._stream_last = await self._put(f"{self._address.stream}.claim", b"", {}, number, state.last_seq)
                break
            except Fenced:
                if not fresh:
                    raise
                raise Busy("cannot open the log: another writer took it; is another server running on it?") from None
            except TROUBLE as error:
                if time.monotonic() > until:
                    raise LogError(f"the NATS cluster gives no answer: {said(error)}") from error
                await asyncio.sleep(0.2)
        self._last = await last_whole(self._line.message, self._stream_last)
        self._doubt = False

    async def _check_fence(self, end: int) -> None:
        for seq in range(self._stream_last + 1, end + 1):
            headers = (await self._line.message(seq)).headers or {}
            if not headers.get("Nats-Msg-Id", "").startswith(self._id):
                raise Fenced("the log took nothing: another writer has taken it over; this one must stop")

    async def _put(self, subject: str, body: bytes, headers: dict[str, str], number: str, after: int) -> int:
        """Send one message until it is acknowledged; give its place in the stream."""
        whole = {**headers, "Nats-Msg-Id": number, "Nats-Expected-Last-Sequence": str(after)}
        until = time.monotonic() + RETRY_S
        while True:
            try:
                ack = await self._stream.publish(subject, body, timeout=ACK_S, headers=whole)
                return ack.seq
            except APIError as error:
                if error.err_code == _WRONG_LAST:
                    return await self._found(number, after)
                if error.code not in (None, 503) or time.monotonic() > until:
                    raise LogError(f"the log took nothing: {said(error)}; free disk space or check the cluster") from (
                        error
                    )
            except TROUBLE as error:
                if time.monotonic() > until:
                    raise LogError(f"the log took nothing that is known of: {said(error)}") from error
            await asyncio.sleep(0.1)

    async def _found(self, number: str, after: int) -> int:
        """The stream has gone on: by this very message, sent before, or by somebody else's."""
        for _ in range(50):
            try:
                if ((await self._line.message(after + 1)).headers or {}).get("Nats-Msg-Id") == number:
                    return after + 1
                break
            except NotFoundError:  # an earlier part of this group is not there yet
                await asyncio.sleep(0.1)
            except TROUBLE:
                await asyncio.sleep(0.1)
        raise Fenced("the log took nothing: another writer has taken it over; this one must stop")

    @property
    def last(self) -> int:
        """The sequence number of the newest event that is known to be in the log."""
        return self._last

    def append(self, events: Sequence[Event]) -> int:
        """Append events as one group; give the sequence number of the last. Raises LogError, Fenced."""
        if not events:
            return self._last
        with self._lock:
            self._settle_doubt()
            first = self._last + 1
            try:
                group = list(messages_of(events, first, self._address))
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                raise LogError(f"the log took nothing: an event cannot be written down: {error}") from error
            self._doubt = True
            places = self._line.wait(self._put_group(group, first), RETRY_S + 10)
            self._stream_last, self._last, self._doubt = places, first + len(events) - 1, False
            return self._last

    def check(self) -> None:
        """See whether this is still the writer. Raises LogError, Fenced."""
        with self._lock:
            self._settle_doubt()
            self._line.wait(self._look(), RETRY_S)

    async def _look(self) -> None:
        await self._check_fence(await self._line.end())

    def _settle_doubt(self) -> None:
        """After an append whose end is not known: shut out what is still under way, and learn where the log ends."""
        if self._doubt:
            self._line.wait(self._claim(fresh=False), RETRY_S + 10)

    async def _put_group(self, group: Sequence[tuple[str, bytes, dict[str, str]]], first: int) -> int:
        base = self._stream_last
        work = [
            asyncio.ensure_future(self._put(subject, body, headers, f"{self._id}-{first}-{base}-{part}", base + part))
            for part, (subject, body, headers) in enumerate(group)
        ]
        done = await asyncio.gather(*work, return_exceptions=True)
        failures = [found for found in done if isinstance(found, BaseException)]
        if failures:
            raise next((found for found in failures if isinstance(found, Fenced)), failures[0])
        return base + len(group)

    def read(self, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Give the events after `after`, in order. Raises LogError."""
        return events_of(self.read_batches(after), after)

    def read_batches(self, after: int = 0) -> Iterator[tuple[int, Batch]]:
        """Give whole groups from the one that holds event `after + 1`. Raises LogError."""
        with self._lock:
            self._settle_doubt()  # what is under way could come through after it has been read past
        yield from read_groups(self._line, after)

    def close(self) -> None:
        """Close the connection and end its thread."""
        self._line.close()
