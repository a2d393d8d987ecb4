"""The agent's words: JSON lines for the machine's log, and status.json for people and `tidegate agent status`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

STATUS_AGE_S = 30.0
"""Contact alone is written at most this often: a poll costs no write."""


class Log:
    """JSON lines. What is said carries no credential and no token: callers name each field."""

    def __init__(self, stream: TextIO | None = None, verbose: bool = False) -> None:
        self._stream = stream or sys.stderr
        self.verbose = verbose

    def __call__(self, event: str, **fields: Any) -> None:
        line = {"at": round(time.time(), 3), "event": event, **fields}
        try:
            self._stream.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads the log any more: no reason to stop updating
            pass

    def detail(self, event: str, **fields: Any) -> None:
        if self.verbose:
            self(event, **fields)


class StatusFile:
    """`status.json`: replaced whole at each change. It is a view: nothing reads it back, so it is not synced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: dict[str, Any] = {}
        self._written = -STATUS_AGE_S

    def show(self, device_id: str, last_contact: float | None, components: list[dict[str, Any]], nothing: str) -> None:
        """Write what is new.

        Args:
            device_id: the device.
            last_contact: wall clock of the server's last answer, or None.
            components: one {component, state, installed, good, sentence, plan_version} each. The one that is busiest
                is also shown on top.
            nothing: the sentence where there is no component.
        """
        top = next((c for c in components if c["state"] != "IDLE"), components[0] if components else None)
        status = {"device_id": device_id, **(top or {**_NOTHING, "sentence": nothing}), "components": components}
        now = time.monotonic()
        if status == self._last and now < self._written + STATUS_AGE_S:
            return
        partial = self._path.with_name(".status.json.new")
        try:
            whole = {**status, "last_contact": last_contact, "pid": os.getpid()}
            partial.write_text(json.dumps(whole, indent=1) + "\n")
            partial.replace(self._path)
        except OSError:  # a full disk must not stop what needs no room
            partial.unlink(missing_ok=True)
            return
        self._last, self._written = status, now


_NOTHING: dict[str, Any] = {
    "component": None,
    "state": "IDLE",
    "installed": None,
    "good": None,
    "plan_version": 0,
}
