"""What a device proves with a key of its own: reports that stay its word, and its claim to a new credential."""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tidegate.control.devices import Claim, Report, lease_id
from tidegate.control.state import ServerState
from tidegate.core.errors import Refused, Untrusted
from tidegate.log.events import Reported
from tidegate.trust.epochs import RENEW_WITHIN_S, renewal_message
from tidegate.trust.signed_report import verify_report


class Unsigned(Refused):
    """This fleet's policy wants reports signed by the device's own key: HTTP 428."""


def check_signatures(state: ServerState, claim: Claim, said: tuple[Report, ...]) -> None:
    """Hold each report that is signed against the device's own key.

    Raises:
        Unsigned: if one is not, and the fleet's policy demands it.
        Untrusted: if a signature is not this device's.
    """
    for entry in said:
        if entry.signature:
            known = claim.index < len(state.devices)
            public_key = state.devices.public_key(claim.index) if known else ""
            verify_report(public_key, claim.device_id, msgspec.structs.asdict(entry), entry.signature)
        elif state.identities.policy.signed_reports:
            raise Unsigned("this fleet takes only reports that are signed by the device's own key")


def signed_report_of(event: Reported) -> dict[str, object]:
    """Give the report as the device signed it, from the log alone: for `verify_report`, years later."""
    return {
        "lease_id": lease_id(event.rollout, event.ring, event.position),
        "kind": event.outcome.value,
        "seq": event.report_seq,
        "boot_s": event.boot_s,
        "probes": event.probes,
        "note": event.note,
        "condemned": event.condemned,
    }


def renew(state: ServerState, now_ms: int, device_id: str, issued: int, proof: str) -> int:
    """Check that a device asks for a new credential under its own key; give its index.

    Raises:
        Untrusted: for an unknown device, one without a key, a clock that is far off, or a proof that does not hold.
        Barred: as `check_claim`.
    """
    index = state.devices.by_id(device_id)
    public_key = state.devices.public_key(index) if index is not None else ""
    if index is None or not public_key:
        raise Untrusted("no device with a key of its own is enrolled here under this id; enrol it: tidegate enrol")
    state.identities.check(index)
    if abs(now_ms // 1000 - issued) > RENEW_WITHIN_S:
        raise Untrusted(f"the request was made at {issued}, and it is {now_ms // 1000} here: set the device's clock")
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(proof), renewal_message(device_id, issued))
    except (InvalidSignature, ValueError):
        raise Untrusted("the proof was not made with the key that this device enrolled with") from None
    return index
