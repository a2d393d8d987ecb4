"""The line to a NATS cluster: an event loop in a thread of its own, asked from others, always with a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from tidegate.log.nats_groups import Address
from tidegate.log.port import LogError

try:
    import nats
    import nats.errors
    from nats.aio.client import Client
    from nats.js import JetStreamContext
    from nats.js.api import RawStreamMsg
    from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError
except ImportError as error:  # an extra: the embedded log needs none of it
    raise LogError("a log in NATS needs nats-py: install tidegate[nats]") from error

T = TypeVar("T")
RETRY_S = 20.0
"""A cluster takes 4 to 9 s to choose another leader for a stream whose leader has died."""
ACK_S = 2.0
TROUBLE = (nats.errors.Error, OSError, asyncio.TimeoutError)


class NatsLine:
    """A connection that is made again when it breaks, to whichever node answers."""

    def __init__(self, address: Address, secret: str | None) -> None:
        self.address = address
        self._secret = secret
        self._client: Client | None = None
        self.direct = False
        """Whether any node may give the stream's messages, and not its leader alone."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="tidegate-nats")
        self._thread.start()

    async def connect(self) -> Client:
        """Connect to one of the nodes."""
        address, who = self.address, dict[str, Any]()
        if self._secret is not None:
            who = {"user": address.user, "password": self._secret} if address.user else {"token": self._secret}
        refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def heard(error: Exception) -> None:
            """Trouble on the line is told by what fails: the client's own log line would come at every attempt."""
            if "authorization" in str(error).lower() and not refused.done():
                refused.set_result(None)

        connecting = asyncio.ensure_future(
            nats.connect(
                list(address.servers),
                name="tidegate",
                connect_timeout=2,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.2,
                allow_reconnect=True,
                ping_interval=1,  # a node that has become unreachable says nothing: leave it after two seconds
                max_outstanding_pings=2,
                error_cb=heard,
                **who,
            )
        )
        # A wrong password is no trouble that passes: the client would try it for ever.
        await asyncio.wait({connecting, refused}, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            raise LogError("the NATS cluster refuses this user and password; the password is in --log-password-file")
        self._client = connecting.result()
        self.stream: JetStreamContext = self._client.jetstream(timeout=ACK_S)
        return self._client

    def wait(self, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        """Do work on the line, from another thread. Raises LogError if no answer comes in time."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout_s)
        except (FutureTimeout, CancelledError) as error:
            future.cancel()
            raise LogError("the NATS cluster gives no answer in time") from error
        except TROUBLE as error:
            raise LogError(f"the NATS cluster gives no answer: {said(error)}") from error

    def patiently(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Ask again while the cluster chooses another leader: a node may have just died. Raises LogError."""
        until = time.monotonic() + RETRY_S
        while True:
            try:
                return self.wait(ask(), RETRY_S + 10)
            except LogError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    async def end(self) -> int:
        """Give the number of the stream's last message."""
        return int((await self.stream.stream_info(self.address.stream)).state.last_seq)

    async def message(self, seq: int) -> RawStreamMsg:
        """Give one message."""
        if self.direct:
            with contextlib.suppress(NotFoundError):  # a node that lags behind does not have it yet
                return await self.stream.get_msg(self.address.stream, seq, direct=True)
        return await self.stream.get_msg(self.address.stream, seq)

    def close(self) -> None:
        """Close the connection and end its thread."""
        if not self._thread.is_alive():
            return
        if self._client is not None:
            with contextlib.suppress(LogError):
                self.wait(self._client.close(), 5)
        with contextlib.suppress(LogError):
            self.wait(_end_all(), 5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


async def _end_all() -> None:
    """End what still runs on this loop, so that nothing of it is said when the process ends."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def said(error: BaseException) -> str:
    """Give the first line of what an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


__all__ = ["ACK_S", "RETRY_S", "TROUBLE", "APIError", "NatsLine", "NotFoundError", "ServiceUnavailableError", "said"]
