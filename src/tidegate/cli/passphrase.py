"""Passphrases and keys at the command line: from a prompt, a file or a descriptor, and never from an argument."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from tidegate.core.errors import BadInput
from tidegate.trust.durable import read_bytes, read_secret
from tidegate.trust.keys import load_signer, load_signers

_ENCRYPTED = b"ENCRYPTED PRIVATE KEY"


def passphrase_of(file: Path | None, descriptor: int | None, ask: str, *, twice: bool = False) -> bytes:
    """Get a passphrase: the first line of a file or descriptor, else by asking at the terminal.

    Raises:
        BadInput: if there is none, it is empty, the two that were typed differ, or others can read the file.
    """
    if file is not None and descriptor is not None:
        raise BadInput("give --passphrase-file or --passphrase-fd, not both")
    if file is not None:
        found = read_secret(file, "the passphrase file")
    elif descriptor is not None:
        try:
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                found = stream.read(65_536)
        except OSError as error:
            raise BadInput(f"descriptor {descriptor} cannot be read: {error}") from error
    elif sys.stdin.isatty():
        found = getpass.getpass(f"{ask}: ").encode()
        if twice and found != getpass.getpass("The same again: ").encode():
            raise BadInput("the two passphrases differ; begin again")
    else:
        raise BadInput(f"{ask}: no terminal to ask at; give --passphrase-file or --passphrase-fd")
    line = found.split(b"\n", 1)[0].rstrip(b"\r")
    if not line:
        raise BadInput("the passphrase is empty")
    return line


def open_keys(paths: list[Path], file: Path | None, descriptor: int | None) -> list[CryptoSigner]:
    """Open signing keys; each encrypted one under the passphrase that is given, or asked for one by one."""
    given = passphrase_of(file, descriptor, "Passphrase") if file or descriptor is not None else None
    found: list[CryptoSigner] = []
    for path in paths:
        if _ENCRYPTED not in read_bytes(path, "the signing key"):
            found.append(load_signer(path))
        else:
            found.append(load_signer(path, given or passphrase_of(None, None, f"Passphrase of {path.name}")))
    return found


def open_release_keys(
    directory: Path, keys: list[Path] | None, file: Path | None, descriptor: int | None, prefix: str = "release"
) -> list[CryptoSigner]:
    """Open the named keys, or all `<prefix>-N.pem` of a directory."""
    if keys:
        return open_keys(keys, file, descriptor)
    numbered = sorted(directory.glob(f"{prefix}-*.pem"))
    if not numbered:
        return list(load_signers(directory, prefix))  # says what is missing
    return open_keys(numbered, file, descriptor)
