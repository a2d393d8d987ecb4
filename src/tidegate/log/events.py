"""The closed set of events that all server state is folded from; each has a version and replays for ever."""

from __future__ import annotations

from typing import Any

import msgspec

from tidegate.core.caps import Cap
from tidegate.core.errors import BadInput
from tidegate.core.evidence import LeaseState
from tidegate.core.model import Arm, Outcome
from tidegate.core.rollout import ClosedRing, RolloutSpec
from tidegate.core.roster import LISTED, Roster
from tidegate.core.verdict import Verdict

__all__ = [
    "Act",
    "Arm",
    "Cap",
    "ClosedRing",
    "Enrolled",
    "Event",
    "Labelled",
    "LeaseState",
    "Leased",
    "Outcome",
    "PlanPublished",
    "Reported",
    "RingClosed",
    "RolloutSpec",
    "VerdictTaken",
    "decode",
    "encode",
]


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True):
    at_ms: int
    v: int = 1


class Enrolled(_Event, frozen=True, kw_only=True, tag="enrolled"):
    """A device was given its identity. `public_key` makes a repeated enrolment give the same one."""

    index: int
    device_id: str
    public_key: str
    token_id: str
    labels: dict[str, str]
    facts: dict[str, str]


class Labelled(_Event, frozen=True, kw_only=True, tag="labelled"):
    """A device's labels were set by a named person or system; the whole new set."""

    index: int
    labels: dict[str, str]
    who: str
    why: str


class Leased(_Event, frozen=True, kw_only=True, tag="leased"):
    """An announcement and its lease, one fact: the device may act now."""

    rollout: str
    position: int
    index: int
    ring: int
    arm: Arm
    late: bool
    installed: str | None
    plan_version: int
    attempt: int
    seq: int
    labels: dict[str, str]


class Reported(_Event, frozen=True, kw_only=True, tag="reported"):
    """How a lease ended, in the device's words; with its own number and signature where it signed them."""

    rollout: str
    position: int
    index: int
    ring: int
    outcome: Outcome
    seq: int
    boot_s: int
    probes: list[dict[str, Any]]
    note: str
    condemned: bool = False
    report_seq: int = 0
    signature: str = ""


class RingClosed(_Event, frozen=True, kw_only=True, tag="ring_closed"):
    """A ring's evidence was frozen; its arm salt is secret no longer. Version 2 has who is late in a short form.

    Few are listed as in version 1, so that a log without such a ring can be read by whoever reads version 1.
    """

    rollout: str
    closed: ClosedRing
    arm_salt: str


class VerdictTaken(_Event, frozen=True, kw_only=True, tag="verdict"):
    """Advance, hold or halt, with the evidence it was taken on."""

    rollout: str
    verdict: Verdict


class PlanPublished(_Event, frozen=True, kw_only=True, tag="plan_published"):
    """A plan is about to stand in the repository under this TUF version."""

    component: str
    rollout: str
    version: int
    plan: dict[str, Any]


class Act(_Event, frozen=True, kw_only=True, tag="act"):
    """Something a named person or system did: who, what, why. From version 2 on its ledger entry names the object."""

    v: int = 2

    what: str
    who: str
    why: str
    body: dict[str, Any]


Event = Enrolled | Labelled | Leased | Reported | RingClosed | VerdictTaken | PlanPublished | Act

NEWEST = 1
"""Of every kind but acts and closed rings."""
NEWEST_ACT = NEWEST_RING = 2


def ring_closed(at_ms: int, rollout: str, closed: ClosedRing, arm_salt: str) -> RingClosed:
    """Make the event, in the version that can hold it."""
    version = 1 if len(closed.late) <= LISTED else NEWEST_RING
    return RingClosed(at_ms=at_ms, v=version, rollout=rollout, closed=closed, arm_salt=arm_salt)


def _plain(value: Any) -> Any:
    if isinstance(value, Roster):
        return value.plain()
    raise TypeError(f"an event cannot hold a {type(value).__name__}")


def _read(kind: type, value: Any) -> Any:
    if kind is not Roster:
        raise TypeError(f"an event cannot hold a {kind.__name__}")
    try:
        return Roster.from_plain(value, "who is late")
    except BadInput as error:
        raise ValueError(str(error)) from error


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event, dec_hook=_read)


def encode(event: Event) -> bytes:
    """Give the JSON text of an event."""
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """Read an event.

    Raises:
        msgspec.DecodeError: if it is none of the closed set, or of a later version than this Tidegate knows.
    """
    event = _decoder.decode(data)
    newest = {Act: NEWEST_ACT, RingClosed: NEWEST_RING}.get(type(event), NEWEST)
    if event.v > newest:
        raise msgspec.ValidationError(f"its version is {event.v}, and {newest} is the newest that is known here")
    return event
