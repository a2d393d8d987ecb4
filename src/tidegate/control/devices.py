"""What a device asks for, decided: enrolment, announcement, report. Each gives the events to append and the answer."""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

import msgspec

from tidegate.control.state import ServerState
from tidegate.core.admission import NO_PLAN_RETRY_S, Grant, NotYet, admit
from tidegate.core.errors import BadInput, NotFound, Refused, Untrusted
from tidegate.core.model import Outcome, check_digest
from tidegate.core.reading import window
from tidegate.core.rollout import Rollout
from tidegate.log.events import Enrolled, Event, Leased, Reported

_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_LEASE = re.compile(r"([^:]*):([0-9]{1,12}):([0-9]{1,12})\Z")


class Claim(msgspec.Struct, frozen=True):
    """Who a request says it is from; its MAC has been verified."""

    index: int
    device_id: str
    seq: int


class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device that holds the verified candidate and asks to act."""

    rollout: str
    plan_version: int
    installed: str | None
    seq: int
    attempt: int
    boot_id: str = ""


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one lease ended, as the device tells it."""

    lease_id: str
    kind: str
    seq: int
    boot_s: int = 0
    probes: tuple[dict[str, str | bool | int | float | None], ...] = ()
    note: str = ""
    condemned: bool = False
    signature: str = ""


class Replayed(Refused):
    """The request is older than one that was answered; `last_seq` is that one's number: HTTP 412."""

    def __init__(self, seq: int, last_seq: int) -> None:
        super().__init__(f"request {seq} is older than {last_seq}, which was answered")
        self.last_seq = last_seq


class Halted(Refused):
    """The rollout is over for this device: HTTP 409."""


def lease_id(rollout: str, ring: int, position: int) -> str:
    """Name a lease; the name says where it stands, so that nothing has to be looked up."""
    return f"{rollout}:{ring}:{position}"


def enrol(
    state: ServerState,
    now_ms: int,
    *,
    token_id: str,
    token_hash: str,
    public_key: str,
    labels: dict[str, str],
    facts: dict[str, str],
    fresh_id: str,
) -> tuple[list[Event], tuple[int, str]]:
    """Give a device its identity; the same public key with a valid token gets the same one again.

    Returns:
        Events, and (index, device_id).

    Raises:
        Untrusted: for an unknown, expired or used-up token.
        Refused: for labels that the token does not grant.
    """
    token = state.tokens.get(token_id)
    if token is None or not hmac.compare_digest(token.token_hash, token_hash):
        raise Untrusted("this enrolment token is not known here; ask for a new one: tidegate token create")
    if now_ms >= token.expires_ms:
        raise Untrusted("this enrolment token has expired; ask for a new one: tidegate token create")
    for name, value in labels.items():
        if token.labels.get(name) != value:
            raise Refused(f"this token does not grant the label {name}={value}")
    known = state.devices.by_public_key(public_key) if public_key else None
    if known is not None:
        state.identities.check(known)
        return [], (known, state.devices.device_id(known))
    if token.used >= token.uses:
        raise Untrusted(f"this enrolment token has been used {token.uses} times already; ask for a new one")
    index = len(state.devices)
    event = Enrolled(
        at_ms=now_ms,
        index=index,
        device_id=fresh_id,
        public_key=public_key,
        token_id=token_id,
        labels=dict(token.labels),
        facts=facts,
    )
    return [event], (index, fresh_id)


def check_claim(state: ServerState, claim: Claim) -> None:
    """Refuse a credential for a device that was never enrolled here, and a request that is older than the last one.

    Raises:
        Untrusted: for an unknown device.
        Barred: for one that was revoked, or whose credential was seen in two places.
        Replayed: for a request that is older than the newest one.
    """
    fleet = state.devices
    if not fleet.is_device(claim.index, claim.device_id):
        raise Untrusted("this device is not enrolled here; enrol it: tidegate enrol")
    state.identities.check(claim.index)
    last_seq: int = fleet.last_seq.item(claim.index)
    if claim.seq < last_seq:
        raise Replayed(claim.seq, last_seq)


def announce(
    state: ServerState, now_ms: int, claim: Claim, said: Announcement
) -> tuple[list[Event], tuple[Rollout, int, Grant] | NotYet]:
    """Decide on an announcement: a lease, or when to ask again. The same announcement gets the same lease.

    Raises:
        Untrusted, Refused: as `check_claim`.
        NotFound: for a rollout that is not known.
        Halted: when this rollout has nothing for the device, now or later.
    """
    check_claim(state, claim)
    rollout = state.rollouts.get(said.rollout)
    if rollout is None:
        raise NotFound(f"there is no rollout {said.rollout!r}; read the plan again")
    position = rollout.position.get(claim.index)
    if position is None:
        raise Halted("this device is not in the rollout's roster: it was enrolled later, or is out of scope")
    published = state.published.get(rollout.spec.component)
    if published is None or now_ms >= published.plan["expires"] * 1000:
        return [], NotYet("paused", NO_PLAN_RETRY_S, "no fresh plan stands in the repository")
    if said.plan_version > published.version:
        raise BadInput(f"plan version {said.plan_version} has not been published; the newest is {published.version}")
    if said.installed is not None:
        _check_digest(said.installed)
    labels = state.devices.labels_of(claim.index)
    decision = admit(rollout, position, labels, state.in_flight, window(rollout), now_ms)
    if isinstance(decision, NotYet):
        return [], decision
    if not isinstance(decision, Grant):
        raise Halted(decision.sentence)
    if decision.repeated:
        return [], (rollout, position, decision)
    event = Leased(
        at_ms=now_ms,
        rollout=said.rollout,
        position=position,
        index=claim.index,
        ring=decision.ring,
        arm=decision.arm,
        late=decision.late,
        installed=said.installed,
        plan_version=said.plan_version,
        attempt=said.attempt,
        seq=claim.seq,
        labels=labels,
    )
    return [event], (rollout, position, decision)


def _check_digest(installed: str) -> None:
    try:
        check_digest("installed", installed)
    except ValueError as error:
        raise BadInput(str(error)) from error


def report(state: ServerState, now_ms: int, claim: Claim, said: tuple[Report, ...]) -> tuple[list[Event], None]:
    """Take reports in, all or none. One that has been taken before adds nothing and is no error.

    Raises:
        Untrusted, Refused: as `check_claim`.
        BadInput: for a lease that is not this device's, or an unknown kind; nothing is taken then.
    """
    check_claim(state, claim)
    events: list[Event] = []
    taken: set[str] = set()
    for entry in said:
        rollout, ring, position = _find_lease(state, claim.index, entry.lease_id)
        outcome = _OUTCOMES.get(entry.kind)
        if outcome is None:
            raise BadInput(f"a report's kind is confirmed or reverted, not {entry.kind!r}")
        if not rollout.evidence.is_open(position, ring) or entry.lease_id in taken:
            continue
        taken.add(entry.lease_id)
        events.append(
            Reported(
                at_ms=now_ms,
                rollout=rollout.spec.rollout,
                position=position,
                index=claim.index,
                ring=ring,
                outcome=outcome,
                seq=claim.seq,
                boot_s=entry.boot_s,
                probes=list(entry.probes),
                note=entry.note,
                condemned=entry.condemned and outcome is Outcome.REVERTED,
                report_seq=entry.seq if entry.signature else 0,
                signature=entry.signature,
            )
        )
    return events, None


def report_all(
    state: ServerState, now_ms: int, told: Sequence[tuple[Claim, tuple[Report, ...]]]
) -> tuple[list[Event], list[Exception | None]]:
    """Take in what several devices report, no two messages of one device; each as `report` does if it came alone.

    Returns:
        Events, and for each message why it was refused.
    """
    events: list[Event] = []
    refused: list[Exception | None] = []
    for claim, said in told:
        try:
            made, why = report(state, now_ms, claim, said)
            events += made
        except Exception as error:  # whatever is wrong with one message is nothing to the others
            why = error
        refused.append(why)
    return events, refused


def _find_lease(state: ServerState, index: int, name: str) -> tuple[Rollout, int, int]:
    found = _LEASE.match(name)
    rollout = state.rollouts.get(found[1]) if found else None
    if found is None or rollout is None:
        raise BadInput(f"there is no lease {name!r}")
    ring, position = int(found[2]), int(found[3])
    if rollout.position.get(index) != position or ring > rollout.evidence.ring_at_lease.item(position):
        raise BadInput(f"lease {name!r} was not given to this device")
    return rollout, ring, position
