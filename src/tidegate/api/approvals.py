"""Operators' routes for what takes two: list requests, grant, refuse; and how an act is held until it is granted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api.reading import body_of, only, read_as, who_of
from tidegate.control import acts, approvals, identities, operators
from tidegate.control.acts import Who
from tidegate.control.approvals import Waits
from tidegate.control.policy import Policy
from tidegate.control.state import ServerState
from tidegate.core.errors import NotFound
from tidegate.core.wire import plain
from tidegate.log.events import Event

Json = dict[str, Any]
Act = Callable[[ServerState, int, Who, Json], tuple[list[Event], str]]
"""Decides an act: its events, and why it takes two (or nothing)."""
Begin = Callable[[Any, Who, Json, int, Who | None], Awaitable[Json]]
"""Does what was asked for: (office, who, body, number of the request, second person)."""


def _role(state: ServerState, now_ms: int, by: Who, body: Json) -> tuple[list[Event], str]:
    events, _ = operators.set_role(state, now_ms, by, name=body["name"], role=body["role"])
    more = operators.ROLES.index(body["role"]) > operators.ROLES.index(state.operators.find(body["name"]).role)
    two = more and state.identities.policy.takes_two
    return events, f"{body['name']} becomes {body['role']}" if two else ""


def _policy(state: ServerState, now_ms: int, by: Who, body: Json) -> tuple[list[Event], str]:
    old = state.identities.policy
    policy = read_as(Policy, {**plain(old), **body}, "policy")
    events, _ = identities.set_policy(state, now_ms, by, policy)
    return events, "it lets one person do more than before" if old.takes_two and policy.loosens(old) else ""


def _budget(state: ServerState, now_ms: int, by: Who, body: Json) -> tuple[list[Event], str]:
    component, most = body["component"], body["max_harmed_30d"]
    events, _ = acts.set_budget(now_ms, by, component=component, max_harmed_30d=most)
    old = state.rolling.get(component)
    raises = old is not None and most > old.max_harmed_30d and state.identities.policy.raise_needs_two
    return events, f"it raises the 30-day limit of {component} from {old.max_harmed_30d:,}" if old and raises else ""


ACTS: dict[str, Act] = {"operator_role": _role, "policy": _policy, "budget": _budget}
BEGIN: dict[str, Begin] = {}
"""Kinds that need more than the state to be done; their rooms put them here."""


async def with_second(office: Any, by: Who, kind: str, body: Json, number: int = 0, second: Who | None = None) -> Json:
    """Do an act, or put it on record as asked for if it takes two and there is no second yet.

    Raises:
        Waits: if it has been put on record, and waits.
        TidegateError: as the act, and as `approvals.grant`.
    """

    def decide(state: ServerState, now_ms: int) -> tuple[list[Event], Waits | None]:
        events, reason = ACTS[kind](state, now_ms, by, body)
        if second is not None:
            return [*approvals.grant(state, now_ms, second, number), *events], None
        if reason:
            return approvals.ask_second(state, now_ms, by, kind=kind, body=body, reason=reason)
        return events, None

    waits = await office.controller.ask(decide)
    if waits is not None:
        raise waits
    return {"kind": kind}


async def listing(request: Request) -> Response:
    """List the requests, the newest first; with `?open=1` those that wait."""
    only(request, "open")
    controller = request.app.state.office.controller
    now_ms = controller.now_ms()
    found = list(reversed(controller.state.approvals.asked.values()))
    if request.query_params.get("open") == "1":
        found = [asked for asked in found if asked.standing(now_ms) == "open"]
    rows = [
        {**approvals.approval_view(a, now_ms), "outdated": approvals.why_outdated(controller.state, now_ms, a)}
        for a in found
    ]
    return JSONResponse({"approvals": rows})


async def grant(request: Request) -> Response:
    """Say yes as the second person: what was asked for is done now, or this fails and nothing is."""
    office = request.app.state.office
    second = who_of(await body_of(request))
    number = request.path_params["number"]
    controller = office.controller
    approvals.answerable(controller.state, controller.now_ms(), second, number)  # before anything is prepared
    asked = controller.state.approvals.asked[number]
    begin = BEGIN.get(asked.kind)
    by = approvals.both(asked, second)
    if begin is not None:
        done = await begin(office, by, dict(asked.body), number, second)
    elif asked.kind in ACTS:
        done = await with_second(office, by, asked.kind, asked.body, number, second)
    else:
        raise NotFound(f"this server does not know how to do {asked.kind}")
    return JSONResponse({"granted": number, "done": done})


async def refuse(request: Request) -> Response:
    """Say no, or take one's own request back."""
    office = request.app.state.office
    by = who_of(await body_of(request))
    number = request.path_params["number"]
    asked = office.controller.state.approvals.asked.get(number)
    role = request.app.state.access.role_of(by.account)
    if asked is not None and by.account != asked.account and not operators.reaches(role, "approver"):
        raise operators.Forbidden("to refuse another's request takes the role approver")
    await office.controller.ask(lambda state, now_ms: approvals.refuse(state, now_ms, by, number))
    return JSONResponse({"refused": number})


ROUTES = [
    Route("/api/v1/approvals", listing),
    Route("/api/v1/approvals/{number:int}/grant", grant, methods=["POST"]),
    Route("/api/v1/approvals/{number:int}/refuse", refuse, methods=["POST"]),
]
