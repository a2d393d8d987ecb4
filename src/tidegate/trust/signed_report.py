"""A report signed by the device's own key: it stays the device's word, also where the server's secret was stolen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.wire import canonical

SIGNED: dict[str, Any] = {"boot_s": 0, "probes": [], "note": "", "condemned": False}
"""Fields that a signature covers besides lease_id, kind and seq, and what stands for those that were left out."""
_SIGNATURE = re.compile(r"[0-9a-f]{128}\Z")


def report_message(device_id: str, report: Mapping[str, Any]) -> bytes:
    """Give the bytes that a device signs for one report."""
    said = {name: report[name] for name in ("lease_id", "kind", "seq")}
    more = {name: report.get(name, default) for name, default in SIGNED.items()}
    return canonical(["tidegate/signed-report/v1", device_id, {**said, **more}])


def sign_report(key: str, device_id: str, report: Mapping[str, Any]) -> str:
    """Sign a report with a device's Ed25519 seed (hexadecimal); gives 128 hexadecimal digits."""
    own = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key))
    return own.sign(report_message(device_id, report)).hex()


def verify_report(public_key: str, device_id: str, report: Mapping[str, Any], signature: str) -> None:
    """Hold a report against the key that its device enrolled with.

    Raises:
        BadInput: if the signature has not its form.
        Untrusted: if the device has no key, or did not sign this.
    """
    if not _SIGNATURE.match(signature):
        raise BadInput("a report's signature has 128 hexadecimal digits: Ed25519, by the device's key")
    if not public_key:
        raise Untrusted("this device was enrolled without a key of its own, so it cannot sign; enrol it again")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(
            bytes.fromhex(signature), report_message(device_id, report)
        )
    except (InvalidSignature, ValueError):
        raise Untrusted("the report was not signed with the key that this device enrolled with") from None
