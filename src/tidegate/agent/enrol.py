"""Enrolment: the device makes its key, shows its token, and gets a name, a credential and the root of its trust."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tidegate.agent.config import POLL_S, Home, Identity, Settings
from tidegate.agent.slots import Slots
from tidegate.agent.transport import HttpRefused, Link
from tidegate.core.assign import device_key
from tidegate.core.errors import BadInput, Refused, Untrusted
from tidegate.core.model import check_digest
from tidegate.core.wire import decode
from tidegate.trust.credentials import credential_device
from tidegate.trust.durable import write_durably
from tidegate.trust.note import parse_key
from tidegate.trust.tokens import Token, parse_token, possession_message


def enrol(
    home: Path,
    server: str,
    token: str,
    labels: Mapping[str, str] | None = None,
    facts: Mapping[str, str] | None = None,
    components: Sequence[str] = (),
    settings: Mapping[str, Mapping[str, str]] | None = None,
    poll_s: float = POLL_S,
    repo: str = "",
    *,
    ca: str = "",
    again: bool = False,
    ledger_key: str = "",
) -> Identity:
    """Make a directory an enrolled agent's home. Safe to repeat until it has worked once.

    The key is on disk before the server hears of it, so that a lost answer is asked for again under the same key,
    which gets the same device.

    Args:
        home: the agent's home; made if missing.
        server: the address that takes announcements and reports.
        token: of `tidegate enrol`; it pins the root.
        labels, facts: what the device says of itself.
        components: what it takes updates for; none stands for every component that has a plan.
        settings: component -> its driver's settings.
        poll_s: how often it reads the plan, in seconds.
        repo: the address of the signed files, `<server>/repo/` if empty.
        ca: a file with the certificates that the server's must come from; empty for those of the system.
        again: the home is enrolled already, and is to be so anew: same key, same device, and its settings are kept
            but for the server's address.
        ledger_key: pinned from now on: no release is taken without a proof that this ledger holds it.

    Raises:
        BadInput: a token, address or answer that cannot be read.
        Refused: the home is enrolled already, or the server says no.
        Untrusted: the server's root is not the one that the token pins, or the token is not taken.
        Unreachable: no answer; nothing is lost by trying again.
    """
    place = Home(home)
    pinned = parse_token(token)
    try:
        if ledger_key:
            parse_key(ledger_key)
        chosen = Settings(
            server,
            repo,
            float(poll_s),
            tuple(components),
            {c: dict(s) for c, s in (settings or {}).items()},
            ca,
            ledger_key=ledger_key.strip(),
        )
    except ValueError as error:
        raise BadInput(str(error)) from error
    link = Link(server, ca=ca)
    place.make()
    key = _key(place, again)
    if again and place.settings_file.exists():
        chosen = replace(place.load_settings(), server=server, repo=repo, ca=ca)
    own = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key))
    public_key = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    message = {
        "token": token.strip(),
        "public_key": public_key,
        "proof": own.sign(possession_message(token, public_key)).hex(),
        "labels": dict(labels or {}),
        "facts": dict(facts or {}),
    }
    try:
        answer = link.post("/v1/enrol", json.dumps(message).encode(), {})
    except HttpRefused as error:
        raise (Untrusted if error.status in (401, 403) else Refused)(f"not enrolled: {error}") from error
    finally:
        link.close()
    identity, root = _read_answer(answer, key, pinned)
    _condemn(place, answer, time.time())
    write_durably(place.root_file, root)
    place.save_settings(chosen)
    place.save_identity(identity)
    return identity


def check_server(server: str, without_tls: bool) -> None:
    """Refuse to show a token to a whole network. Raises BadInput."""
    host = urlsplit(server).hostname or ""
    here = host in ("localhost", "::1") or host.startswith("127.")
    if server.startswith("http://") and not here and not without_tls:
        raise BadInput(f"{server}: beyond this machine a device speaks https:// (or say --without-tls, for a trial)")


def _condemn(place: Home, answer: dict[str, Any], now_s: float) -> None:
    """Take over what this device condemned before it lost its files: it tries nothing twice that it took back once."""
    for entry in answer.get("condemned") or ():
        try:
            component, digest = str(entry["component"]), str(entry["digest"])
            check_digest("condemned", digest)
            note = "condemned before this device was enrolled again"
            # A pardon lifts only what was condemned before it was issued: no server may say that of the time to come.
            at_s = min(max(int(entry["at_s"]), 0), int(now_s))
            Slots(place.component(component)).marks.make(digest, note, at_s)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise BadInput("the server's list of condemned releases cannot be read; nothing is enrolled") from error


def _key(place: Home, again: bool) -> str:
    """Give the device's key, and make it durable first if there is none yet."""
    try:
        identity = decode(Identity, place.identity_file.read_bytes(), str(place.identity_file))
    except FileNotFoundError:
        identity = Identity(Ed25519PrivateKey.generate().private_bytes_raw().hex())
        place.save_identity(identity)
    if identity.enrolled and not again:
        name = f"{place.path} is enrolled already, as device {identity.device_id}"
        raise Refused(f"{name}; use another home, or --again to enrol this device anew")
    return identity.key


def _read_answer(answer: dict[str, Any], key: str, pinned: Token) -> tuple[Identity, bytes]:
    device_id, index, credential = answer.get("device_id"), answer.get("index"), answer.get("credential")
    root = answer.get("root")
    if not isinstance(device_id, str) or not isinstance(index, int) or not isinstance(credential, str):
        raise BadInput("the server's answer lacks device_id, index or credential; nothing is enrolled")
    try:
        device_key(device_id)
    except ValueError as error:
        raise BadInput(f"the server's answer: {error}") from error
    if credential_device(credential) != (index, device_id):
        raise BadInput("the server's credential is another device's; nothing is enrolled")
    data = root.encode() if isinstance(root, str) else b""
    if hashlib.sha256(data).hexdigest() != pinned.root_digest:
        raise Untrusted("the server's root is not the one that the token pins; get a new token from whoever gave it")
    return Identity(key, device_id, index, credential), data
