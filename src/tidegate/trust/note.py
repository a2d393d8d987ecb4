"""Signed notes (C2SP signed-note): a text, and below it a line for each Ed25519 signature or witness cosignature."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tidegate.core.errors import BadInput, Untrusted
from tidegate.trust.durable import read_bytes
from tidegate.trust.keys import load_signer
from tidegate.trust.votes import check_public

ED25519, COSIGNATURE = 1, 4
MOST_NOTE = 1_000_000
_DASH = "— "


def _key_id(name: str, kind: int, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


@dataclass(frozen=True, slots=True)
class NoteKey:
    """Somebody's public key: `name+id+base64(kind, key)`. Kind 1 signs notes, kind 4 is a witness's."""

    name: str
    public: bytes
    kind: int = ED25519

    @property
    def key_id(self) -> bytes:
        """The four bytes that a signature begins with."""
        return _key_id(self.name, self.kind, self.public)

    def text(self) -> str:
        """Write it as others read it."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    def holds(self, message: bytes, signature: bytes) -> bool:
        """Say whether a raw signature is this key's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def parse_key(text: str) -> NoteKey:
    """Read a verifier key. Raises BadInput."""
    name, plus, rest = text.strip().partition("+")
    known_id, plus2, data = rest.partition("+")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not (plus and plus2 and _is_name(name)) or len(raw) != 33 or raw[0] not in (ED25519, COSIGNATURE):
        raise BadInput(f"{text.strip()!r} is no Ed25519 verifier key: it should read NAME+ID+BASE64")
    key = NoteKey(name, raw[1:], raw[0])
    if key.key_id.hex() != known_id:
        raise BadInput(f"the verifier key {text.strip()!r} does not fit its own id; copy it again")
    check_public(key.public, f"the verifier key {text.strip()!r}")
    return key


class NoteSigner:
    """A private Ed25519 key under a name."""

    def __init__(self, name: str, private: Ed25519PrivateKey, kind: int = ED25519) -> None:
        """Take the key. Raises BadInput for a name that could not stand in a note."""
        if not _is_name(name):
            raise BadInput(f"a note's key cannot be called {name!r}: no spaces and no plus")
        self._private = private
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key = NoteKey(name, public, kind)

    def sign(self, message: bytes) -> bytes:
        """Give the raw signature of a message."""
        return self._private.sign(message)


def load_note_signer(path: Path, name: str, kind: int = ED25519) -> NoteSigner:
    """Open an unencrypted key file. Raises NotFound, Untrusted and BadInput as `load_signer` does."""
    load_signer(path)  # the same checks of rights and kind
    private = load_pem_private_key(read_bytes(path, "the ledger's key"), None)
    assert isinstance(private, Ed25519PrivateKey)
    return NoteSigner(name, private, kind)


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends with a newline, and its signatures: name, key id and the bytes after it."""

    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...] = ()

    def data(self) -> bytes:
        """Write it."""
        lines = [f"{_DASH}{name} {base64.b64encode(key + raw).decode()}\n" for name, key, raw in self.signatures]
        return (self.text + "\n" + "".join(lines)).encode()

    def signed_by(self, signer: NoteSigner) -> Note:
        """Give it with one more signature, of kind 1."""
        made = (signer.key.name, signer.key.key_id, signer.sign(self.text.encode()))
        return Note(self.text, (*self.signatures, made))

    def raw_of(self, key: NoteKey) -> list[bytes]:
        """Give what is said to be signatures of this key."""
        return [raw for name, key_id, raw in self.signatures if name == key.name and key_id == key.key_id]


def parse_note(data: bytes) -> Note:
    """Read a note; no signature has been checked yet. Raises Untrusted if it is none."""
    bad = Untrusted("this is no signed note: it should be a text, an empty line and lines of signatures")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise bad from None
    text, gap, below = whole.rpartition("\n\n")
    if not gap or not below.endswith("\n") or len(data) > MOST_NOTE or any(ord(c) < 32 and c != "\n" for c in whole):
        raise bad
    signatures: list[tuple[str, bytes, bytes]] = []
    for line in below[:-1].split("\n"):
        name, space, packed = line.removeprefix(_DASH).partition(" ")
        try:
            raw = base64.b64decode(packed, validate=True)
        except (binascii.Error, ValueError):
            raise bad from None
        if not line.startswith(_DASH) or not space or not _is_name(name) or len(raw) < 5:
            raise bad
        signatures.append((name, raw[:4], raw[4:]))
    return Note(text + "\n", tuple(signatures))


def open_note(data: bytes, key: NoteKey) -> str:
    """Give the text of a note that this key has signed. Raises Untrusted."""
    note = parse_note(data)
    found = note.raw_of(key)
    if not found or not all(key.holds(note.text.encode(), raw) for raw in found):
        raise Untrusted(f"the note is not signed by {key.name} ({key.key_id.hex()})")
    return note.text


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(c.isspace() or ord(c) < 32 for c in name)
