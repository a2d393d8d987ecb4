"""HTTP with servers that are not ours (witnesses, subscribers, mirrors): what they answer is capped, raw and in time.

An HTTP library reads an answer whole and inflates it: whoever is asked could fill the memory of whoever asks.
"""

from __future__ import annotations

import asyncio
import time
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


def ask_now(
    client: httpx.Client,
    method: str,
    url: str,
    *,
    most: int,
    deadline_s: float,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Heard:
    """Do as `ask` without a loop. The deadline is looked at with each part of the body."""
    until = time.monotonic() + deadline_s
    with client.stream(method, url, content=content, headers={**(headers or {}), **_AS_IT_IS}) as reply:
        _refuse_packed(reply)
        body = bytearray()
        for part in reply.iter_raw():
            _take(body, part, most)
            if time.monotonic() > until:
                raise Unfit(f"the answer took more than {deadline_s:g} s")
        return Heard(reply.status_code, bytes(body))


def _take(body: bytearray, part: bytes, most: int) -> None:
    body += part
    if len(body) > most:
        raise Unfit(f"the answer has more than {most:,} bytes")


def _refuse_packed(reply: httpx.Response) -> None:
    if reply.headers.get("content-encoding", "identity") != "identity":
        raise Unfit("the answer is packed, which was not asked for")
