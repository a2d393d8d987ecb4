"""What a ledger and its witnesses say to each other (C2SP tlog-witness): bytes in and bytes out, no network here."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from tidegate.core.errors import BadInput, Untrusted
from tidegate.trust.note import Note, NoteKey, parse_note
from tidegate.trust.witness import cosigned_at

MOST_PROOF = 63
MOST_CALL = 65_536
SIZE_TYPE = "text/x.tlog.size"


class Call(NamedTuple):
    """An `add-checkpoint` request: the size that the witness has seen, the way from there, the checkpoint."""

    old: int
    proof: list[bytes]
    note: bytes


def write_call(old: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """Write the body of an `add-checkpoint` request."""
    lines = [f"old {old}", *(base64.b64encode(part).decode() for part in proof), ""]
    return "\n".join(lines).encode() + b"\n" + note


def read_call(data: bytes) -> Call:
    """Read the body of an `add-checkpoint` request; nothing is verified. Raises BadInput."""
    bad = BadInput("this is no add-checkpoint request: `old SIZE`, lines of the proof, an empty one, a checkpoint")
    head, gap, note = data.partition(b"\n\n")
    lines = head.split(b"\n")
    word, space, size = lines[0].partition(b" ")
    if not gap or word != b"old" or not space or len(lines) > MOST_PROOF + 1 or len(data) > MOST_CALL:
        raise bad
    if not size.isdigit() or len(size) > 19 or str(int(size)).encode() != size:
        raise bad
    try:
        proof = [base64.b64decode(line, validate=True) for line in lines[1:]]
    except (binascii.Error, ValueError):
        raise bad from None
    if any(len(part) != 32 for part in proof):
        raise bad
    return Call(int(size), proof, note)


def cosignature_lines(cosigned: bytes, witness: NoteKey) -> bytes:
    """Give the signature lines of one witness alone: the answer to an `add-checkpoint` request."""
    note = parse_note(cosigned)
    mine = tuple(found for found in note.signatures if found[:2] == (witness.name, witness.key_id))
    return Note("", mine).data()[1:]


def take_answer(note: bytes, answer: bytes, witness: NoteKey) -> bytes:
    """Give a checkpoint with the cosignature that its witness answered, and no other's. Raises Untrusted."""
    bare, found = parse_note(note), parse_note(note + answer)
    mine = tuple(
        each for each in found.signatures[len(bare.signatures) :] if each[:2] == (witness.name, witness.key_id)
    )
    made = Note(bare.text, bare.signatures + mine).data()
    if found.text != bare.text or cosigned_at(made, witness) is None:
        raise Untrusted(f"witness {witness.name} answered without a cosignature that holds for its key")
    return made


def origin_hash(origin: str) -> str:
    """Name a ledger where a witness shows the newest checkpoint that it has cosigned."""
    return hashlib.sha256(origin.encode()).hexdigest()
