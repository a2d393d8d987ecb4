"""Witnesses (C2SP tlog-cosignature): someone else who signs a checkpoint only if it continues the one signed before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tidegate.core.errors import BadInput, Untrusted
from tidegate.trust.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from tidegate.trust.durable import write_durably
from tidegate.trust.merkle import EMPTY_ROOT, verify_consistency
from tidegate.trust.note import COSIGNATURE, Note, NoteKey, NoteSigner, parse_note


def _message(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def cosign(data: bytes, signer: NoteSigner, now: int) -> bytes:
    """Give the note with a cosignature below it; `signer` is of kind 4, `now` in unix seconds.

    Raises:
        BadInput: for a key of another kind: a witness's word must not read as the ledger's own.
    """
    if signer.key.kind != COSIGNATURE:
        raise BadInput("a witness needs a key of kind 4 (cosignature)")
    note = parse_note(data)
    raw = now.to_bytes(8, "big") + signer.sign(_message(note.text, now))
    return Note(note.text, (*note.signatures, (signer.key.name, signer.key.key_id, raw))).data()


def cosigned_at(data: bytes, witness: NoteKey, latest: int = (1 << 63) - 1) -> int | None:
    """Say when a witness cosigned this note (unix seconds), or None if no cosignature of it holds until `latest`."""
    note = parse_note(data)
    for raw in note.raw_of(witness):
        seconds = int.from_bytes(raw[:8], "big")
        fit = len(raw) == 72 and 0 < seconds <= latest and witness.kind == COSIGNATURE
        if fit and witness.holds(_message(note.text, seconds), raw[8:]):
            return seconds
    return None


def require_witnesses(data: bytes, witnesses: Sequence[NoteKey], quorum: int) -> list[str]:
    """Give the names of the witnesses that cosigned a checkpoint. Raises Untrusted if they are fewer than `quorum`."""
    return [name for name, _ in witnessed(data, witnesses, quorum)]


def witnessed(
    data: bytes, witnesses: Sequence[NoteKey], quorum: int, latest: int = (1 << 63) - 1
) -> list[tuple[str, int]]:
    """Give who cosigned a checkpoint, and when (unix seconds); what is dated after `latest` does not count.

    Raises:
        Untrusted: if they are fewer than `quorum`.
    """
    distinct = {witness.public: witness for witness in witnesses}.values()
    found = [(witness.name, at) for witness in distinct if (at := cosigned_at(data, witness, latest)) is not None]
    if len(found) < quorum:
        raise Untrusted(f"{len(found)} of the {quorum} witnesses that are asked for have cosigned the checkpoint")
    return found


class Witness:
    """Remembers the newest checkpoint of one ledger that it cosigned, in a file, before it gives a cosignature out."""

    def __init__(self, path: Path, ledger: NoteKey, signer: NoteSigner | None = None) -> None:
        """Take up the memory in `path`. Raises Untrusted if it cannot be read: what was seen is not known any more."""
        self._path, self._ledger, self._signer = path, ledger, signer
        self.seen = Checkpoint(ledger.name, 0, EMPTY_ROOT)
        if path.exists():
            self.seen = parse_checkpoint(path.read_bytes().decode(errors="replace"))
            if self.seen.origin != ledger.name:
                raise BadInput(f"{path} remembers another ledger, {self.seen.origin}; name another file")

    def trusts(self, data: bytes) -> bool:
        """Say whether a checkpoint is signed by the ledger's key."""
        try:
            return open_checkpoint(data, self._ledger).origin == self._ledger.name
        except Untrusted:
            return False

    def add(self, data: bytes, proof: Sequence[bytes], now: int) -> bytes:
        """Take a newer checkpoint with its proof of consistency; give it back cosigned where there is a key for that.

        Raises:
            Untrusted: if it is not signed by the ledger, or does not continue what was seen: keep both as evidence.
        """
        found = open_checkpoint(data, self._ledger)
        verify_consistency(self.seen.size, found.size, proof, self.seen.root, found.root)
        write_durably(self._path, found.text().encode())
        self.seen = found
        return cosign(data, self._signer, now) if self._signer else data
