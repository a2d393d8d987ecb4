"""The device's credential in use, and a newer one got under the device's own key when the server's secret changes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tidegate.agent.clock import Clock
from tidegate.agent.config import Home, Identity
from tidegate.agent.say import Log
from tidegate.agent.sequence import Sequence
from tidegate.agent.transport import Link
from tidegate.core.errors import BadInput, TidegateError
from tidegate.trust.credentials import authorization, credential_device
from tidegate.trust.epochs import renewal_message

AGAIN_S = 60.0
"""After an attempt that failed the device goes on with what it has for so long."""


class Credential:
    """Signs requests. A newer credential is on disk before it is used; the old one is forgotten with that."""

    def __init__(self, home: Home, identity: Identity, sequence: Sequence, clock: Clock, say: Log) -> None:
        self._home, self._identity, self._sequence = home, identity, sequence
        self._clock, self._say = clock, say
        self._not_before_s = 0.0

    def authorize(self, path: str, body: bytes) -> str:
        """Give the Authorization header, under a fresh number."""
        return authorization(self._identity.credential, self._sequence.take(), path, body)

    def renew(self, link: Link) -> bool:
        """Ask for a credential of the newest epoch; False if there is none to be had now, which is said."""
        now_s = self._clock.boot_s()
        if now_s < self._not_before_s:
            return False
        self._not_before_s = now_s + AGAIN_S
        issued = int(self._clock.wall())
        own = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self._identity.key))
        proof = own.sign(renewal_message(self._identity.device_id, issued)).hex()
        message = {"device_id": self._identity.device_id, "issued": issued, "proof": proof}
        try:
            fresh = self._read(link.post("/v1/renew", json.dumps(message).encode(), {}))
            self._home.save_identity(fresh)
        except (TidegateError, OSError) as error:
            self._say("not_renewed", sentence=f"no newer credential yet: {error}")
            return False
        self._identity = fresh
        self._not_before_s = 0.0
        self._say("renewed", sentence="this device has a credential of the server's newest secret")
        return True

    def _read(self, answer: dict[str, Any]) -> Identity:
        credential = answer.get("credential")
        mine = (self._identity.index, self._identity.device_id)
        if not isinstance(credential, str) or credential_device(credential) != mine:
            raise BadInput("the server's answer holds no credential of this device; the old one is kept")
        return replace(self._identity, credential=credential)
