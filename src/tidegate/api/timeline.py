"""Operators' route for accounts of who was exposed to what, when."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api.reading import only
from tidegate.control.timeline import build_timeline, find_subject
from tidegate.core.errors import Refused
from tidegate.trust.ledger import CHECKPOINT


async def timeline(request: Request) -> Response:
    """Give a signed account of one device, release or rollout (`?device=`, `?release=`, `?rollout=`)."""
    only(request, "device", "release", "rollout")
    controller = request.app.state.office.controller
    ledger = controller.ledger
    if ledger is None:
        raise Refused("this control plane has no ledger key, and so no ledger to draw an account from")
    asked = {name: request.query_params.get(name, "") for name in ("device", "release", "rollout")}
    subject = find_subject(controller.state, **asked)
    note = await asyncio.to_thread((ledger.directory / CHECKPOINT).read_bytes)
    now_ms = controller.now_ms()
    account = await asyncio.to_thread(
        lambda: build_timeline(controller.read_log(), subject, note, ledger.signer, now_ms)
    )
    return JSONResponse(account)


ROUTES = [Route("/api/v1/timeline", timeline)]
