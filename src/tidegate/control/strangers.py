"""HTTP with servers that are not ours (witnesses, subscribers, mirrors): what they answer is capped, raw and in time.

An HTTP library reads an answer whole and inflates it: whoever is asked could fill the memory of whoever asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Mapping
from typing import NamedTuple

import httpx

_AS_IT_IS = {"accept-encoding": "identity"}


class Heard(NamedTuple):
    """A status, and the body as it came."""

    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Unfit(httpx.TransportError):
    """The answer is longer than allowed, packed, or takes too long."""


async def ask(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    most: int,
    deadline_s: float,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Heard:
    """Ask once.

    Args:
        client: follows no redirects.
        method, url, content, headers: the request.
        most: bytes of the body that are read; at one more it is given up.
        deadline_s: for the whole answer, so that one that drips ends too.

    Raises:
        httpx.HTTPError, httpx.InvalidURL: if there is no answer that is fit to be read.
    """
    wanted = {**(headers or {}), **_AS_IT_IS}
    try:
        async with (
            asyncio.timeout(deadline_s),
            client.stream(method, url, content=content, headers=wanted) as reply,
        ):
            _refuse_packed(reply)
            body = bytearray()
            async for part in reply.aiter_raw():
                _take(body, part, most)
            return Heard(reply.status_code, bytes(body))
    except TimeoutError:
        raise Unfit(f"the answer took more than {deadline_s:g} s") from None


class Asker:
    """Asks as `ask` does, from where no loop runs: one deadline for the whole exchange, the head included."""

    def __init__(self, *, follow_redirects: bool = False) -> None:
        """Keep connections open between questions, until `close` or the end of the process."""
        self._runner = asyncio.Runner()
        self._client = httpx.AsyncClient(timeout=None, follow_redirects=follow_redirects)
        self._closed = weakref.finalize(self, _close, self._runner, self._client)

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._closed()

    def ask(
        self,
        method: str,
        url: str,
        *,
        most: int,
        deadline_s: float,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Heard:
        """Ask once. Arguments and errors are those of `ask`."""
        more = {"most": most, "deadline_s": deadline_s, "content": content, "headers": headers}
        return self._runner.run(ask(self._client, method, url, **more))


def _close(runner: asyncio.Runner, client: httpx.AsyncClient) -> None:
    with contextlib.suppress(RuntimeError, httpx.HTTPError):
        runner.run(client.aclose())
    runner.close()


def _take(body: bytearray, part: bytes, most: int) -> None:
    body += part
    if len(body) > most:
        raise Unfit(f"the answer has more than {most:,} bytes")


def _refuse_packed(reply: httpx.Response) -> None:
    if reply.headers.get("content-encoding", "identity") != "identity":
        raise Unfit("the answer is packed, which was not asked for")
