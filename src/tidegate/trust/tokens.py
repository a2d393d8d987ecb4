"""Enrolment tokens: what a new device is given to find, and to trust, its server."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from tidegate.core.errors import BadInput

TOKEN_RANDOM_BYTES = 40
_ID_BYTES = 8
_FORM = re.compile(r"tg1\.([0-9a-f]{64})\.([0-9a-f]{16})\.([0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class Token:
    """`tg1.<root sha256>.<id>.<secret>`. The root's digest pins trust for the first contact; the id may be shown."""

    root_digest: str
    token_id: str
    secret: str = field(repr=False)

    def text(self) -> str:
        """Give the token as the device gets it; it is a secret."""
        return f"tg1.{self.root_digest}.{self.token_id}.{self.secret}"


def new_token(root_digest: str, random_bytes: bytes) -> Token:
    """Make a token.

    Args:
        root_digest: `metadata.root_digest` of the root that devices are to begin with.
        random_bytes: TOKEN_RANDOM_BYTES fresh random bytes, never used again.

    Raises:
        BadInput: if either has not its length.
    """
    if len(random_bytes) != TOKEN_RANDOM_BYTES:
        raise BadInput(f"a token needs {TOKEN_RANDOM_BYTES} random bytes")
    return parse_token(f"tg1.{root_digest}.{random_bytes[:_ID_BYTES].hex()}.{random_bytes[_ID_BYTES:].hex()}")


def parse_token(text: str) -> Token:
    """Read a token. Raises BadInput, which does not repeat the token."""
    found = _FORM.match(text.strip())
    if not found:
        raise BadInput("this is no enrolment token; it begins with tg1. and is given by `tidegate enrol`")
    return Token(found[1], found[2], found[3])


def possession_message(token: str, public_key: str) -> bytes:
    """Give what a device signs with its own key to enrol: a public key alone, which is no secret, gets no identity."""
    return b"tidegate/enrol/v1." + token_hash(token).encode() + b"." + public_key.encode()


def token_hash(text: str) -> str:
    """Give what the log stores in a token's place: SHA-256, of which the secret cannot be told. Raises BadInput."""
    return hashlib.sha256(b"tidegate/token/v1." + parse_token(text).text().encode()).hexdigest()
