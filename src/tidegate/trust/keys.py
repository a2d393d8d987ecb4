"""Ed25519 signing keys as PKCS8 PEM files, 0600 in a 0700 directory, encrypted where a passphrase is given."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from tidegate.core.errors import BadInput, Refused, Untrusted
from tidegate.trust.durable import make_directory, read_bytes, write_durably

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
    path = key_path(directory, name)
    if passphrase == b"":
        raise BadInput("the passphrase is empty; give one, or none at all for an unencrypted key")
    if path.exists():
        raise Refused(f"the key {path} exists already and is never overwritten; choose another name or directory")
    make_directory(directory, 0o700)
    directory.chmod(0o700)
    private = Ed25519PrivateKey.generate()
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
    return CryptoSigner(private)


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
