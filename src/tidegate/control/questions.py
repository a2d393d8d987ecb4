"""A question to the controller while it waits: what decides it, and who is to be told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from tidegate.control.state import ServerState
from tidegate.log.events import Event

T = TypeVar("T")
Decision = Callable[[ServerState, int], tuple[list[Event], T]]
"""Looks at the state and the time (ms); gives events, not folded yet, and the answer for when they are durable."""


@dataclass(slots=True)
class Asked:
    """A question that waits."""

    decide: Decision[Any]
    answer: asyncio.Future[Any]
    devices: frozenset[int] = frozenset()
    """The devices whose own leases are all that `decide` looks at, and all that its events (reports) change."""

    @property
    def count(self) -> int:
        """For how many it asks: reports of several devices may come as one question."""
        return len(self.devices) or 1


def settle(asked: Asked, error: Exception) -> None:
    """Tell an error, unless something has been told."""
    if not asked.answer.done():
        asked.answer.set_exception(error)
