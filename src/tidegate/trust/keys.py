"""Ed25519 signing keys as PKCS8 PEM files, 0600 in a 0700 directory, encrypted where a passphrase is given."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from tidegate.core.errors import BadInput, Refused, Untrusted
from tidegate.core.wire import canonical
from tidegate.trust.durable import make_directory, read_bytes, sync_dir, write_durably
from tidegate.trust.votes import check_public

LEDGER = "ledger"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")


def key_path(directory: Path, name: str) -> Path:
    """Say where a key of this name lies. Raises BadInput for a name that could leave the directory."""
    if not _NAME.match(name):
        raise BadInput(f"a key's name must be 1 to 63 of a-z 0-9 . _ - , not {name!r}")
    return directory / f"{name}.pem"


def create_key(directory: Path, name: str, passphrase: bytes | None = None) -> SSlibKey:
    """Make a fresh key, write it durably and give its public half.

    Raises:
        BadInput: if the name is unfit or the passphrase empty.
        Refused: if there is a key of this name already; it is never overwritten.
    """
    return _keep(directory, name, Ed25519PrivateKey.generate(), passphrase)


def import_key(
    source: Path, directory: Path, name: str, old_passphrase: bytes | None, passphrase: bytes | None
) -> SSlibKey:
    """Take in an Ed25519 key that was made elsewhere, under a passphrase of its own; the source is left as it is.

    Raises:
        As `load_signer` and `create_key`.
    """
    private = _open(source, old_passphrase)
    return _keep(directory, name, private, passphrase)


def public_file(name: str, key: Key) -> bytes:
    """Give a key's public half as a file that can be carried to whoever draws up a change."""
    return canonical({**key.to_dict(), "keyid": key.keyid, "name": name})


def read_public(data: bytes) -> tuple[str, SSlibKey]:
    """Read (name, key) from a public file. Raises BadInput if it is none, or its key id is not the key's."""
    try:
        value = json.loads(data)
        key = SSlibKey.from_crypto(Ed25519PublicKey.from_public_bytes(bytes.fromhex(value["keyval"]["public"])))
        name, keyid = str(value["name"]), value["keyid"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadInput("this is no public key file; `tidegate keys create` writes one beside each key") from None
    if keyid != key.keyid or not _NAME.match(name):
        raise BadInput("the public key file does not hold together: its key id is not that of its key")
    check_public(bytes.fromhex(key.keyval["public"]), f"{name}'s")
    return name, key


def online_signer(directory: Path, role: str, allowed: Collection[str]) -> CryptoSigner:
    """Open the online key that the repository names for a role: the one in use, or the one made to follow it.

    Once the repository names the next key it takes the place of the old one, which is gone then.

    Raises:
        NotFound: if there is no key.
        Untrusted: if none is the one that the repository names.
    """
    standing, following = key_path(directory, role), key_path(directory, f"{role}.next")
    if standing.exists() or not following.exists():  # a key that was lost is no reason not to take the next
        signer = load_signer(standing)
        if signer.public_key.keyid in allowed:
            return signer
    if following.exists():
        signer = load_signer(following)
        if signer.public_key.keyid in allowed:
            os.replace(following, key_path(directory, role))
            sync_dir(directory)
            return signer
    raise Untrusted(f"the online key {role} is not the one that the repository names; restore or rotate it")


def online_ids(directory: Path) -> set[str]:
    """Give the ids of all online keys that lie here, those that are to follow included."""
    names = [name for role in ("plans", "snapshot", "timestamp") for name in (role, f"{role}.next")]
    return {load_signer(path).public_key.keyid for name in names if (path := key_path(directory, name)).exists()}


def ledger_publics(directory: Path) -> set[bytes]:
    """Give the public halves of the ledger keys that lie here, the one that is to follow included."""
    paths = [key_path(directory, name) for name in (LEDGER, f"{LEDGER}.next")]
    return {bytes.fromhex(load_signer(path).public_key.keyval["public"]) for path in paths if path.exists()}


def _keep(directory: Path, name: str, private: Ed25519PrivateKey, passphrase: bytes | None) -> SSlibKey:
    path = key_path(directory, name)
    if passphrase == b"":
        raise BadInput("the passphrase is empty; give one, or none at all for an unencrypted key")
    if path.exists():
        raise Refused(f"the key {path} exists already and is never overwritten; choose another name or directory")
    make_directory(directory, 0o700)
    directory.chmod(0o700)
    cipher = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    write_durably(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, cipher), 0o600)
    return SSlibKey.from_crypto(private.public_key())


def load_signer(path: Path, passphrase: bytes | None = None) -> CryptoSigner:
    """Open a key for signing.

    Raises:
        NotFound: if there is no such file.
        Untrusted: if others than its owner may read it.
        BadInput: if it is no Ed25519 key, or the passphrase is missing or wrong.
    """
    return CryptoSigner(_open(path, passphrase))


def _open(path: Path, passphrase: bytes | None) -> Ed25519PrivateKey:
    pem = read_bytes(path, "the signing key")
    if sys.platform != "win32" and os.stat(path).st_mode & 0o077:
        raise Untrusted(f"the key {path} may be read by others; run chmod 600 on it, and replace it if others did")
    try:
        private = load_pem_private_key(pem, passphrase)
    except TypeError:
        need = "is encrypted: give its passphrase" if passphrase is None else "is not encrypted: give no passphrase"
        raise BadInput(f"the key {path} {need}") from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "the passphrase is wrong, or it is" if passphrase else "it is"
        raise BadInput(f"the key {path} cannot be opened: {hint} no PKCS8 PEM file") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise BadInput(f"the key {path} is not an Ed25519 key; make one with `tidegate keys create`")
    return private


def load_signers(directory: Path, prefix: str, passphrase: bytes | None = None) -> list[CryptoSigner]:
    """Open all keys named `<prefix>-<number>.pem` in a directory, by number.

    Raises:
        BadInput: if there is none; and as `load_signer`.
    """
    numbered = {
        int(found[1]): path
        for path in directory.glob(f"{prefix}-*.pem")
        if (found := re.fullmatch(re.escape(prefix) + r"-(\d+)\.pem", path.name))
    }
    if not numbered:
        raise BadInput(f"no keys {prefix}-1.pem, {prefix}-2.pem, ... in {directory}")
    return [load_signer(numbered[number], passphrase) for number in sorted(numbered)]
