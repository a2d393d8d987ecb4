"""What one person asked for and another must approve: requests, who grants or refuses them, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate.control.acts import Who
from tidegate.control.asked import Asked
from tidegate.control.operators import LOCAL, Forbidden, reaches
from tidegate.control.still import about, outdated, shown
from tidegate.core.errors import NotFound, Refused, TidegateError
from tidegate.log.events import Act, Event

if TYPE_CHECKING:
    from tidegate.control.policy import Policy
    from tidegate.control.starting import StartRequest
    from tidegate.control.state import ServerState

Json = dict[str, Any]


class Waits(TidegateError):
    """The act waits for a second person, and is on record as asked for: HTTP 202."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"this waits for a second person, as request {number}: {reason}")
        self.number, self.reason = number, reason


def ask_second(
    state: ServerState, now_ms: int, by: Who, *, kind: str, body: Json, reason: str
) -> tuple[list[Event], Waits]:
    """Put a request on record, with what it is about; the same one asked again while it is open is the same request."""
    now = about(state, kind, body)
    for asked in state.approvals.asked.values():
        same = (asked.kind, asked.body, asked.account, asked.about) == (kind, body, by.account, now)
        if same and asked.standing(now_ms) == "open":
            return [], Waits(asked.number, reason)
    number = state.approvals.newest + 1
    expires_ms = now_ms + state.identities.policy.approval_expires_s * 1000
    said = {"number": number, "kind": kind, "body": body, "account": by.account, "reason": reason, "about": now}
    event = Act(at_ms=now_ms, what="approval_asked", who=by.who, why=by.why, body={**said, "expires_ms": expires_ms})
    return [event], Waits(number, reason)


def find_open(state: ServerState, now_ms: int, number: int) -> Asked:
    """Find a request that can still be answered. Raises NotFound, Refused."""
    asked = state.approvals.asked.get(number)
    if asked is None:
        raise NotFound(f"there is no request {number}; list them: tidegate approve list")
    standing = asked.standing(now_ms)
    if standing != "open":
        raise Refused(f"request {number} is {standing}{f' by {asked.by}' if asked.by else ''}: ask anew")
    return asked


def answerable(state: ServerState, now_ms: int, by: Who, number: int) -> Asked:
    """Find a request that this person may grant.

    Raises:
        NotFound, Refused: as `find_open`.
        Forbidden: to whoever asked, to the local token, behind which may be the same person, and to who is no approver.
    """
    asked = find_open(state, now_ms, number)
    if by.account == LOCAL:
        raise Forbidden("a request is granted by a named operator: tidegate login NAME")
    if by.account == asked.account:
        raise Forbidden(f"request {number} is your own; it takes somebody else")
    if not reaches(state.operators.role(by.account), "approver"):
        raise Forbidden("to grant a request takes the role approver")
    return asked


def grant(state: ServerState, now_ms: int, by: Who, number: int) -> list[Event]:
    """Say yes as the second person; what was asked for belongs into the same batch of events.

    Raises:
        NotFound, Refused, Forbidden: as `answerable`.
        Refused: if it would be more, or something else, than was asked for; or if whoever asked may do it no longer.
    """
    asked = answerable(state, now_ms, by, number)
    if said := outdated(state, asked, about(state, asked.kind, asked.body)):
        raise Refused(f"request {number} cannot be granted as it stands: {said}; ask anew")
    return [_answer(now_ms, "approval_granted", by, number)]


def why_outdated(state: ServerState, now_ms: int, asked: Asked) -> str:
    """Say why an open request cannot be granted as it stands, or nothing."""
    if asked.standing(now_ms) != "open":
        return ""
    try:
        return outdated(state, asked, about(state, asked.kind, asked.body))
    except TidegateError as error:
        return str(error)


def refuse(state: ServerState, now_ms: int, by: Who, number: int) -> tuple[list[Event], Asked]:
    """Say no; whoever asked may do so too, to take it back. Raises NotFound, Refused."""
    asked = find_open(state, now_ms, number)
    return [_answer(now_ms, "approval_refused", by, number)], asked


def both(asked: Asked, second: Who) -> Who:
    """Give who acts once a request is granted: the one who asked, with both reasons on record."""
    why = f"{asked.why or 'no reason given'} (approved by {second.who}: {second.why or 'no reason given'})"
    return Who(asked.who, why, asked.account)


def start_needs(policy: Policy, said: StartRequest, devices: int, before: int = 0) -> str:
    """Say why a rollout may not be started by one person alone, or nothing.

    Args:
        policy: what one person may do.
        said: the request.
        devices: how many it reaches.
        before: how many earlier rollouts of the same release have exposed.
    """
    if said.override_halt:
        return "it goes on with a candidate that was halted"
    if said.shadow:
        return ""
    if policy.devices_alone and devices + before > policy.devices_alone:
        more = f" after {before:,} of earlier rollouts of this release" if before else ""
        return f"it reaches {devices:,} devices{more}, and one person may start on {policy.devices_alone:,}"
    if policy.harmed_alone and said.max_harmed > policy.harmed_alone:
        return f"it puts {said.max_harmed:,} devices at risk, and one person may put {policy.harmed_alone:,}"
    return ""


def approval_view(asked: Asked, now_ms: int) -> Json:
    """Show one request."""
    return {
        "number": asked.number,
        "kind": asked.kind,
        "standing": asked.standing(now_ms),
        "reason": asked.reason,
        "asked_by": asked.who,
        "why": asked.why,
        "asked_ms": asked.asked_ms,
        "expires_ms": asked.expires_ms,
        "answered_by": asked.by,
        "answer": asked.said,
        "body": asked.body,
        "about": shown(asked),
    }


def _answer(now_ms: int, what: str, by: Who, number: int) -> Act:
    return Act(at_ms=now_ms, what=what, who=by.who, why=by.why, body={"number": number})
