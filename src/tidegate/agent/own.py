"""What the agent knows of itself as a process: where its code was started from, and whether it has proven itself."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from typing import NoReturn

from tidegate.agent import guard
from tidegate.agent.clock import Clock
from tidegate.agent.config import Home
from tidegate.agent.launch import COMPONENT, SLOT


class Restart(BaseException):
    """The launcher is to start the agent anew, from what its pointer names now. Raised wherever the agent is: every
    place is one where power may be lost, too."""


class OwnProcess:
    """This agent, for the driver of its own component.

    Args:
        home: whose component it may be.
        clock: gives its age.
        refreshed: whether the signed state has been read, whole and fresh, since it began.
    """

    def __init__(self, home: Home, clock: Clock, refreshed: Callable[[], bool]) -> None:
        self._clock, self._refreshed = clock, refreshed
        self._began_s = clock.boot_s()
        self.launched = SLOT in os.environ
        self.slot = os.environ.get(SLOT, "")
        self.component = os.environ.get(COMPONENT, "") if self.launched else ""
        self.instance = secrets.token_hex(8)
        self._directory = home.component(self.component) if self.component else None
        self._pointed = self._points()

    def age_s(self) -> float:
        return self._clock.boot_s() - self._began_s

    def refreshed(self) -> bool:
        return self._refreshed()

    def follow(self, settled: bool) -> None:
        """Restart once all is settled, if this agent's own pointer has moved since it began."""
        if settled and self._points() != self._pointed:
            self.restart()

    def _points(self) -> str | None:
        return guard.slot_of(self._directory, "current") if self._directory else None

    def restart(self) -> NoReturn:
        raise Restart
