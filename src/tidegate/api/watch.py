"""What monitors ask: does it live, is it ready, and the figures of this process. The figures need an account."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.control.metrics import make_registry


async def _health(_: Request) -> Response:
    return JSONResponse({"alive": True})


async def _ready(request: Request) -> Response:
    trouble = request.app.state.office.controller.why_not_ready
    return JSONResponse({"ready": not trouble, "trouble": trouble}, 503 if trouble else 200)


async def _metrics(request: Request) -> Response:
    office = request.app.state.office
    # In the event loop: another thread would see the state while it changes.
    registry = office.metrics or make_registry(office.controller, repository=office.repository)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


ROUTES = [Route("/healthz", _health), Route("/readyz", _ready), Route("/metrics", _metrics)]
