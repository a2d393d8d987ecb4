"""One key, one vote: a key that stands under two ids counts once nowhere, and one that anybody can sign with never.

The TUF library counts key ids; that two of them are one key it does not see. And Ed25519 has points of small order as
public keys, for which signatures hold that nobody's private key has made.
"""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from tidegate.core.errors import BadInput, Untrusted

_P = (1 << 255) - 19
_SIGN = 1 << 255
_SMALL = {
    0,
    1,
    _P - 1,
    2707385501144840649318225287225658788936804267575313519463743609750303402022,
    55188659117513257062467267217118295137698188065244968500265048394206261417927,
}
"""The y of all points whose order divides 8."""


def is_weak(public: bytes) -> bool:
    """Say whether a raw Ed25519 public key is of small order, or is not written in the one form that it has."""
    y = int.from_bytes(public, "little") & ~_SIGN
    return len(public) != 32 or y >= _P or y in _SMALL


def check_public(public: bytes, what: str) -> None:
    """Refuse a public key under which anybody can sign. Raises BadInput."""
    if is_weak(public):
        raise BadInput(f"{what} is no Ed25519 public key that anybody can own: make a fresh one")


def check_votes(delegator: Root | Targets, role: str) -> None:
    """See that the keys of a role are as many keys as it has ids. Raises Untrusted."""
    holder = delegator if isinstance(delegator, Root) else delegator.delegations
    held = holder.keys if holder is not None else {}
    keys = [held[keyid] for keyid in delegator.get_delegated_role(role).keyids if keyid in held]
    if len({_public(key) for key in keys}) < len(keys):
        raise Untrusted(f"role {role} names one key under two ids, so that it would count twice; nothing is believed")
    for key in keys:
        if key.keytype == "ed25519" and _weak_text(_public(key)):
            raise Untrusted(f"role {role} names a key under which anybody can sign; nothing is believed")


def check_all_votes(delegator: Root | Targets) -> None:
    """Do so for every role that this metadata gives keys to. Raises Untrusted."""
    roles = delegator.roles if isinstance(delegator, Root) else (delegator.delegations and delegator.delegations.roles)
    for role in roles or ():
        check_votes(delegator, role)


def _public(key: Key) -> str:
    said = key.keyval.get("public", "")
    return said.lower() if key.keytype == "ed25519" else said.strip()


def _weak_text(public: str) -> bool:
    try:
        return is_weak(bytes.fromhex(public))
    except ValueError:
        return True
