"""Operators' routes for rollouts: start, look, pause, resume, abort."""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api.evidence import demand
from tidegate.api.reading import body_of, read_as, who_of
from tidegate.control import acts
from tidegate.control.starting import StartRequest, start_rollout
from tidegate.control.views import rollout_view
from tidegate.core.errors import BadInput

ARM_SECRET_BYTES = 32


async def listing(request: Request) -> Response:
    """List the rollouts, the oldest first."""
    controller = request.app.state.office.controller
    now_ms = controller.now_ms()
    found = [rollout_view(controller.state, rollout, now_ms) for rollout in controller.state.rollouts.values()]
    return JSONResponse({"rollouts": found})


async def one(request: Request) -> Response:
    """Show one rollout; with `?devices=1` where each of its devices stands."""
    controller = request.app.state.office.controller
    rollout = acts.find_rollout(controller.state, request.path_params["name"])
    everyone = request.query_params.get("devices") == "1"
    return JSONResponse(rollout_view(controller.state, rollout, controller.now_ms(), devices=everyone))


async def start(request: Request) -> Response:
    """Freeze a roster and begin."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    let_through = body.pop("let_through", False)
    if type(let_through) is not bool:
        raise BadInput("let_through must be true or false")
    said = read_as(StartRequest, body, "rollout")
    release = acts.find_release(office.controller.state, said.component, said.release)
    # A shadow rollout changes no device, so it needs no evidence.
    evidence = None if said.shadow else await demand(office.evidence, release, let_through, by.why)
    arm_secret = secrets.token_bytes(ARM_SECRET_BYTES)
    name = f"{said.component}-{secrets.token_hex(3)}"
    await office.controller.ask(
        lambda state, now_ms: start_rollout(
            state, now_ms, by, said, rollout=name, arm_secret=arm_secret, evidence=evidence
        )
    )
    controller = office.controller
    return JSONResponse(rollout_view(controller.state, controller.state.rollouts[name], controller.now_ms()), 201)


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
    await office.controller.ask(lambda _, now_ms: acts.set_budget(now_ms, by, component=component, max_harmed_30d=most))
    left = office.controller.state.rolling[component].left(office.controller.now_ms() / 1000)
    return JSONResponse({"component": component, "max_harmed_30d": most, "left": left})


ROUTES = [
    Route("/api/v1/components/{component}/budget", limit, methods=["POST"]),
    Route("/api/v1/rollouts", listing),
    Route("/api/v1/rollouts", start, methods=["POST"]),
    Route("/api/v1/rollouts/{name}", one),
    Route("/api/v1/rollouts/{name}/{verb:str}", steer, methods=["POST"]),
]
