"""Checkpoints (C2SP tlog-checkpoint): how many entries a ledger holds and their root, as a signed note."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from tidegate.core.errors import Untrusted
from tidegate.trust.note import Note, NoteKey, NoteSigner, open_note


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The ledger at one moment: its name, its size in entries and its Merkle root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Write the note's text."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def ledger_origin(root_digest: str) -> str:
    """Name a control plane's ledger after its first root: one repository, one ledger."""
    return f"tidegate.local/{root_digest[:32]}"


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> bytes:
    """Give the signed note."""
    return Note(checkpoint.text()).signed_by(signer).data()


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint, with or without extension lines. Raises Untrusted."""
    lines = text.split("\n")
    bad = Untrusted("this is no checkpoint: it should give an origin, a size and a root")
    if len(lines) < 4 or not lines[0] or lines[-1] or not all(lines[3:-1]):
        raise bad
    size, packed = lines[1], lines[2]
    if not (size.isascii() and size.isdecimal()) or (size != "0" and size.startswith("0")) or len(size) > 19:
        raise bad
    try:
        root = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        raise bad from None
    if len(root) != 32:
        raise bad
    return Checkpoint(lines[0], int(size), root)


def open_checkpoint(data: bytes, key: NoteKey) -> Checkpoint:
    """Read a checkpoint that this key has signed, of the ledger that bears the key's name. Raises Untrusted."""
    found = parse_checkpoint(open_note(data, key))
    if found.origin != key.name:
        raise Untrusted(f"the checkpoint is of {found.origin}, and the key is that of {key.name}")
    return found
