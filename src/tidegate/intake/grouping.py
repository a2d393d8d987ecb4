"""Messages that came with one turn of the loop, answered in one go: most of the work for one alone is to ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from starlette.types import Scope

from tidegate.intake.http import MISTAKE, Grouped, Reply

Run = Callable[[Coroutine[Any, Any, None]], None]
"""Lets something go on by itself."""


class Group:
    """Takes messages up until the loop's turn ends."""

    def __init__(self, reply: Grouped) -> None:
        self._reply = reply
        self._asked: list[tuple[Scope, bytes]] = []
        self._answers: list[Callable[[Reply], None]] = []

    def join(self, scope: Scope, body: bytes, answer: Callable[[Reply], None], run: Run) -> None:
        """Take one up; `answer` is called with its reply."""
        self._asked.append((scope, body))
        self._answers.append(answer)
        if len(self._asked) == 1:
            asyncio.get_running_loop().call_soon(self._begin, run)

    def _begin(self, run: Run) -> None:
        asked, answers = self._asked, self._answers
        self._asked, self._answers = [], []
        run(_answer(self._reply(asked), answers))


async def _answer(replying: Coroutine[Any, Any, list[Reply]], answers: list[Callable[[Reply], None]]) -> None:
    try:
        replies = await replying
    except Exception:
        structlog.get_logger().exception("requests failed", requests=len(answers))
        replies = [MISTAKE] * len(answers)
    for answer, reply in zip(answers, replies, strict=True):
        answer(reply)
