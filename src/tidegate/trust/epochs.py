"""The secret behind all device credentials, changed while devices go on: new epoch, overlap, the old one retired."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.core.wire import canonical
from tidegate.trust.credentials import SECRET_BYTES, DeviceClaim, DeviceSecrets, load_secrets
from tidegate.trust.durable import write_durably

LOOK_EVERY_S = 1.0
RENEW_WITHIN_S = 600
"""How far a device's clock may be off when it asks for a new credential: the trust in signed files allows no more."""


def add_epoch(path: Path, random_bytes: bytes) -> int:
    """Add a secret; credentials are given in its epoch from now on, and older ones go on counting.

    Returns:
        The new epoch.

    Raises:
        BadInput: if `random_bytes` are not 32, or the file cannot be read.
    """
    if len(random_bytes) != SECRET_BYTES:
        raise BadInput(f"a device secret has {SECRET_BYTES} bytes")
    epoch = load_secrets(path).newest_epoch + 1
    kept: dict[str, str] = json.loads(path.read_bytes())
    write_durably(path, canonical({**kept, str(epoch): random_bytes.hex()}), 0o600)
    return epoch


def retire_epoch(path: Path, epoch: int) -> None:
    """Take a secret away: its credentials count no more, and devices that still have one ask under their own key.

    Raises:
        NotFound: if there is no such epoch.
        Refused: if it is the newest.
    """
    secrets = load_secrets(path)
    if epoch not in secrets.epochs:
        raise NotFound(f"there is no device secret of epoch {epoch}; there are {', '.join(map(str, secrets.epochs))}")
    if epoch == secrets.newest_epoch:
        raise Refused(f"epoch {epoch} is the newest: first tidegate keys rotate devices, and give devices time")
    kept: dict[str, str] = json.loads(path.read_bytes())
    del kept[str(epoch)]
    write_durably(path, canonical(kept), 0o600)


class SecretsFile:
    """The device secrets as a file that may change under a running server; every process follows by itself."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._secrets, self._mark, self._look_at = load_secrets(path), self._stat(), clock() + LOOK_EVERY_S

    @property
    def newest_epoch(self) -> int:
        """The epoch in which new credentials are given."""
        return self._now().newest_epoch

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs whose credentials are accepted."""
        return self._now().epochs

    def credential(self, epoch: int, index: int, device_id: str) -> str:
        """As `DeviceSecrets.credential`."""
        return self._now().credential(epoch, index, device_id)

    def verify(self, header: str, path: str, body: bytes) -> DeviceClaim:
        """As `DeviceSecrets.verify`."""
        return self._now().verify(header, path, body)

    def look(self) -> None:
        """Read the file again now, if it has changed."""
        mark = self._stat()
        if mark != self._mark:
            self._secrets, self._mark = load_secrets(self._path), mark

    def _now(self) -> DeviceSecrets:
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            # What was read before still holds: a file that is being restored is no reason to stop.
            with contextlib.suppress(OSError, BadInput):
                self.look()
        return self._secrets

    def _stat(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size


def renewal_message(device_id: str, issued: int) -> bytes:
    """Give what a device signs with its own key to get a credential of the newest epoch.

    Its old credential proves nothing here: whoever stole the old secret could make that too.
    """
    return b"tidegate/renew/v1." + device_id.encode() + b"." + str(issued).encode()
