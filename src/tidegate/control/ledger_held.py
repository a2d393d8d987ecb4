"""What the ledger's own files hold, under its own signature: a start derives again only what came lately.

Nearly all of a log is devices' events, of which the ledger holds digests alone; to write their texts again at every
start would take longer than all else. Entries that stand for themselves are held against the log each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from tidegate.control.ledger_events import entry_text
from tidegate.core.errors import NotFound, Untrusted
from tidegate.log.batch import Batch
from tidegate.trust.checkpoint import open_checkpoint
from tidegate.trust.ledger import CHECKPOINT, WAY_OUT, directory_fetch
from tidegate.trust.merkle import Tree, leaf_hash
from tidegate.trust.note import NoteKey
from tidegate.trust.tiles import TileReader

LATELY = 200_000
"""Events before the log's end that are always derived again: what a log may have lost or got twice is its end."""


@dataclass(frozen=True, slots=True)
class Held:
    """Signed entries from the first, and the event after which nothing of what they cover was open."""

    entries: Sequence[bytes] = ()
    seen: int = 0


class _Head(msgspec.Struct):
    kind: str
    log_seq: int


_head = msgspec.json.Decoder(_Head).decode


def held(directory: Path, memory: Path, key: NoteKey, last: int) -> Held:
    """Read the entries that the newest checkpoint signs, up to `LATELY` events before the log's last.

    Whatever is missing, damaged or signed by another gives nothing: the whole log tells then.
    """
    if last <= LATELY:
        return Held()
    try:
        notes = [place.read_bytes() for place in (memory, directory / CHECKPOINT) if place.exists()]
        newest = max((open_checkpoint(note, key) for note in notes), key=lambda found: found.size)
        entries = [entry for _, entry in TileReader(directory_fetch(directory), newest.size).entries()]
        if Tree(leaf_hash(entry) for entry in entries).root() != newest.root:
            return Held()
        return _up_to(entries, last - LATELY)
    except (NotFound, Untrusted, OSError, ValueError):
        return Held()


def _up_to(entries: Sequence[bytes], most: int) -> Held:
    """Cut before a segment, since that is whole again by its events, or behind an entry of another kind."""
    for at in range(len(entries) - 1, -1, -1):
        head = _head(entries[at])
        segment = head.kind == "segment"
        seen = head.log_seq - segment
        if seen <= most:
            return Held(entries[: at + (not segment)], seen)
    return Held()


class Comparison:
    """Holds the entries that are no segments against the events of the log, as these go by."""

    def __init__(self, found: Held, after: int) -> None:
        """Take what is held; events up to `after` will not be read."""
        self._seen, self._left = found.seen, dict[int, bytes]()
        for entry in found.entries:
            head = _head(entry)
            if head.kind != "segment" and head.log_seq > after:
                self._left[head.log_seq] = entry

    def see(self, first: int, batch: Batch) -> None:
        """Look at a record. Raises Untrusted if the log says something else than what was signed."""
        for offset, event in batch.single_events():
            seq = first + offset
            if seq <= self._seen and self._left.pop(seq, None) != entry_text(seq, event):
                raise _another(seq)

    def end(self) -> None:
        """See that nothing is left over. Raises Untrusted."""
        if self._left:
            raise _another(min(self._left))


def _another(seq: int) -> Untrusted:
    return Untrusted(
        f"the log gives another ledger than the one that was signed: they differ at event {seq}; one of them was"
        f" changed; going on would fork it, so nothing was written; {WAY_OUT}"
    )
