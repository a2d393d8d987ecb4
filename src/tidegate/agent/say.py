"""The agent's words: JSON lines for the machine's log, and status.json for people and `tidegate agent status`."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

FOUND = frozenset({"damaged", "journal_recovered", "mended", "not_mended", "not_taken_up"})
"""Events that say what was wrong with the device's own files; `agent status` shows them until the next start."""
FOUND_KEPT = 20
STATUS_AGE_S = 30.0
"""Contact alone is written at most this often: a poll costs no write."""


_SHARP = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def json_line(value: object) -> str:
    """Write one line of JSON that people can read, and that moves no terminal's cursor and forges no other line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _SHARP.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


class Log:
    """JSON lines. What is said carries no credential and no token: callers name each field."""

    def __init__(self, stream: TextIO | None = None, verbose: bool = False) -> None:
        self._stream = stream or sys.stderr
        self.verbose = verbose
        self.found: list[str] = []
        self._trouble = ""

    def __call__(self, event: str, **fields: Any) -> None:
        if event in FOUND:
            self.found = [*self.found, str(fields.get("sentence", event))][-FOUND_KEPT:]
        line = {"at": round(time.time(), 3), "event": event, **fields}
        try:
            self._stream.write(json_line(line))
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads the log any more: no reason to stop updating
            pass

    def trouble(self, sentence: str) -> None:
        """Tell of trouble with the signed files when it begins, when it becomes another, and when it is over."""
        if sentence == self._trouble:
            return
        self._trouble = sentence
        if sentence:
            self("not_read", sentence=sentence)
        else:
            self("read_again")

    def detail(self, event: str, **fields: Any) -> None:
        if self.verbose:
            self(event, **fields)


class StatusFile:
    """`status.json`: replaced whole at each change. It is a view: nothing reads it back, so it is not synced."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: tuple[dict[str, Any], bool] = ({}, False)
        self._written = -STATUS_AGE_S

    def show(
        self,
        device_id: str,
        last_contact: float | None,
        components: list[dict[str, Any]],
        nothing: str,
        found: Sequence[str] = (),
    ) -> None:
        """Write what is new.

        Args:
            device_id: the device.
            last_contact: wall clock of the server's last answer, or None.
            components: one {component, state, installed, good, sentence, plan_version} each. The one that is busiest
                is also shown on top.
            nothing: the sentence where there is no component.
            found: what was wrong with the device's own files since this start.
        """
        top = next((c for c in components if c["state"] != "IDLE"), components[0] if components else None)
        status = {"device_id": device_id, **(top or {**_NOTHING, "sentence": nothing}), "components": components}
        status["found"] = list(found)
        now = time.monotonic()
        shown = (status, last_contact is not None)
        if shown == self._last and now < self._written + STATUS_AGE_S:
            return
        if self._write({**status, "last_contact": last_contact, "pid": os.getpid()}):
            self._last, self._written = shown, now

    def ended(self, sentence: str) -> None:
        """Say why no agent runs: it could not begin. What was shown before stays beside."""
        try:
            before = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            before = None
        known = before if isinstance(before, dict) else {**_NOTHING, "components": [], "last_contact": None}
        self._write({"device_id": "unknown", "sentence": sentence, **known, "ended": sentence})

    def _write(self, whole: dict[str, Any]) -> bool:
        partial = self._path.with_name(".status.json.new")
        try:
            partial.write_text(json.dumps(whole, indent=1) + "\n")
            partial.replace(self._path)
        except OSError:  # a full disk must not stop what needs no room
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            return False
        return True


_NOTHING: dict[str, Any] = {
    "component": None,
    "state": "IDLE",
    "installed": None,
    "good": None,
    "plan_version": 0,
}
