"""A collector: verifies devices' requests, gathers them, and forwards them to whichever controller is active.

It decides nothing and keeps nothing. What is forwarded and not answered is sent again, to the next controller if need
be: an announcement or a report that comes twice is the same one. When nobody answers in time, or too much waits, the
device is told at once to come back later.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, ProcessCollector, generate_latest
from starlette.types import Receive, Scope, Send

from tidegate.core.errors import TidegateError
from tidegate.intake.counts import IntakeCounts
from tidegate.intake.files import RepositoryFiles
from tidegate.intake.forward import FORWARD_PATH, MOST_FORWARDED, Answered, Forwarded, answered, encoder
from tidegate.intake.http import (
    TOO_LARGE,
    Grouped,
    Reply,
    header,
    ok,
    problem,
    problem_of,
    read_body,
    send,
    too_often,
)
from tidegate.intake.limits import Limits, Rates
from tidegate.trust.epochs import SecretsFile

PATHS = frozenset({"/v1/enrol", "/v1/announce", "/v1/renew", "/v1/reports"})
WITH_MAC = frozenset({"/v1/announce", "/v1/reports"})
MOST_WAITING = 8192
"""More would wait longer than a device does."""
LINES = 4
"""Messages under way at a time."""
PATIENCE_S = 8.0
LINE_S = httpx.Timeout(3.0, connect=1.0)
"""A controller that hangs, or a network that swallows everything, leaves time to try the next one."""
AGAIN_S = 0.2
WATCH_S = 2.0
LOOK_AGAIN_S = 0.2
"""While a controller does not answer, it is looked so often whether another has taken its place."""


@dataclass(slots=True)
class _Waiting:
    asked: Forwarded
    answer: asyncio.Future[Answered]
    until: float


class CollectorApp:
    """The devices' port of a collector (ASGI). `run` must run beside it."""

    def __init__(
        self,
        controllers: Sequence[str],
        token: str,
        secrets: SecretsFile,
        repository: Path,
        rates: Rates | None = None,
        verify: str | bool = True,
    ) -> None:
        self._controllers, self._turn = controllers, 0
        self._token = token
        self.secrets = secrets
        self.limits = Limits(rates)
        self._files = RepositoryFiles(repository)
        self._queue: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._verify = verify
        self.counts = IntakeCounts(sorted(PATHS))
        self.forwarded = 0
        """Requests that a controller has answered."""
        self.registry = CollectorRegistry()
        self.registry.register(self.counts.registry)
        ProcessCollector(registry=self.registry)
        Gauge("tidegate_collector_waiting", "Requests that wait", registry=self.registry).set_function(
            lambda: self.waiting
        )
        Gauge("tidegate_collector_reached", "1 if a controller answers", registry=self.registry).set_function(
            lambda: self.reached
        )
        self.reached = True
        """Whether the newest message to a controller was answered; an empty one goes while no device asks."""

    @property
    def waiting(self) -> int:
        """Requests that no controller has answered yet."""
        return len(self._queue)

    async def __call__(self, scope: Scope, receive: Receive, send_message: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        if scope["path"].startswith("/repo/"):
            await self._files(scope, receive, send_message)
        elif scope["path"] == "/healthz":
            await send(send_message, ok({"alive": True}))
        elif scope["path"] == "/readyz":
            trouble = "" if self.reached else "no controller answers"
            body = ok({"ready": self.reached, "trouble": trouble}).body
            await send(send_message, Reply(200 if self.reached else 503, body))
        elif scope["path"] == "/metrics":
            await send(send_message, self._metrics(scope))
        else:
            began = time.perf_counter()
            reply = self._turned_away(scope)  # before the body is read: turning away must cost little
            if reply is None:
                body = await read_body(scope, receive)
                reply = TOO_LARGE if body is None else await self._answer(scope, body)
            self._count(scope, reply, began)
            await send(send_message, reply)

    def polled(self, scope: Scope) -> Reply | None:
        """Answer a poll of a small file at once (the short way)."""
        return self._files.small(scope)

    @property
    def grouped(self) -> Mapping[str, Grouped]:
        """Nothing: messages are put together where they are forwarded."""
        return {}

    async def posted(self, scope: Scope, body: bytes) -> Reply:
        """Answer a message whose body is here (the short way)."""
        began = time.perf_counter()
        reply = self._turned_away(scope) or await self._answer(scope, body)
        self._count(scope, reply, began)
        return reply

    def _count(self, scope: Scope, reply: Reply, began: float) -> None:
        route = scope["path"] if scope["path"] in PATHS else "other"
        self.counts.answered(route, reply.status, time.perf_counter() - began)

    def _metrics(self, scope: Scope) -> Reply:
        """Show figures to whoever has the collectors' token: this port faces devices."""
        if not hmac.compare_digest(header(scope, b"authorization").encode(), f"Bearer {self._token}".encode()):
            return problem(401, "Not trusted", "this needs the collectors' token")
        return Reply(200, generate_latest(self.registry), CONTENT_TYPE_LATEST.encode())

    def _turned_away(self, scope: Scope) -> Reply | None:
        path: str = scope["path"]
        if path not in PATHS:
            return problem(404, "Not found", "there is nothing at this address")
        if scope["method"] != "POST":
            return problem(405, "Method not allowed", f"{path} takes POST", headers={"allow": "POST"})
        if len(self._queue) >= MOST_WAITING:
            self.counts.shed.inc()
            return busy()
        if wait_s := self.limits.address(scope.get("client")):
            return too_often(wait_s, "this address")
        return None

    async def _answer(self, scope: Scope, body: bytes) -> Reply:
        address = (scope.get("client") or ("",))[0]
        try:
            return await self._forward(scope["path"], header(scope, b"authorization"), body, address)
        except TidegateError as error:
            return problem_of(error)

    async def _forward(self, path: str, authorization: str, body: bytes, address: str) -> Reply:
        one = Forwarded(path, authorization, body, address)
        if path in WITH_MAC:
            claim = self.secrets.verify(authorization, path, body)
            if wait_s := self.limits.devices.wait_s(claim.index):
                return too_often(wait_s, "this device")
            one = Forwarded(path, authorization, body, address, claim.index, claim.device_id, claim.seq, claim.epoch)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(one, loop.create_future(), time.monotonic() + PATIENCE_S)
        self._queue.append(waiting)
        self._news.set()
        patience = loop.call_later(PATIENCE_S, _give_up, waiting.answer)
        try:
            found = await waiting.answer
        except TimeoutError:
            return busy("no controller answers")
        finally:
            patience.cancel()
        return Reply(found.status, found.body, found.content_type, found.headers)

    async def run(self) -> None:
        """Forward until cancelled."""
        limits = httpx.Limits(max_connections=2 * LINES, max_keepalive_connections=2 * LINES)
        async with httpx.AsyncClient(timeout=LINE_S, limits=limits, verify=self._verify) as client:
            await asyncio.gather(self._watch(client), *(self._line(client) for _ in range(LINES)))

    async def _watch(self, client: httpx.AsyncClient) -> None:
        """See while no device asks whether a controller is there: whoever reads /readyz sends devices by it."""
        while True:
            await asyncio.sleep(WATCH_S)
            if not self._queue:
                await self._send(client, [])

    async def _line(self, client: httpx.AsyncClient) -> None:
        while True:
            while not self._queue:
                self._news.clear()
                await self._news.wait()
            now = time.monotonic()
            some: list[_Waiting] = []
            while self._queue and len(some) < MOST_FORWARDED:
                one = self._queue.popleft()
                if one.until > now and not one.answer.done():  # nobody waits for the others any more
                    some.append(one)
            if some and not await self._send(client, some):
                self._queue.extendleft(reversed(some))
                await asyncio.sleep(AGAIN_S * random.uniform(0.5, 1.5))  # not all lines at once

    async def _post(self, client: httpx.AsyncClient, body: bytes) -> httpx.Response | None:
        """Ask a controller; None as soon as another has taken the place of one that has not answered yet.

        A controller that is paused takes messages and says nothing: to wait for it would cost more than the takeover.
        """
        turn = self._turn % len(self._controllers)
        asked_of = self._controllers[turn]
        headers = {"authorization": f"Bearer {self._token}"}
        asked = asyncio.ensure_future(client.post(asked_of + FORWARD_PATH, content=body, headers=headers))
        try:
            while not (await asyncio.wait({asked}, timeout=LOOK_AGAIN_S))[0]:
                if self._controllers[turn] != asked_of:
                    return None
            return asked.result()
        finally:
            asked.cancel()

    async def _send(self, client: httpx.AsyncClient, some: Sequence[_Waiting]) -> bool:
        body = encoder.encode([one.asked for one in some])
        with contextlib.suppress(httpx.HTTPError, msgspec.MsgspecError):
            found = await self._post(client, body)
            if found is not None and found.status_code == 200:
                for one, answer in zip(some, answered.decode(found.content), strict=True):
                    if not one.answer.done():
                        one.answer.set_result(answer)
                self.forwarded += len(some)
                self.reached = True
                return True
        self.reached = False
        self._turn += 1  # the next one may have taken over
        return False


def _give_up(answer: asyncio.Future[Answered]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


def busy(why: str = "too much is waiting") -> Reply:
    """Turn a device away for a few seconds, not all to the same moment."""
    return problem(503, "Busy", f"{why}; ask again later", headers={"retry-after": str(random.randint(2, 8))})
