"""Operators' routes for rollouts: start, look, pause, resume, abort."""

from __future__ import annotations

import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api.approvals import BEGIN, with_second
from tidegate.api.evidence import demand
from tidegate.api.reading import body_of, only, read_as, who_of
from tidegate.control import acts, approvals
from tidegate.control.acts import Who
from tidegate.control.starting import StartRequest, start_rollout
from tidegate.control.state import ServerState
from tidegate.control.views import rollout_view
from tidegate.core.errors import BadInput
from tidegate.log.events import Act, Event

ARM_SECRET_BYTES = 32
Json = dict[str, Any]


async def listing(request: Request) -> Response:
    """List the rollouts, the oldest first."""
    controller = request.app.state.office.controller
    now_ms = controller.now_ms()
    found = [rollout_view(controller.state, rollout, now_ms) for rollout in controller.state.rollouts.values()]
    return JSONResponse({"rollouts": found})


async def one(request: Request) -> Response:
    """Show one rollout; with `?devices=1` where each of its devices stands."""
    only(request, "devices")
    controller = request.app.state.office.controller
    rollout = acts.find_rollout(controller.state, request.path_params["name"])
    everyone = request.query_params.get("devices") == "1"
    return JSONResponse(rollout_view(controller.state, rollout, controller.now_ms(), devices=everyone))


async def start(request: Request) -> Response:
    """Freeze a roster and begin."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    return JSONResponse(await begin(office, by, body), 201)


async def begin(office: Any, by: Who, body: dict[str, Any], number: int = 0, second: Who | None = None) -> Json:
    """Start a rollout, or put it on record as asked for if it takes two. Raises Waits, and as `start_rollout`."""
    asked_for = dict(body)
    let_through = body.pop("let_through", False)
    if type(let_through) is not bool:
        raise BadInput("let_through must be true or false")
    said = read_as(StartRequest, body, "rollout")
    release = acts.find_release(office.controller.state, said.component, said.release)
    # A shadow rollout changes no device, so it needs no evidence.
    evidence = None if said.shadow else await demand(office.evidence, release, let_through, by.why)
    arm_secret = secrets.token_bytes(ARM_SECRET_BYTES)
    name = f"{said.component}-{secrets.token_hex(3)}"

    def decide(state: ServerState, now_ms: int) -> tuple[list[Event], approvals.Waits | None]:
        ledger = office.controller.ledger
        witnessed_s = ledger.witnessed_s(release.digest, now_ms // 1000) if ledger else 0
        more = {"arm_secret": arm_secret, "evidence": evidence, "witnessed_s": witnessed_s}
        events, _ = start_rollout(state, now_ms, by, said, rollout=name, **more)
        if second is not None:
            return [*approvals.grant(state, now_ms, second, number), *events], None
        devices = next(len(e.body["spec"]["roster"]) for e in events if isinstance(e, Act) and "spec" in e.body)
        account = state.accounts.get(release.digest)  # small slices, one after the other, are a large start
        before = account.exposed if account is not None else 0
        reason = approvals.start_needs(state.identities.policy, said, devices, before)
        if reason:
            return approvals.ask_second(state, now_ms, by, kind="rollout", body=asked_for, reason=reason)
        return events, None

    controller = office.controller
    waits = await controller.ask(decide)
    if waits is not None:
        raise waits
    return rollout_view(controller.state, controller.state.rollouts[name], controller.now_ms())


BEGIN["rollout"] = begin


async def steer(request: Request) -> Response:
    """Pause, resume or abort."""
    office = request.app.state.office
    verb, name = request.path_params["verb"], request.path_params["name"]
    body = await body_of(request)
    by = who_of(body)
    done = await office.controller.ask(
        lambda state, now_ms: acts.steer_rollout(state, now_ms, by, rollout=name, verb=verb)
    )
    controller = office.controller
    return JSONResponse(rollout_view(controller.state, controller.state.rollouts[done], controller.now_ms()))


async def limit(request: Request) -> Response:
    """Limit what all releases of a component together may harm in 30 days."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    component = request.path_params["component"]
    most = body.get("max_harmed_30d")
    if type(most) is not int:
        raise BadInput("max_harmed_30d must be a whole number")
    await with_second(office, by, "budget", {"component": component, "max_harmed_30d": most})
    left = office.controller.state.rolling[component].left(office.controller.now_ms() / 1000)
    return JSONResponse({"component": component, "max_harmed_30d": most, "left": left})


ROUTES = [
    Route("/api/v1/components/{component}/budget", limit, methods=["POST"]),
    Route("/api/v1/rollouts", listing),
    Route("/api/v1/rollouts", start, methods=["POST"]),
    Route("/api/v1/rollouts/{name}", one),
    Route("/api/v1/rollouts/{name}/{verb:str}", steer, methods=["POST"]),
]
