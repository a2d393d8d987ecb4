"""The ledger's writer: entries into tiles, then a signed checkpoint. Every part is durable before a checkpoint says so.

Tiles are a function of the entries, so that whoever holds these (the control plane's log) can write them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tidegate.core.errors import NotFound, Untrusted
from tidegate.trust.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from tidegate.trust.durable import make_directory, read_bytes, sweep_temporary
from tidegate.trust.fence import Pen
from tidegate.trust.ledger_proof import EntryProof
from tidegate.trust.merkle import Tree, consistency_proof, leaf_hash
from tidegate.trust.note import Note, NoteSigner, parse_note
from tidegate.trust.tiles import WIDTH, entries_path, pack_entries, tile_path

CHECKPOINT = "checkpoint"
COSIGNED = "checkpoint.cosigned"
"""The newest checkpoint that witnesses have signed too: readers who demand them find it while the next one waits."""
KEY_FILE = "key"
WAY_OUT = (
    "bring back the newest copy of the log, or begin a new ledger on record: tidegate keys ledger --renew"
    " (docs/ledger.md)"
)


class LedgerWriter:
    """The one writer of a ledger's directory.

    Args:
        directory: what is served: `checkpoint`, `key` and `tile/...`.
        memory: a copy of the newest checkpoint outside it, so that whoever empties the directory gets no fork signed.
        signer: the ledger's key; its name is the ledger's origin.
        entries: all entries that the control plane's log gives, from the first.
        pen: how files are put in place; tests cut the power here.

    Raises:
        Untrusted: if the entries do not continue a checkpoint that was signed before, or the memory is not signed by
            this key. Nothing has been written.
    """

    def __init__(
        self,
        directory: Path,
        memory: Path,
        signer: NoteSigner,
        entries: Sequence[bytes],
        *,
        pen: Pen | None = None,
    ) -> None:
        self._directory, self._memory, self._signer, self._pen = directory, memory, signer, pen or Pen()
        self._entries = list(entries)
        self._tree = Tree(leaf_hash(entry) for entry in entries)
        pack_entries(self._entries)  # a log that gives what no bundle can hold is refused before anything is written
        self._published = 0
        self._cosigned: Note | None = None
        newest = self._signed_before()
        make_directory(directory)
        self._sweep()
        self._heal(newest)
        self._take_up_cosigned()

    @property
    def size(self) -> int:
        """Entries that a checkpoint covers."""
        return self._published

    @property
    def waiting(self) -> int:
        """Entries that no checkpoint covers yet."""
        return len(self._entries) - self._published

    @property
    def checkpoint(self) -> Checkpoint:
        """What the newest checkpoint says."""
        return Checkpoint(self._signer.key.name, self._published, self._tree.root(self._published))

    @property
    def entries(self) -> Sequence[bytes]:
        """All entries, from the first; nobody may change them."""
        return self._entries

    def entry(self, index: int) -> bytes:
        """Give an entry's text."""
        return self._entries[index]

    @property
    def note(self) -> bytes:
        """The newest checkpoint, signed by the ledger alone."""
        return sign_checkpoint(self.checkpoint, self._signer)

    def proof(self, index: int) -> bytes:
        """Give the `tlog-proof` of an entry against the newest checkpoint that witnesses signed, else the newest."""
        note, size = self.note, self._published
        if self._cosigned is not None and index < self._size_of(self._cosigned):
            note, size = self._cosigned.data(), self._size_of(self._cosigned)
        return EntryProof(index, tuple(self._tree.prove(index, size)), note).data()

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Give the proof that the ledger of `old` entries is the beginning of that of `size`."""
        return consistency_proof(old, size, self._tree.node)

    def root(self, size: int) -> bytes:
        """Give the Merkle root of the first `size` entries."""
        return self._tree.root(size)

    def cosigned(self, data: bytes) -> None:
        """Serve what witnesses have signed below one of this ledger's checkpoints, beside what they signed before.

        Raises:
            Untrusted: if it is no checkpoint of this ledger.
        """
        found = open_checkpoint(data, self._signer.key)
        self._check(found)
        note, known = parse_note(data), self._cosigned
        if known is not None and known.text == note.text:
            note = Note(note.text, tuple(dict.fromkeys((*known.signatures, *note.signatures))))
        elif known is not None and self._size_of(known) > found.size:
            return
        self._cosigned = note
        self._put(self._directory / COSIGNED, note.data(), found.size)
        if found.size == self._published:
            self._put(self._directory / CHECKPOINT, note.data(), found.size)

    def _size_of(self, note: Note) -> int:
        return parse_checkpoint(note.text).size

    def _take_up_cosigned(self) -> None:
        place = self._directory / COSIGNED
        try:
            self._check(open_checkpoint(place.read_bytes(), self._signer.key))
            self._cosigned = parse_note(place.read_bytes())
        except (OSError, Untrusted):  # gone, damaged or another ledger's: witnesses are asked again
            self._cosigned = None

    def add(self, entries: Sequence[bytes]) -> None:
        """Take entries up; `publish` makes them visible. May be called while `publish` is at work in another thread."""
        pack_entries(entries)
        for entry in entries:
            self._tree.append(leaf_hash(entry))
            self._entries.append(entry)  # last: whoever counts entries finds all of these in the tree

    def publish(self) -> int:
        """Write what has been taken up, and sign. Give the ledger's size; when it returns, all is durable.

        Raises:
            DiskFull, OSError: then the old checkpoint stands, and the next call does the whole again.
        """
        size = len(self._entries)
        if size > self._published:
            self._write_tiles(self._published, size)
            self._sign(size)
            self._prune(self._published // WIDTH, size // WIDTH)
            self._published = size
        return size

    def _sign(self, size: int) -> None:
        found = Checkpoint(self._signer.key.name, size, self._tree.root(size))
        data = sign_checkpoint(found, self._signer)
        self._put(self._memory, data, size)  # first: what devices and witnesses may have seen must not be forgotten
        self._put(self._directory / CHECKPOINT, data, size)

    def _put(self, path: Path, data: bytes, size: int) -> None:
        """Put a checkpoint in place, never a smaller one: this may be a process that was paused and replaced."""

        def size_of(note: bytes) -> int:
            try:
                return open_checkpoint(note, self._signer.key).size
            except Untrusted:  # what this key did not sign binds nobody
                return 0

        self._pen.put_forward(path, data, size, size_of)

    def _write_tiles(self, old: int, size: int) -> None:
        for path, data in self._tiles(old, size):
            place = self._directory / path
            make_directory(place.parent)
            self._pen.put(place, data)

    def _tiles(self, old: int, size: int) -> list[tuple[str, bytes]]:
        """Give the tiles that a ledger of `size` has and one of `old` had not."""
        made: list[tuple[str, bytes]] = []
        level = 0
        while size >> (8 * level):
            before, now = old >> (8 * level), size >> (8 * level)
            for number in range(before // WIDTH, -(-now // WIDTH)):
                width = min(now - number * WIDTH, WIDTH)
                if number * WIDTH + width <= before:
                    continue
                hashes = [self._tree.node(8 * level, number * WIDTH + i) for i in range(width)]
                made.append((tile_path(level, number, width), b"".join(hashes)))
                if level == 0:
                    bundle = self._entries[number * WIDTH : number * WIDTH + width]
                    made.append((entries_path(number, width), pack_entries(bundle)))
            level += 1
        return made

    def _prune(self, first: int, end: int) -> None:
        """Partial tiles of what is full now; readers fall back to the full one."""
        for number in range(first, end):
            for full in (entries_path(number), tile_path(0, number)):
                parts = self._directory / f"{full}.p"
                for part in parts.glob("*"):
                    part.unlink(missing_ok=True)

    def _signed_before(self) -> Checkpoint | None:
        """Find the newest checkpoint ever signed, and hold the entries against every one that is there."""
        found = self._public()
        known = [found] if found else []
        if self._memory.exists():
            known.append(open_checkpoint(self._memory.read_bytes(), self._signer.key))
        for checkpoint in known:
            self._check(checkpoint)
        return max(known, key=lambda checkpoint: checkpoint.size, default=None)

    def _public(self) -> Checkpoint | None:
        """Read the checkpoint that is served; what this key did not sign binds nobody and is written anew."""
        place = self._directory / CHECKPOINT
        try:
            return open_checkpoint(place.read_bytes(), self._signer.key) if place.exists() else None
        except Untrusted:
            return None

    def _check(self, signed: Checkpoint) -> None:
        if signed.size > self._tree.size:
            raise Untrusted(
                f"the ledger has {signed.size} entries and the log gives {self._tree.size}: the log has lost its end;"
                f" nothing was written; {WAY_OUT}"
            )
        if signed.root != self._tree.root(signed.size):
            raise Untrusted(
                f"the log gives another ledger than the one signed at {signed.size} entries: one of them was changed;"
                f" going on would fork it, so nothing was written; {WAY_OUT}"
            )

    def _heal(self, newest: Checkpoint | None) -> None:
        """Write anew each tile that is missing or is not what the entries say, then the checkpoint."""
        size = newest.size if newest else 0
        for path, data in self._tiles(0, size):
            place = self._directory / path
            if not place.exists() or place.read_bytes() != data:
                make_directory(place.parent)
                self._pen.put(place, data)
        key = self._directory / KEY_FILE
        line = f"{self._signer.key.text()}\n".encode()
        if not key.exists() or key.read_bytes() != line:
            self._pen.put(key, line)
        self._published = size
        if not newest or self._public() != newest:
            self._sign(size)

    def _sweep(self) -> None:
        for directory in (self._directory, *(path for path in self._directory.rglob("*") if path.is_dir())):
            sweep_temporary(directory)


def directory_fetch(directory: Path) -> Callable[[str], bytes]:
    """Read a ledger's files from a directory. Raises NotFound."""

    def fetch(path: str) -> bytes:
        place = directory / path
        try:
            return read_bytes(place, "a part of the ledger")
        except (IsADirectoryError, NotADirectoryError):
            raise NotFound(f"a part of the ledger is not there: {place}") from None

    return fetch
