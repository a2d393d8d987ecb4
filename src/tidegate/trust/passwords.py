"""Operators' passwords: argon2id hashes in a file that its owner alone can read, and checks that take the same time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from tidegate.core.errors import BadInput
from tidegate.core.wire import canonical
from tidegate.trust.durable import write_durably

LEAST = 12
MOST = 1024


class Passwords:
    """The hashes by account. What is not there is checked against all the same, so that names cannot be tried out."""

    def __init__(self, path: Path, hasher: PasswordHasher | None = None) -> None:
        """Name the file; it may be missing. `hasher`: with other costs than the library's. Raises BadInput."""
        self._path = path
        self._hasher = hasher or PasswordHasher()
        self._nobody = ""
        self._hashes = self._load()

    def set(self, name: str, password: str) -> None:
        """Keep a password durably, as its hash. Raises BadInput for one that is too short or too long."""
        if not LEAST <= len(password) <= MOST:
            raise BadInput(f"a password has {LEAST} to {MOST} characters; several words that are yours alone are best")
        if password.lower() in (name.lower() * (LEAST // max(1, len(name)) + 1), "password" * 2) or name in password:
            raise BadInput("the password must not hold the account's name")
        self._hashes = {**self._load(), name: self._hasher.hash(password)}
        write_durably(self._path, canonical(self._hashes), 0o600)

    def check(self, name: str, password: str) -> bool:
        """Say whether it is the account's password; takes as long for a name that is not there."""
        known = self._hashes.get(name)
        if known is None:
            self._nobody = self._nobody or self._hasher.hash("nobody's")
        try:
            return self._hasher.verify(known or self._nobody, password[:MOST]) and known is not None
        except (Argon2Error, InvalidHashError):
            return False

    def _load(self) -> dict[str, str]:
        try:
            found = json.loads(self._path.read_bytes())
            return {str(name): str(value) for name, value in cast("dict[str, str]", found).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise BadInput(f"{self._path} does not hold operators' passwords; restore it: {error}") from error
