"""The active controller's side of collectors: their messages in, answered once what they ask is durable."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from tidegate.control.devices import Claim
from tidegate.intake.app import TOGETHER, IntakeApp
from tidegate.intake.forward import FORWARD_PATH, MOST_FORWARDED, Answered, Forwarded, encoder, forwarded
from tidegate.intake.http import Reply, header, problem, read_body, send

MOST_BYTES = 64 << 20


class Gathering:
    """Takes what collectors send under their token, and passes all else on."""

    def __init__(self, intake: IntakeApp, token: str, others: ASGIApp) -> None:
        self._intake = intake
        self._expected = f"Bearer {token}".encode()
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send_message: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http" or scope["path"] != FORWARD_PATH:
            await self._others(scope, receive, send_message)
            return
        await send(send_message, await self._reply(scope, receive))

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        if not hmac.compare_digest(header(scope, b"authorization").encode(), self._expected):
            return problem(401, "Not trusted", "this needs the collectors' token")
        body = await read_body(scope, receive, MOST_BYTES)
        if body is None:
            return problem(413, "Too large", f"a message may have {MOST_BYTES} bytes")
        try:
            found = forwarded.decode(body)
        except msgspec.MsgspecError as error:
            return problem(400, "Bad request", f"the message cannot be read: {error}")
        if len(found) > MOST_FORWARDED:
            return problem(413, "Too large", f"a message may have {MOST_FORWARDED} requests")
        return Reply(200, encoder.encode(await self._answers(found)), b"application/msgpack")

    async def _answers(self, found: Sequence[Forwarded]) -> list[Answered]:
        """Answer each for itself; what a fleet sends by the thousand, in one go."""
        places: dict[str, list[int]] = {}
        for at, one in enumerate(found):
            places.setdefault(one.path if one.path in TOGETHER else "", []).append(at)
        answers: dict[int, Answered] = {}

        async def answer(path: str, some: Sequence[int]) -> None:
            replies = await self._replies(path, [(_scope_of(found[at]), found[at].body) for at in some])
            answers.update((at, _answered(reply)) for at, reply in zip(some, replies, strict=True))

        await asyncio.gather(*(answer(path, some) for path, some in places.items()))
        return [answers[at] for at in range(len(found))]

    async def _replies(self, path: str, asked: Sequence[tuple[Scope, bytes]]) -> list[Reply]:
        if path in TOGETHER:
            return await self._intake.answer_together(path, asked)
        return await asyncio.gather(*(self._intake.answer(scope, body) for scope, body in asked))


def _scope_of(one: Forwarded) -> dict[str, Any]:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": one.path,
        "headers": [(b"authorization", one.authorization.encode("latin-1", "replace"))],
        "client": (one.address, 0) if one.address else None,
    }
    if one.index >= 0:
        scope["tidegate.claim"] = Claim(one.index, one.device_id, one.seq), one.epoch
    return scope


def _answered(reply: Reply) -> Answered:
    return Answered(reply.status, reply.body, reply.content_type, reply.headers)
