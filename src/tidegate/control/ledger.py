"""The controller's side of the ledger: it follows the log, one step behind, and a restart derives it again."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from tidegate.control.ledger_events import LedgerFold, Made
from tidegate.control.ledger_held import Comparison, Held, held
from tidegate.core.errors import TidegateError, Untrusted
from tidegate.log.batch import Batch
from tidegate.log.events import Event
from tidegate.log.port import Log, LogError
from tidegate.trust.checkpoint import Checkpoint, parse_checkpoint
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.ledger import LedgerWriter
from tidegate.trust.ledger_proof import parse_proof
from tidegate.trust.note import NoteKey, NoteSigner, parse_note
from tidegate.trust.witness import cosigned_at, witnessed

AGAIN_S = 5.0


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
        self.barred = ""
        """Why nothing may be published any more: a witness has seen another ledger under this name."""
        self._witnesses: frozenset[NoteKey] = frozenset()
        self._quorum = 0
        self._bare: dict[str, int] = {}
        """Releases whose proof not all witnesses have signed yet."""
        self._files = threading.Lock()

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
        return self._open.waiting > 0 and not self.barred and time.monotonic() >= self._again_at

    @property
    def note(self) -> bytes:
        """The newest checkpoint, for witnesses."""
        return self._open.note

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Give the proof that the ledger of `old` entries is the beginning of that of `size`."""
        return self._open.consistency(old, size)

    def holds(self, seen: Checkpoint) -> bool:
        """Say whether a checkpoint that somebody has seen is the beginning of what the log gives."""
        writer = self._open
        return seen.size <= writer.size + writer.waiting and writer.root(seen.size) == seen.root

    @property
    def _open(self) -> LedgerWriter:
        assert self._writer is not None, "begin has not been read to its end"
        return self._writer

    def begin(self, log: Log, after: int = 0, *, whole: bool = False) -> Iterator[tuple[int, Batch]]:
        """Pass on the log's records after event `after`, and open the ledger behind the last.

        What its own files hold is taken from there, except what came lately; with `whole`, nothing is.

        Raises:
            Untrusted: if the log does not give the ledger that was signed before. Nothing has been written.
        """
        found = Held() if whole else held(self.directory, self._memory, self.key, log.last)
        entries, named = list(found.entries), Comparison(found, after)
        self._fold, self._size, self._releases = LedgerFold(seen=found.seen), len(entries), _releases_in(entries)
        for first, batch in log.read_batches(min(found.seen, after)):
            if first <= found.seen:
                named.see(first, batch)
            entries += self._batch_entries(first, batch)
            if first + batch.count - 1 > after:
                yield first, batch
        named.end()
        self._open_behind(entries)

    def _open_behind(self, entries: list[bytes]) -> None:
        self._writer = LedgerWriter(self.directory, self._memory, self.signer, entries)
        self._releases = {d: at for d, at in self._releases.items() if not self._proof_path(d).exists()}
        with contextlib.suppress(OSError, TidegateError):  # the next publication tries again
            self._write_proofs()

    def take(self, log: Log, last: int, events: Sequence[Event]) -> None:
        """Take up events that are durable; the last of them has number `last`."""
        first = last - len(events) + 1
        if first != self._fold.seen + 1:  # an append that was given up may have come through after all
            try:
                self.catch_up(log)
            except LogError as error:
                self.trouble = f"the ledger waits: {error}"
            return
        self._feed(first, events)

    def catch_up(self, log: Log) -> None:
        """Take up what the log holds beyond what has been seen."""
        for seq, event in log.read(self._fold.seen):
            self._feed(seq, [event])

    def _feed(self, first: int, events: Sequence[Event]) -> None:
        made = self._entries(first, events)
        if made:
            self._open.add(made)

    def _entries(self, first: int, events: Sequence[Event]) -> list[bytes]:
        return self._noted(self._fold.feed_many(first, events))

    def _noted(self, made: Sequence[Made]) -> list[bytes]:
        entries = [one.entry for one in made]
        self._releases.update((digest, self._size + at) for digest, at in _releases_in(entries).items())
        self._size += len(entries)
        return entries

    def _batch_entries(self, first: int, batch: Batch) -> list[bytes]:
        seen = self._fold.seen
        if first + batch.count - 1 <= seen:
            return []
        if first <= seen:
            return self._entries(seen + 1, batch.events[seen + 1 - first :])
        return self._noted(self._fold.feed_batch(first, batch))

    def _proof_path(self, digest: str) -> Path:
        return self.directory / "releases" / f"{digest}.tlog-proof"

    def _write_proofs(self) -> None:
        """Lay a release's proof beside the ledger, so that a device needs one small file and no tiles."""
        ready = {digest: at for digest, at in dict(self._releases).items() if at < self._open.size}
        for digest, at in ready.items():
            path = self._proof_path(digest)
            make_directory(path.parent)
            write_durably(path.with_suffix(".json"), self._open.entry(at))
            write_durably(path, self._open.proof(at))  # last: what is there has its entry beside it
            del self._releases[digest]
            if self._witnesses:
                self._bare[digest] = at

    def demand(self, witnesses: Collection[NoteKey], quorum: int = 0) -> None:
        """Name the witnesses that are to sign the releases' proofs, and how many of them devices demand."""
        self._quorum = quorum
        if self._witnesses != frozenset(witnesses):
            self._witnesses = frozenset(witnesses)
            self._bare = {path.stem: at for path, at in self._proofs() if at >= 0} if witnesses else {}

    def witnessed_s(self, digest: str, now_s: int) -> int:
        """Give when the witnesses that devices demand saw a release (unix seconds); 0 where none are demanded.

        Where they have not yet, no device takes it yet, and it counts as seen now.
        """
        if self._quorum == 0:
            return 0
        try:
            note = parse_proof(self._proof_path(digest).read_bytes()).note
            times = sorted((at for _, at in witnessed(note, tuple(self._witnesses), self._quorum)), reverse=True)
            return times[self._quorum - 1]
        except (OSError, Untrusted):
            return now_s

    def _proofs(self) -> Iterator[tuple[Path, int]]:
        for path in (self.directory / "releases").glob("*.tlog-proof"):
            try:
                found = parse_proof(path.read_bytes())
                yield path, -1 if self._signed_by_all(found.note) else found.index
            except (OSError, Untrusted):
                continue

    def _signed_by_all(self, note: bytes) -> bool:
        return all(cosigned_at(note, witness) is not None for witness in self._witnesses)

    def cosigned(self, note: bytes) -> None:
        """Serve what witnesses have signed: the checkpoint, and the proofs of releases that it covers.

        Raises:
            Untrusted: if it is no checkpoint of this ledger.
            OSError, DiskFull: if it cannot be written; witnesses can be asked again.
        """
        with self._files:
            self._open.cosigned(note)
            size = parse_checkpoint(parse_note(note).text).size
            for digest, at in [(digest, at) for digest, at in self._bare.items() if at < size]:
                proof = self._open.proof(at)
                write_durably(self._proof_path(digest), proof)
                if self._signed_by_all(parse_proof(proof).note):
                    del self._bare[digest]

    def publish(self) -> None:
        """Write and sign what waits. What fails is said in `trouble` and tried again: it stops no rollout's halt."""
        try:
            with self._files:
                self._open.publish()
                self._write_proofs()
            self.trouble = self.barred
        except (OSError, TidegateError) as error:
            self._again_at = time.monotonic() + AGAIN_S
            self.trouble = f"the ledger could not be written: {error}"


def _releases_in(entries: Iterable[bytes]) -> dict[str, int]:
    found = ((at, json.loads(entry)) for at, entry in enumerate(entries) if b'"release"' in entry)
    return {value["digest"]: at for at, value in found if value.get("kind") == "release"}
