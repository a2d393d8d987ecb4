"""The ledger's readers: verify the whole, prove one entry, follow it as it grows; by its files and one key."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.core.errors import BadInput, NotFound, Untrusted
from tidegate.trust.checkpoint import Checkpoint, open_checkpoint
from tidegate.trust.ledger import CHECKPOINT, COSIGNED
from tidegate.trust.merkle import Tree, consistency_proof, inclusion_proof, leaf_hash, root_of, verify_inclusion
from tidegate.trust.note import NoteKey
from tidegate.trust.tiles import Fetch, TileReader
from tidegate.trust.witness import require_witnesses


class LedgerReader:
    """A ledger as its files show it, under one key. It trusts nothing but that key."""

    def __init__(self, fetch: Fetch, key: NoteKey, witnesses: Sequence[NoteKey] = (), quorum: int = 0) -> None:
        """Read the newest checkpoint that enough witnesses signed. Raises Untrusted if there is none of this key."""
        self.note = _newest(fetch, key, witnesses, quorum)
        self.checkpoint: Checkpoint = open_checkpoint(self.note, key)
        self.witnessed = require_witnesses(self.note, witnesses, quorum)
        self.tiles = TileReader(fetch, self.checkpoint.size)

    def verify(self) -> list[bytes]:
        """Read every entry and hinge all of them on the checkpoint; give them.

        Raises:
            NotFound: if a part is missing.
            Untrusted: if a part was edited or cut, or the checkpoint has another root.
        """
        entries = [entry for _, entry in self.tiles.entries()]
        root = Tree(leaf_hash(entry) for entry in entries).root()
        if len(entries) != self.checkpoint.size or root != self.checkpoint.root:
            raise Untrusted("the ledger's entries do not give the root that its checkpoint signs: it was changed")
        if root_of(self.checkpoint.size, self.tiles.node) != root:
            raise Untrusted("the upper tiles of the ledger do not fit its entries: they were changed")
        return entries

    def consistency(self, old: int) -> list[bytes]:
        """Give the proof that the ledger of `old` entries is the beginning of this one. Raises Untrusted."""
        if old > self.checkpoint.size:
            raise Untrusted(f"the ledger has shrunk from {old} entries to {self.checkpoint.size}: it was truncated")
        return consistency_proof(old, self.checkpoint.size, self.tiles.node)

    def prove(self, index: int) -> tuple[bytes, list[bytes]]:
        """Give an entry and the proof that it is in the ledger, checked. Raises BadInput if there is no such entry."""
        if not 0 <= index < self.checkpoint.size:
            raise BadInput(f"the ledger has entries 0 to {self.checkpoint.size - 1}, and no {index}")
        entry = self.tiles.bundle(index // 256)[index % 256]
        proof = inclusion_proof(index, self.checkpoint.size, self.tiles.node)
        verify_inclusion(index, self.checkpoint.size, leaf_hash(entry), proof, self.checkpoint.root)
        return entry, proof


def _newest(fetch: Fetch, key: NoteKey, witnesses: Sequence[NoteKey], quorum: int) -> bytes:
    """Give the newest checkpoint; while witnesses have not signed that one yet, the newest that they did sign."""
    note = fetch(CHECKPOINT)
    try:
        open_checkpoint(note, key)
        require_witnesses(note, witnesses, quorum)
    except Untrusted:
        if not quorum:
            raise
        try:
            return fetch(COSIGNED)
        except NotFound:
            return note
    return note
