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
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any, TypeVar

from tidegate.log.batch import Batch
from tidegate.log.events import Event
from tidegate.log.nats_groups import Address, Group, groups_of, last_whole, messages_of
from tidegate.log.port import Busy, Fenced, LogError, events_of

try:
    import nats
    import nats.errors
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext
    from nats.js.api import (
        ConsumerConfig,
        DeliverPolicy,
        DiscardPolicy,
        RawStreamMsg,
        RetentionPolicy,
        StorageType,
        StreamConfig,
    )
    from nats.js.errors import APIError, NotFoundError
except ImportError as error:  # an extra: the embedded log needs none of it
    raise LogError("a log in NATS needs nats-py: install tidegate[nats]") from error

T = TypeVar("T")
RETRY_S = 20.0
_ACK_S = 2.0
_WRONG_LAST = 10071
_MOST_FETCHED = 100
_TROUBLE = (nats.errors.Error, OSError, asyncio.TimeoutError)


class NatsLog:
    """A log in one JetStream stream."""

    def __init__(self, url: str, *, password_file: Path | None = None) -> None:
        """Open or create the log, as its only writer.

        Args:
            url: `nats://[user@]host:port,host:port,.../stream`, with `?replicas=` (3) and `?partitions=` (4).
            password_file: a file with the user's password, or the token where no user is named.

        Raises:
            Busy: if another writer is alive.
            LogError: if the cluster cannot be reached, or has no room for the replicas.
        """
        self._address = Address.parse(url)
        self._secret = password_file.read_text().strip() if password_file else None
        self._lock = threading.Lock()
        self._id = secrets.token_hex(8)
        self._last = self._stream_last = 0
        self._doubt = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="tidegate-nats")
        self._thread.start()
        try:
            self._wait(self._open(), 30)
        except BaseException:
            self.close()
            raise

    def _wait(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except _TROUBLE as error:
            raise LogError(f"the NATS cluster gives no answer: {_said(error)}") from error
        except (FutureTimeout, CancelledError) as error:
            future.cancel()
            raise LogError("the NATS cluster gives no answer in time") from error

    async def _open(self) -> None:
        address = self._address
        who: dict[str, Any] = {}
        if self._secret is not None:
            who = {"user": address.user, "password": self._secret} if address.user else {"token": self._secret}
        self._client: Client = await nats.connect(
            list(address.servers),
            name="tidegate",
            connect_timeout=2,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,
            allow_reconnect=True,
            error_cb=_quiet,
            **who,
        )
        self._stream: JetStreamContext = self._client.jetstream(timeout=_ACK_S)
        await self._make_stream()
        if await self._someone_writes():
            raise Busy("cannot open the log: another writer holds it; is another server running on it?")
        await self._claim(fresh=True)
        await self._client.subscribe(self._alive_subject, cb=self._answer)
        await self._client.flush()

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
            duplicate_window=120,
        )
        until = time.monotonic() + 10
        while True:
            try:
                await self._stream.stream_info(address.stream)
                return
            except NotFoundError:
                pass
            except _TROUBLE as error:  # a cluster that has just started has no leader yet
                if time.monotonic() > until:
                    raise LogError(f"cannot open the log: {_said(error)}") from error
                await asyncio.sleep(0.2)
                continue
            try:
                await self._stream.add_stream(config)
            except _TROUBLE as error:
                if time.monotonic() > until:
                    raise LogError(
                        f"cannot make the stream {address.stream} with {address.replicas} replicas: {_said(error)};"
                        " a trial on one node can have ?replicas=1"
                    ) from error
                await asyncio.sleep(0.2)

    @property
    def _alive_subject(self) -> str:
        return f"_tidegate.writer.{self._address.stream}"

    async def _answer(self, message: Msg) -> None:
        await message.respond(self._id.encode())

    async def _someone_writes(self) -> bool:
        """Ask whether a writer is alive; one that does not answer is replaced, and fenced by the claim."""
        try:
            await self._client.request(self._alive_subject, b"", timeout=1.5)
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
            return False
        return True

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
            except _TROUBLE as error:
                if time.monotonic() > until:
                    raise LogError(f"the NATS cluster gives no answer: {_said(error)}") from error
                await asyncio.sleep(0.2)
        self._last = await last_whole(self._message, self._stream_last)
        self._doubt = False

    async def _check_fence(self, end: int) -> None:
        for seq in range(self._stream_last + 1, end + 1):
            headers = (await self._message(seq)).headers or {}
            if not headers.get("Nats-Msg-Id", "").startswith(self._id):
                raise Fenced("the log took nothing: another writer has taken it over; this one must stop")

    async def _message(self, seq: int) -> RawStreamMsg:
        return await self._stream.get_msg(self._address.stream, seq)

    async def _put(self, subject: str, body: bytes, headers: dict[str, str], number: str, after: int) -> int:
        """Send one message until it is acknowledged; give its place in the stream."""
        said = {**headers, "Nats-Msg-Id": number, "Nats-Expected-Last-Sequence": str(after)}
        until = time.monotonic() + RETRY_S
        while True:
            try:
                ack = await self._stream.publish(subject, body, timeout=_ACK_S, headers=said)
                return ack.seq
            except APIError as error:
                if error.err_code == _WRONG_LAST:
                    return await self._found(number, after)
                if error.code not in (None, 503) or time.monotonic() > until:
                    raise LogError(f"the log took nothing: {_said(error)}; free disk space or check the cluster") from (
                        error
                    )
            except _TROUBLE as error:
                if time.monotonic() > until:
                    raise LogError(f"the log took nothing that is known of: {_said(error)}") from error
            await asyncio.sleep(0.1)

    async def _found(self, number: str, after: int) -> int:
        """The stream has gone on: by this very message, sent before, or by somebody else's."""
        for _ in range(50):
            try:
                if ((await self._message(after + 1)).headers or {}).get("Nats-Msg-Id") == number:
                    return after + 1
                break
            except NotFoundError:  # an earlier part of this group is not there yet
                await asyncio.sleep(0.1)
            except _TROUBLE:
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
            places = self._wait(self._put_group(group, first), RETRY_S + 10)
            self._stream_last, self._last, self._doubt = places, first + len(events) - 1, False
            return self._last

    def _settle_doubt(self) -> None:
        """After an append whose end is not known: shut out what is still under way, and learn where the log ends."""
        if self._doubt:
            self._wait(self._claim(fresh=False), RETRY_S + 10)

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
        for group in groups_of(self._messages(after)):
            if group.first + group.count > after + 1:
                yield group.first, self._read_group(group)

    def _read_group(self, group: Group) -> Batch:
        try:
            return group.batch()
        except ValueError as error:
            raise LogError(f"the record of event {group.first} cannot be read: {error}; restore a backup") from error

    def _messages(self, after: int) -> Iterator[tuple[dict[str, str], bytes]]:
        try:
            end = self._patiently(self._end)
            at = self._patiently(lambda: self._start(after, end))
            while at <= end:
                some = self._patiently(lambda: self._fetch(at, min(end - at + 1, _MOST_FETCHED)))  # noqa: B023
                yield from some
                at += len(some)
        except LogError as error:
            raise LogError(f"the log cannot be read after event {after}: {error}") from error

    def _patiently(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Ask again while the cluster chooses another leader: a node may have just died."""
        until = time.monotonic() + RETRY_S
        while True:
            try:
                return self._wait(ask(), RETRY_S + 10)
            except LogError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    async def _end(self) -> int:
        return int((await self._stream.stream_info(self._address.stream)).state.last_seq)

    async def _start(self, after: int, end: int) -> int:
        """Find the stream's message with which to begin: a binary search, since events and messages both only rise."""
        low, high = 1, max(end, 1)
        while after and low < high:
            middle = (low + high + 1) // 2
            at, first = middle, 0
            while at <= high and not first:  # a claim has no event; look at the next one
                first = int(((await self._message(at)).headers or {}).get("Tidegate-First", 0))
                at += 1
            if first and first <= after + 1:
                low = middle
            else:
                high = middle - 1
        headers = (await self._message(low)).headers or {} if end else {}
        return max(low - int(headers.get("Tidegate-Part", "0/0").split("/")[0]), 1)

    async def _fetch(self, at: int, count: int) -> list[tuple[dict[str, str], bytes]]:
        found: list[tuple[dict[str, str], bytes]] = []
        until = time.monotonic() + 20
        while len(found) < count:
            reader = await self._stream.subscribe(
                f"{self._address.stream}.>",
                stream=self._address.stream,
                ordered_consumer=True,
                config=ConsumerConfig(
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=at + len(found),
                    mem_storage=True,
                    num_replicas=1,
                ),
            )
            try:
                while len(found) < count:
                    message = await reader.next_msg(timeout=2)
                    found.append((dict(message.headers or {}), message.data))
            except nats.errors.TimeoutError:
                if time.monotonic() > until:
                    raise
            finally:
                await reader.unsubscribe()
        return found

    def close(self) -> None:
        """Close the connection and end its thread."""
        if not self._thread.is_alive():
            return
        client: Client | None = getattr(self, "_client", None)
        if client is not None:
            with contextlib.suppress(LogError):
                self._wait(client.close(), 5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


async def _quiet(error: Exception) -> None:
    """Trouble on the line is told by what fails; the client's own log line would come at every attempt."""
    del error


def _said(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
