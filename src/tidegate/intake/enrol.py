"""POST /v1/enrol: a device with a token gets its identity and the root of trust."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tidegate.control import devices
from tidegate.core.errors import BadInput, Untrusted
from tidegate.intake.http import Reply, ok, parse
from tidegate.trust.metadata import root_by_digest
from tidegate.trust.tokens import parse_token, possession_message, token_hash
from tidegate.trust.votes import check_public

if TYPE_CHECKING:
    from starlette.types import Scope

    from tidegate.intake.app import IntakeApp

MOST_LABELS = 64
MOST_TEXT = 200


class EnrolRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What a device says of itself. Facts are its own word; labels it may only ask for."""

    token: str
    public_key: str = ""
    proof: str = ""
    labels: dict[str, str] = {}
    facts: dict[str, str] = {}


_decoder = msgspec.json.Decoder(EnrolRequest)


async def handle(app: IntakeApp, scope: Scope, body: bytes) -> Reply:
    """Enrol a device. The same public key gets the same identity again, so a lost answer costs nothing.

    A device without a key gets a new identity each time.
    """
    said = parse(_decoder, body)
    if said.public_key and not re.fullmatch(r"[0-9a-f]{64}", said.public_key):
        raise BadInput("public_key must be 64 hexadecimal digits: an Ed25519 public key")
    for name, values in (("labels", said.labels), ("facts", said.facts)):
        if len(values) > MOST_LABELS or any(len(k) > MOST_TEXT or len(v) > MOST_TEXT for k, v in values.items()):
            raise BadInput(f"{name}: at most {MOST_LABELS} entries of {MOST_TEXT} characters")
    token = parse_token(said.token)
    if said.public_key:
        _check_possession(said)
    root = root_by_digest(app.repository, token.root_digest)
    fresh_id = secrets.token_hex(16)
    index, device_id = await app.controller.ask(
        lambda state, now_ms: devices.enrol(
            state,
            now_ms,
            token_id=token.token_id,
            token_hash=token_hash(said.token),
            public_key=said.public_key,
            labels=said.labels,
            facts=said.facts,
            fresh_id=fresh_id,
        )
    )
    epoch = app.secrets.newest_epoch
    credential = app.secrets.credential(epoch, index, device_id)
    condemned = app.controller.state.identities.condemned.get(index, {})
    return ok(
        {
            "device_id": device_id,
            "index": index,
            "credential": credential,
            "root": root.decode(),
            "condemned": [{"digest": digest, **found._asdict()} for digest, found in condemned.items()],
        }
    )


def _check_possession(said: EnrolRequest) -> None:
    """Refuse who names a device's public key without having its private one: it would get that device's identity."""
    if not re.fullmatch(r"[0-9a-f]{128}", said.proof):
        raise BadInput("proof must be 128 hexadecimal digits: an Ed25519 signature by the device's key")
    check_public(bytes.fromhex(said.public_key), "public_key")
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(said.public_key))
    try:
        key.verify(bytes.fromhex(said.proof), possession_message(said.token, said.public_key))
    except InvalidSignature:
        raise Untrusted("the proof was not made with this public key's private key, for this token") from None
