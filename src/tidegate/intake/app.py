"""The devices' HTTP: enrol, announce, report, and the signed files. Bare ASGI, since these routes carry the fleet."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import structlog
from msgspec.structs import replace
from starlette.types import Receive, Scope, Send

from tidegate.control.controller import Controller
from tidegate.core.errors import TidegateError
from tidegate.intake import announce, enrol, renew, reports
from tidegate.intake.copies import CopyWatch
from tidegate.intake.counts import IntakeCounts
from tidegate.intake.files import RepositoryFiles
from tidegate.intake.http import (
    MISTAKE,
    TOO_LARGE,
    Answer,
    Grouped,
    Reply,
    authorization,
    problem,
    problem_of,
    read_body,
    send,
    too_often,
)
from tidegate.intake.identity import Epochs, TooOften
from tidegate.intake.limits import Limits, Rates
from tidegate.log.port import Overloaded
from tidegate.trust.credentials import DeviceSecrets
from tidegate.trust.epochs import SecretsFile

Handler = Callable[["IntakeApp", Scope, bytes], Awaitable[Reply]]

TakeIn = Callable[["IntakeApp", Sequence[tuple[Scope, bytes]]], Awaitable[list[Answer]]]
ALONE: dict[str, Handler] = {"/v1/enrol": enrol.handle, "/v1/renew": renew.handle}
TOGETHER: dict[str, TakeIn] = {"/v1/announce": announce.take_in, "/v1/reports": reports.take_in}
"""What a whole fleet sends: messages of the same moment are answered in one go."""
ROUTES = (*ALONE, *TOGETHER)


class IntakeApp:
    """Answers devices. It decides nothing: it checks who asks and what, and puts the question to the controller."""

    def __init__(
        self,
        controller: Controller,
        secrets: DeviceSecrets | SecretsFile,
        repository: Path,
        rates: Rates | None = None,
    ) -> None:
        self.controller = controller
        self.secrets = secrets
        self.repository = repository
        self.limits = Limits(rates)
        self.copies = CopyWatch()
        self.epochs = Epochs()
        self.counts = IntakeCounts(ROUTES)
        self._files = RepositoryFiles(repository)

    async def __call__(self, scope: Scope, receive: Receive, send_message: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        if path.startswith("/repo/"):
            await self._files(scope, receive, send_message)
            return
        began = time.perf_counter()
        reply = self._turned_away(scope, path)  # before the body is read: turning away must cost little
        if reply is None:
            body = await read_body(scope, receive)
            reply = TOO_LARGE if body is None else await self.answer(scope, body)
        self._count(path, reply, began)
        await send(send_message, reply)

    def polled(self, scope: Scope) -> Reply | None:
        """Answer a poll of a small file at once (the short way)."""
        return self._files.small(scope)

    @property
    def grouped(self) -> Mapping[str, Grouped]:
        """What answers messages to an address that come at the same moment, in one go (the short way)."""
        return {path: partial(self._posted_together, path) for path in TOGETHER}

    async def _posted_together(self, path: str, asked: Sequence[tuple[Scope, bytes]]) -> list[Reply]:
        began = time.perf_counter()
        replies = [self._turned_away(scope, path) for scope, _ in asked]
        taken = [one for one, away in zip(asked, replies, strict=True) if away is None]
        answered = iter(await self.answer_together(path, taken))
        found = [reply or next(answered) for reply in replies]
        for reply in found:
            self._count(path, reply, began)
        return found

    async def posted(self, scope: Scope, body: bytes) -> Reply:
        """Answer a message whose body is here (the short way)."""
        path: str = scope["path"]
        began = time.perf_counter()
        reply = self._turned_away(scope, path) or await self.answer(scope, body)
        self._count(path, reply, began)
        return reply

    def _count(self, path: str, reply: Reply, began: float) -> None:
        self.counts.answered(path if path in ROUTES else "other", reply.status, time.perf_counter() - began)

    def _turned_away(self, scope: Scope, path: str) -> Reply | None:
        if path not in ROUTES:
            return problem(404, "Not found", "there is nothing at this address")
        if scope["method"] != "POST":
            return problem(405, "Method not allowed", f"{path} takes POST", headers={"allow": "POST"})
        if self.controller.full:
            self.counts.shed.inc()
            return problem_of(Overloaded("too much is waiting; ask again later"))
        if wait_s := self.limits.address(scope.get("client")):
            return too_often(wait_s, "this address")
        return None

    async def answer(self, scope: Scope, body: bytes) -> Reply:
        """Answer a request whose path is one of `ROUTES` and whose body has been read."""
        path: str = scope["path"]
        if path in TOGETHER:
            return (await self.answer_together(path, [(scope, body)]))[0]
        handler = ALONE.get(path)
        if handler is None:
            return problem(404, "Not found", "there is nothing at this address")
        try:
            return self._hint(await handler(self, scope, body), scope)
        except Exception as error:
            return _refused(error, scope)

    async def answer_together(self, path: str, asked: Sequence[tuple[Scope, bytes]]) -> list[Reply]:
        """Answer messages to one address of `TOGETHER` that came at the same moment."""
        answers = await TOGETHER[path](self, asked)
        return [
            _refused(answer, scope) if isinstance(answer, Exception) else self._hint(answer, scope)
            for answer, (scope, _) in zip(answers, asked, strict=True)
        ]

    def _hint(self, reply: Reply, scope: Scope) -> Reply:
        """Tell a device with a credential of an older epoch that there is a newer one to ask for."""
        newest = self.secrets.newest_epoch
        if authorization(scope).startswith(f"Tidegate {newest}."):
            return reply
        epoch = authorization(scope).removeprefix("Tidegate ").partition(".")[0]
        if epoch.isdecimal() and len(epoch) < 10 and int(epoch) < newest:
            return replace(reply, headers={**reply.headers, "tidegate-renew": str(newest)})
        return reply


def _refused(error: Exception, scope: Scope) -> Reply:
    """Turn what went wrong into an answer; a mistake of ours is no reason to leave a device without one it can read."""
    if isinstance(error, TooOften):
        return too_often(error.wait_s, "this device")
    if isinstance(error, TidegateError):
        return problem_of(error)
    structlog.get_logger().error("request failed", path=scope["path"], device=_said_index(scope), exc_info=error)
    return MISTAKE


def _said_index(scope: Scope) -> str:
    """Give the device number that a request names, verified or not; never its MAC."""
    parts = authorization(scope).removeprefix("Tidegate ").split(".")
    return parts[1][:12] if len(parts) == 5 and parts[1].isdecimal() else ""
