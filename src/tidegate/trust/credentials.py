"""Device credentials: derived from a server secret, so that the server looks nothing up to know who speaks."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tidegate.core.errors import BadInput, Refused, Untrusted
from tidegate.core.wire import canonical
from tidegate.trust.durable import make_directory, read_json, write_durably

SECRET_BYTES = 32
_CREDENTIAL = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,9})\.([0-9a-f]{32})\.([0-9a-f]{64})\Z")
_HEADER = re.compile(
    r"Tidegate (0|[1-9]\d{0,8})\.(0|[1-9]\d{0,9})\.([0-9a-f]{32})\.(0|[1-9]\d{0,17})\.([0-9a-f]{64})\Z"
)


@dataclass(frozen=True, slots=True)
class DeviceClaim:
    """Who sent a request, proven. `seq` rises with each new message of this device; a repeat keeps it."""

    epoch: int
    index: int
    device_id: str
    seq: int


class EpochRetired(Untrusted):
    """The credential is of an epoch whose secret is gone; the device's own key gets it a new one."""


class DeviceSecrets:
    """The server's secrets by epoch; more than one while devices change from one to the next.

    Args:
        master_by_epoch: epoch -> 32 secret bytes.

    Raises:
        BadInput: if there is none, or one has not 32 bytes.
    """

    def __init__(self, master_by_epoch: Mapping[int, bytes]) -> None:
        if not master_by_epoch or any(len(master) != SECRET_BYTES for master in master_by_epoch.values()):
            raise BadInput(f"device secrets need at least one epoch, with {SECRET_BYTES} bytes each")
        self._masters = {epoch: hmac.new(master, _KEY_PREFIX, "sha256") for epoch, master in master_by_epoch.items()}
        self._newest = max(self._masters)

    def __repr__(self) -> str:
        return f"DeviceSecrets(epochs={sorted(self._masters)})"

    @property
    def newest_epoch(self) -> int:
        """The epoch in which new credentials are given."""
        return self._newest

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs whose credentials are accepted."""
        return tuple(sorted(self._masters))

    def credential(self, epoch: int, index: int, device_id: str) -> str:
        """Give a device's credential `<epoch>.<index>.<device_id>.<key>`; the key is bound to all three.

        Raises:
            BadInput: if the epoch is not known or the fields are not what they should be.
        """
        if epoch not in self._masters:
            raise BadInput(f"there is no device secret of epoch {epoch}")
        key = _key(self._masters[epoch], _who(str(epoch), str(index), device_id))
        text = f"{epoch}.{index}.{device_id}.{key.hex()}"
        _split(text)
        return text

    def verify(self, header: str, path: str, body: bytes) -> DeviceClaim:
        """Check the `Authorization` header of a request against its path and body.

        Replays are for the caller to see: a device's `seq` never falls.

        Raises:
            Untrusted: if it is malformed, of an unknown epoch, or the MAC does not hold.
        """
        found = _HEADER.match(header)
        if not found:
            raise Untrusted("the Authorization header is not 'Tidegate <epoch>.<index>.<device_id>.<seq>.<mac>'")
        epoch_text, index_text, device_id, seq_text, mac = found.groups()
        epoch, who = int(epoch_text), _who(epoch_text, index_text, device_id)
        master = self._masters.get(epoch)
        if master is None:
            what = f"credentials of epoch {epoch} are no longer accepted"
            raise EpochRetired(f"{what}; get a new one, or enrol the device again")
        if not hmac.compare_digest(_mac(_key(master, who), who, seq_text, path, body), mac):
            raise Untrusted("the request was not made with this device's credential")
        return DeviceClaim(epoch, int(index_text), device_id, int(seq_text))


def authorization(credential: str, seq: int, path: str, body: bytes) -> str:
    """Give the header with which a device signs a request.

    Args:
        credential: as given at enrolment.
        seq: of the newest message in it.
        path: of the URL, from `/v1`.
        body: as sent.

    Raises:
        BadInput: if the credential cannot be read (it is not repeated in the error) or seq is negative.
    """
    epoch, index, device_id, key = _split(credential)
    if seq < 0:
        raise BadInput("seq must not be negative")
    who = _who(str(epoch), str(index), device_id)
    return f"Tidegate {epoch}.{index}.{device_id}.{seq}.{_mac(key, who, str(seq), path, body)}"


def credential_device(credential: str) -> tuple[int, str]:
    """Give (index, device_id) of a credential. Raises BadInput."""
    _, index, device_id, _ = _split(credential)
    return index, device_id


def create_secrets(path: Path, random_bytes: bytes) -> DeviceSecrets:
    """Write a file with a first secret, epoch 1, readable by its owner alone.

    Raises:
        BadInput: if `random_bytes` are not 32.
        Refused: if the file is there: its loss would lock all devices out.
    """
    secrets = DeviceSecrets({1: random_bytes})
    if path.exists():
        raise Refused(f"{path} exists already and is never overwritten: every device's credential depends on it")
    make_directory(path.parent, 0o700)
    write_durably(path, canonical({"1": random_bytes.hex()}), 0o600)
    return secrets


def load_secrets(path: Path) -> DeviceSecrets:
    """Read a file of secrets, `{"<epoch>": "<64 hexadecimal digits>"}`. Raises NotFound, BadInput."""
    value = read_json(path, "the file of device secrets")
    try:
        masters = {int(epoch): bytes.fromhex(master) for epoch, master in cast("dict[str, Any]", value).items()}
    except (AttributeError, TypeError, ValueError):
        raise BadInput(f"{path} does not hold device secrets; restore it from its backup") from None
    return DeviceSecrets(masters)


def _split(credential: str) -> tuple[int, int, str, bytes]:
    found = _CREDENTIAL.match(credential)
    if not found:
        raise BadInput("this is no device credential; enrol the device again")
    return int(found[1]), int(found[2]), found[3], bytes.fromhex(found[4])


def _who(epoch: str, index: str, device_id: str) -> bytes:
    """Give the parts that say which device it is; they stand alike in the message of its key and of each MAC."""
    return _part(epoch.encode()) + _part(index.encode()) + _part(device_id.encode())


def _key(master: hmac.HMAC, who: bytes) -> bytes:
    begun = master.copy()  # half of the work is the master's own, and done once
    begun.update(who)
    return begun.digest()


def _mac(key: bytes, who: bytes, seq: str, path: str, body: bytes) -> str:
    message = b"".join((_MAC_PREFIX, _part(path.encode()), who, _part(seq.encode()), _part(body)))
    return hmac.digest(key, message, "sha256").hex()


def _part(part: bytes) -> bytes:
    """Put a part behind its length (4 bytes, big-endian), so that no two lists of parts give the same bytes."""
    return len(part).to_bytes(4, "big") + part


_KEY_PREFIX, _MAC_PREFIX = _part(b"tidegate/device-key/v1"), _part(b"tidegate/report/v1")
