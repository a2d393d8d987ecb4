"""Operators' routes for the control plane's settings, and for the secret behind the devices' credentials."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api.approvals import with_second
from tidegate.api.reading import body_of, who_of
from tidegate.core.errors import BadInput, Refused
from tidegate.core.wire import plain
from tidegate.log.events import Act
from tidegate.trust.credentials import SECRET_BYTES
from tidegate.trust.epochs import add_epoch, retire_epoch


async def show(request: Request) -> Response:
    """Show what one person may not do alone, and what devices must prove."""
    return JSONResponse(plain(request.app.state.office.controller.state.identities.policy))


async def change(request: Request) -> Response:
    """Set the settings that are named; the others stay."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    await with_second(office, by, "policy", body)
    return JSONResponse(plain(office.controller.state.identities.policy))


async def epochs(request: Request) -> Response:
    """Show the epochs of device secrets, and how many devices used each last since the server began."""
    office = request.app.state.office
    if office.secrets is None:
        raise Refused("this server does not hold the devices' secret")
    office.secrets.look()
    heard = office.heard_epochs()
    rows = [
        {"epoch": e, "newest": e == office.secrets.newest_epoch, "heard": heard.get(e, 0)}
        for e in office.secrets.epochs
    ]
    return JSONResponse({"epochs": rows})


async def rotate(request: Request) -> Response:
    """Begin a new epoch of device secrets; the older ones go on counting."""
    body = await body_of(request)
    by = who_of(body)
    office, path = request.app.state.office, _path(request)
    epoch = await asyncio.to_thread(add_epoch, path, secrets.token_bytes(SECRET_BYTES))
    await _record(office, by, "device_secret_rotated", {"epoch": epoch})
    return JSONResponse({"epoch": epoch}, 201)


async def retire(request: Request) -> Response:
    """Let the credentials of an old epoch count no more."""
    body = await body_of(request)
    by = who_of(body)
    office, path = request.app.state.office, _path(request)
    epoch = body.get("epoch")
    if type(epoch) is not int:
        raise BadInput("epoch must be a whole number")
    await asyncio.to_thread(retire_epoch, path, epoch)
    await _record(office, by, "device_secret_retired", {"epoch": epoch})
    return JSONResponse({"retired": epoch})


def _path(request: Request) -> Any:
    path = request.app.state.office.device_secrets
    if path is None:
        raise Refused("this server does not hold the devices' secret")
    return path


async def _record(office: Any, by: Any, what: str, body: dict[str, Any]) -> None:
    office.secrets.look()  # before anyone is told: who asks next is answered by the new word
    await office.controller.ask(
        lambda _, now_ms: ([Act(at_ms=now_ms, what=what, who=by.who, why=by.why, body=body)], None)
    )


ROUTES = [
    Route("/api/v1/policy", show),
    Route("/api/v1/policy", change, methods=["POST"]),
    Route("/api/v1/device-secrets", epochs),
    Route("/api/v1/device-secrets/rotate", rotate, methods=["POST"]),
    Route("/api/v1/device-secrets/retire", retire, methods=["POST"]),
]
