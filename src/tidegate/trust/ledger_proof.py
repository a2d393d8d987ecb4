"""One entry's proof as a file of its own (C2SP tlog-proof), which is checked with no network."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.core.errors import Untrusted
from tidegate.trust.checkpoint import Checkpoint, open_checkpoint
from tidegate.trust.merkle import leaf_hash, verify_inclusion
from tidegate.trust.note import NoteKey
from tidegate.trust.witness import require_witnesses

_PROOF_HEAD = "c2sp.org/tlog-proof@v1"


@dataclass(frozen=True, slots=True)
class EntryProof:
    """An entry's place, its way to the root, and the checkpoint that signs the root."""

    index: int
    proof: tuple[bytes, ...]
    note: bytes

    def data(self) -> bytes:
        """Write it as `tlog-proof` v1."""
        lines = [_PROOF_HEAD, f"index {self.index}", *(base64.b64encode(part).decode() for part in self.proof), ""]
        return "\n".join(lines).encode() + b"\n" + self.note

    def verify(self, entry: bytes, key: NoteKey, witnesses: Sequence[NoteKey] = (), quorum: int = 0) -> Checkpoint:
        """Check that an entry is in the ledger of this key, with no network. Raises Untrusted."""
        checkpoint = open_checkpoint(self.note, key)
        require_witnesses(self.note, witnesses, quorum)
        verify_inclusion(self.index, checkpoint.size, leaf_hash(entry), self.proof, checkpoint.root)
        return checkpoint


def parse_proof(data: bytes) -> EntryProof:
    """Read a `tlog-proof`. Raises Untrusted if it is none."""
    head, gap, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
        if not gap or lines[0] != _PROOF_HEAD:
            raise ValueError(lines[0])
        if lines[1].startswith("extra "):
            del lines[1]
        word, _, number = lines[1].partition(" ")
        if word != "index" or not number.isdecimal() or str(int(number)) != number:
            raise ValueError(lines[1])
        parts = tuple(base64.b64decode(line, validate=True) for line in lines[2:])
    except (ValueError, IndexError, binascii.Error):
        raise Untrusted("this is no proof of a ledger entry (tlog-proof v1)") from None
    if any(len(part) != 32 for part in parts):
        raise Untrusted("this proof of a ledger entry has a hash of another length than 32 bytes")
    return EntryProof(int(number), parts, note)
