"""The controller's side of the ledger: it follows the log, one step behind, and a restart derives it again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.control.ledger_events import LedgerFold
from tidegate.core.errors import TidegateError
from tidegate.log.batch import Batch
from tidegate.log.events import Act, Event
from tidegate.log.port import Log, LogError
from tidegate.trust.checkpoint import Checkpoint
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.ledger import LedgerWriter
from tidegate.trust.note import NoteKey, NoteSigner

AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Resume:
    """The ledger's side of a checkpoint."""

    entries: list[bytes]
    fold: LedgerFold
    releases: dict[str, int]


class Ledger:
    """Every event of the log goes in exactly once and in order, whenever the power is cut: the log is the memory."""

    def __init__(self, directory: Path, memory: Path, signer: NoteSigner) -> None:
        """Name the places; `begin` reads the log."""
        self.directory = directory
        self.signer = signer
        self.trouble = ""
        self._memory = memory
        self._fold = LedgerFold()
        self._writer: LedgerWriter | None = None
        self._again_at = 0.0
        self._size = 0
        self._releases: dict[str, int] = {}
        """Releases whose proof is not known to be there, and their places in the ledger."""

    @property
    def key(self) -> NoteKey:
        """What its checkpoints are verified with."""
        return self.signer.key

    @property
    def checkpoint(self) -> Checkpoint:
        """What its newest checkpoint says."""
        return self._open.checkpoint

    @property
    def waiting(self) -> bool:
        """Whether there are entries that no checkpoint covers, and it is time to try."""
        return self._open.waiting > 0 and time.monotonic() >= self._again_at

    @property
    def _open(self) -> LedgerWriter:
        assert self._writer is not None, "begin has not been read to its end"
        return self._writer

    def begin(self, events: Iterable[tuple[int, Event]]) -> Iterator[Event]:
        """Pass the log's events on, and open the ledger behind the last.

        Raises:
            Untrusted: if the log does not give the ledger that was signed before. Nothing has been written.
        """
        entries: list[bytes] = []
        for seq, event in events:
            entries += self._entries(seq, event)
            yield event
        self._open_behind(entries)

    def _open_behind(self, entries: list[bytes]) -> None:
        self._writer = LedgerWriter(self.directory, self._memory, self.signer, entries)
        self._releases = {d: at for d, at in self._releases.items() if not self._proof_path(d).exists()}
        with contextlib.suppress(OSError, TidegateError):  # the next publication tries again
            self._write_proofs()

    def begin_batches(self, batches: Iterable[tuple[int, Batch]], resume: Resume | None) -> Iterator[tuple[int, Batch]]:
        """As `begin`, record by record; with `resume` from a checkpoint, and then the records after it alone.

        Raises:
            Untrusted: as `begin`. A checkpoint whose entries were changed is found out by the signed root.
        """
        entries: list[bytes] = []
        if resume is not None:
            entries, self._fold, self._size = list(resume.entries), resume.fold, len(resume.entries)
            self._releases = dict(resume.releases)
        for first, batch in batches:
            for seq, event in enumerate(batch.events, start=first):
                entries += self._entries(seq, event)
            yield first, batch
        self._open_behind(entries)

    def resume(self) -> Resume:
        """Give what a checkpoint must hold so that the ledger goes on from there."""
        return Resume(list(self._open.entries), self._fold, dict(self._releases))

    def take(self, log: Log, last: int, events: Sequence[Event]) -> None:
        """Take up events that are durable; the last of them has number `last`."""
        first = last - len(events) + 1
        if first != self._fold.seen + 1:  # an append that was given up may have come through after all
            try:
                self.catch_up(log)
            except LogError as error:
                self.trouble = f"the ledger waits: {error}"
            return
        for seq, event in enumerate(events, start=first):
            self._feed(seq, event)

    def catch_up(self, log: Log) -> None:
        """Take up what the log holds beyond what has been seen."""
        for seq, event in log.read(self._fold.seen):
            self._feed(seq, event)

    def _feed(self, seq: int, event: Event) -> None:
        made = self._entries(seq, event)
        if made:
            self._open.add(made)

    def _entries(self, seq: int, event: Event) -> list[bytes]:
        made = [one.entry for one in self._fold.feed(seq, event)]
        self._size += len(made)
        if isinstance(event, Act) and event.what == "release_logged":
            self._releases[event.body["digest"]] = self._size - 1
        return made

    def _proof_path(self, digest: str) -> Path:
        return self.directory / "releases" / f"{digest}.tlog-proof"

    def _write_proofs(self) -> None:
        """Lay a release's proof beside the ledger, so that a device needs one small file and no tiles."""
        ready = {digest: at for digest, at in self._releases.items() if at < self._open.size}
        for digest, at in ready.items():
            path = self._proof_path(digest)
            make_directory(path.parent)
            write_durably(path.with_suffix(".json"), self._open.entry(at))
            write_durably(path, self._open.proof(at))  # last: what is there has its entry beside it
            del self._releases[digest]

    def publish(self) -> None:
        """Write and sign what waits. What fails is said in `trouble` and tried again: it stops no rollout's halt."""
        try:
            self._open.publish()
            self._write_proofs()
            self.trouble = ""
        except (OSError, TidegateError) as error:
            self._again_at = time.monotonic() + AGAIN_S
            self.trouble = f"the ledger could not be written: {error}"
