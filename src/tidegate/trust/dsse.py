"""Signed envelopes (DSSE v1, as in-toto uses them): what is signed is the payload's bytes and its type, and no parsing.

`securesystemslib` has the encoding; here is the distrust: sizes, one key once, and errors for people.
"""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.dsse import Envelope as _Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Signature, Signer, SSlibKey

from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.wire import canonical, parse_json
from tidegate.trust.votes import check_public

MOST_ENVELOPE = 1 << 20
MOST_SIGNATURES = 20
IN_TOTO = "application/vnd.in-toto+json"


def pae(payload_type: str, payload: bytes) -> bytes:
    """Give the bytes that are signed: DSSE's pre-authentication encoding."""
    return _Envelope(payload, payload_type, {}).pae()


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload, its type, and signatures by key id; none is checked until `verified_by` is asked."""

    payload: bytes
    payload_type: str
    signatures: Mapping[str, Signature]

    def data(self) -> bytes:
        """Write it: canonical JSON, so that the same envelope has one digest."""
        return canonical(_Envelope(self.payload, self.payload_type, dict(self.signatures)).to_dict())

    @property
    def digest(self) -> str:
        """SHA-256 of the envelope as it is written."""
        return hashlib.sha256(self.data()).hexdigest()

    def verified_by(self, keys: Iterable[SSlibKey]) -> set[str]:
        """Give the ids of those among these keys that have signed this very payload."""
        envelope = _Envelope(self.payload, self.payload_type, dict(self.signatures))
        found: set[str] = set()
        for key in keys:
            try:
                found |= set(envelope.verify([key], 1))
            except VerificationError:
                continue
        return found


def sign_envelope(payload: bytes, signers: Iterable[Signer], payload_type: str = IN_TOTO) -> Envelope:
    """Sign a payload. Raises BadInput if nobody signs."""
    envelope = _Envelope(payload, payload_type, {})
    for signer in signers:
        envelope.sign(signer)
    if not envelope.signatures:
        raise BadInput("an envelope needs at least one signing key")
    return Envelope(payload, payload_type, envelope.signatures)


def parse_envelope(data: bytes, what: str = "the attestation") -> Envelope:
    """Read an envelope; no signature has been checked yet. Raises BadInput if it is none."""
    bad = BadInput(f"{what} is no signed envelope (DSSE): it should be JSON with payload, payloadType and signatures")
    if len(data) > MOST_ENVELOPE:
        raise BadInput(f"{what} has {len(data):,} bytes; at most {MOST_ENVELOPE:,} are read")
    try:
        value = parse_json(data)
        if set(value) != {"payload", "payloadType", "signatures"} or not isinstance(value["payloadType"], str):
            raise bad
        if not 1 <= len(value["signatures"]) <= MOST_SIGNATURES:
            raise BadInput(f"{what} has {len(value['signatures'])} signatures; 1 to {MOST_SIGNATURES} are read")
        found = _Envelope.from_dict(value)
        for signature in found.signatures.values():
            signature.to_dict()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise bad from None
    return Envelope(found.payload, found.payload_type, found.signatures)


def ed25519_key(public_hex: str, what: str) -> SSlibKey:
    """Make a verification key of 64 hexadecimal digits. Raises BadInput."""
    try:
        raw = bytes.fromhex(public_hex)
        found = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(raw))
    except ValueError:
        raise BadInput(f"{what} must be an Ed25519 public key, 64 hexadecimal digits") from None
    check_public(raw, what)
    return found


def require(envelope: Envelope, keys: Iterable[SSlibKey], what: str) -> set[str]:
    """Give the key ids that signed. Raises Untrusted if none of the keys did."""
    found = envelope.verified_by(keys)
    if not found:
        signed = ", ".join(sorted(key[:16] for key in envelope.signatures)) or "nobody"
        raise Untrusted(f"{what} is not signed by a key that counts here; it names {signed}")
    return found
