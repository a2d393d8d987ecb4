"""Reports that the server does not have yet: a file each, on disk before anything else, gone only after a 2xx."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tidegate.agent.transport import REQUEST_LIMIT, HttpRefused
from tidegate.core.wire import canonical
from tidegate.trust.durable import make_directory, sync_dir, write_durably

REPORTS_PER_MESSAGE = 50
LIMIT = 1 << 20
"""Bytes of reports from which on a new one is kept without its details, and no new lease is asked for."""
NOTE_KEPT = 200
_ENVELOPE = 1024
POISON = frozenset({400, 404, 410, 413, 422})
"""Statuses that say 'this report, never'."""
CONFLICT = 409
"""'Not this report, not now': it waits, and the others go ahead. Every other error is about the server itself."""

Say = Callable[..., None]


class Outbox:
    """The reports of one device, oldest first. A report has one file name for ever: putting it twice is once."""

    def __init__(self, directory: Path, say: Say) -> None:
        self.directory = directory
        self._say = say
        make_directory(directory, mode=0o700)

    def put(self, report: dict[str, Any]) -> None:
        """Keep a report durably; its `seq` names it. What is evidence in it is kept even where the outbox is full.

        Raises:
            DiskFull: no room; nothing is kept then.
        """
        data = canonical(report)
        if self._size() + len(data) > LIMIT:
            data = canonical(_bare(report))
        write_durably(self._path(report["seq"]), data, mode=0o600)

    @property
    def full(self) -> bool:
        """Whether there is no room for the report of another lease; what was set aside takes room as well."""
        return self._size() >= LIMIT

    def _size(self) -> int:
        places = self.directory, self.directory / "refused"
        return sum(path.stat().st_size for place in places for path in place.glob("*.json"))

    def waiting(self) -> list[Path]:
        return sorted(path for path in self.directory.glob("*.json") if not path.name.startswith("."))

    def holds(self, lease_id: str) -> bool:
        """Whether the outcome of this lease is here and has not arrived yet."""
        for path in self.waiting():
            with suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
                if json.loads(path.read_bytes())["lease_id"] == lease_id:
                    return True
        return False

    def flush(self, post: Callable[[str, object], dict[str, Any]]) -> int:
        """Send all that waits.

        Args:
            post: sends a message and gives the answer; see transport.Server.post.

        Returns:
            How many reports the server has now.

        Raises:
            Unreachable, HttpRefused: the server, not a report, is the reason; all that was not taken still waits.
        """
        sent = 0
        passed: set[Path] = set()
        while batch := self._batch(passed):
            try:
                post("/v1/reports", {"reports": [report for _, report in batch]})
            except HttpRefused as error:
                if error.status not in POISON and error.status != CONFLICT:
                    raise
                sent += self._one_by_one(batch, post, passed)
                continue
            self._forget([path for path, _ in batch])
            sent += len(batch)
        return sent

    def _one_by_one(
        self, batch: list[tuple[Path, dict[str, Any]]], post: Callable[[str, object], Any], passed: set[Path]
    ) -> int:
        """One report of these is poison: find it, so that it does not hold up the others."""
        sent = 0
        for path, report in batch:
            try:
                post("/v1/reports", {"reports": [report]})
                self._forget([path])
                sent += 1
            except HttpRefused as error:
                if error.status in POISON:
                    self._set_aside(path, str(error))
                elif error.status == CONFLICT:
                    passed.add(path)
                else:
                    raise
        return sent

    def _batch(self, passed: set[Path]) -> list[tuple[Path, dict[str, Any]]]:
        batch: list[tuple[Path, dict[str, Any]]] = []
        length = _ENVELOPE
        for path in self.waiting():
            if path in passed:
                continue
            try:
                data = path.read_bytes()
                report = json.loads(data)
            except (OSError, ValueError, RecursionError) as error:
                self._set_aside(path, f"it cannot be read: {error}")
                continue
            length += len(data) + 1
            if batch and (length > REQUEST_LIMIT or len(batch) == REPORTS_PER_MESSAGE):
                break
            batch.append((path, report))
        return batch

    def _set_aside(self, path: Path, why: str) -> None:
        refused = self.directory / "refused"
        make_directory(refused, mode=0o700)
        path.replace(refused / path.name)
        sync_dir(refused)
        self._say("report_refused", report=path.name, sentence=f"a report is set aside in outbox/refused: {why}")

    def _forget(self, paths: list[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
        sync_dir(self.directory)

    def _path(self, seq: int) -> Path:
        return self.directory / f"{seq:020d}.json"


def _bare(report: dict[str, Any]) -> dict[str, Any]:
    """Give a report without what only people read: lease, kind, numbers and each probe's outcome stay."""
    probes = [{**probe, "detail": ""} for probe in report.get("probes", ())]
    return {**report, "probes": probes, "note": str(report.get("note", ""))[:NOTE_KEPT]}
