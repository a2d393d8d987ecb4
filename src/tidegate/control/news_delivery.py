"""Brings release notes to those who subscribe: each release once it is in the log, again until it is taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tidegate.control.news import Subscriber, Subscribers, message, signature, write_feeds
from tidegate.control.state import Release, ServerState
from tidegate.control.strangers import ask
from tidegate.core.errors import TidegateError

LOOK_S = 1.0
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 3600.0
TIMEOUT_S = 10.0
MOST_ANSWER = 64 * 1024


class NewsDelivery:
    """One task of the server. Whatever fails here stops nothing else and is tried again."""

    def __init__(self, state: Callable[[], ServerState], repository: Path, subscribers: Subscribers) -> None:
        """Take what gives the state, where feeds lie, and the subscribers' file."""
        self._state, self._repository, self._subscribers = state, repository, subscribers
        self._wait: dict[str, tuple[float, float]] = {}
        self._fed = -1
        self.trouble = ""

    async def run(self) -> None:
        """Go on until cancelled."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False) as client:
            while True:
                try:
                    await self.turn(client)
                    self.trouble = ""
                except (TidegateError, OSError) as error:
                    self.trouble = str(error)
                await asyncio.sleep(LOOK_S)

    async def turn(self, client: httpx.AsyncClient) -> int:
        """Write feeds that are old, and send what waits. Gives how many messages were taken."""
        releases = list(self._state().releases.values())
        if len(releases) != self._fed:
            await asyncio.to_thread(write_feeds, self._repository, releases)
            self._fed = len(releases)
        taken = 0
        for subscriber in await asyncio.to_thread(self._subscribers.all):
            until, pause = self._wait.get(subscriber.url, (0.0, FIRST_WAIT_S))
            for release in releases:
                if time.monotonic() < until or not subscriber.wants(release):
                    continue
                if await self._send(client, subscriber, release):
                    self._wait.pop(subscriber.url, None)
                    await asyncio.to_thread(self._subscribers.sent, subscriber, release.digest)
                    taken += 1
                else:
                    until = time.monotonic() + pause
                    self._wait[subscriber.url] = until, min(2 * pause, LONGEST_WAIT_S)
        return taken

    async def _send(self, client: httpx.AsyncClient, subscriber: Subscriber, release: Release) -> bool:
        data = message(release)
        headers = {
            "content-type": "application/json",
            "tidegate-delivery": release.digest,
            "tidegate-signature": signature(subscriber.secret, data),
        }
        try:
            url = subscriber.url
            reply = await ask(
                client, "POST", url, most=MOST_ANSWER, deadline_s=TIMEOUT_S, content=data, headers=headers
            )
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return reply.is_success
