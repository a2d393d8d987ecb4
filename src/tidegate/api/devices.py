"""Operators' routes for devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api.reading import body_of, labels_of, number_of, only, read_as, who_of
from tidegate.control import acts, identities
from tidegate.control.quarantine import quarantine
from tidegate.control.state import ServerState
from tidegate.control.views import device_view
from tidegate.control.why import find_device, why
from tidegate.log.events import Event

MOST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class QuarantineRequest:
    """Whom to quarantine: `group` is NAME=VALUE of a label or token=ID; `devices` are ids or numbers besides."""

    group: str = ""
    devices: tuple[str, ...] = ()


async def listing(request: Request) -> Response:
    """List devices, `limit` of them after `offset`, those with every `label=name=value` given."""
    only(request, "limit", "offset", "label")
    state = request.app.state.office.controller.state
    limit, offset = number_of(request, "limit", 100), number_of(request, "offset", 0)
    rows = np.flatnonzero(state.devices.labelled(labels_of(request)))
    page = [state.devices[int(row)] for row in rows[offset : offset + min(limit, MOST_ROWS)]]
    shown = [{**device_view(row), **identities.identity_view(state.identities, row.device.index)} for row in page]
    return JSONResponse({"total": len(rows), "offset": offset, "devices": shown})


async def one(request: Request) -> Response:
    """Show one device."""
    state = request.app.state.office.controller.state
    row = find_device(state, request.path_params["name"])
    return JSONResponse({**device_view(row), **identities.identity_view(state.identities, row.device.index)})


async def explain(request: Request) -> Response:
    """Say why a device has or has not been updated."""
    controller = request.app.state.office.controller
    row = find_device(controller.state, request.path_params["name"])
    entries = why(controller.state, row, controller.now_ms())
    known = identities.identity_view(controller.state.identities, row.device.index)
    return JSONResponse({**device_view(row), **known, "why": entries})


async def retire(request: Request) -> Response:
    """Take a harmed device out of its groups' caps, on record."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    name = request.path_params["name"]
    index = await office.controller.ask(
        lambda state, now_ms: acts.retire_device(state, now_ms, by, find_device(state, name))
    )
    return JSONResponse({"retired": index})


async def revoke(request: Request) -> Response:
    """Let a device's credential count no more."""
    return await _by_name(request, identities.revoke_device, "revoked")


async def reinstate(request: Request) -> Response:
    """Let a device that was revoked, or flagged as copied, speak again."""
    return await _by_name(request, identities.reinstate_device, "reinstated")


async def quarantine_group(request: Request) -> Response:
    """Set aside what a group of devices reports: it is evidence of nothing, and they get no lease."""
    office = request.app.state.office
    body = await body_of(request)
    by, said = who_of(body), read_as(QuarantineRequest, body, "quarantine")

    def act(state: ServerState, now_ms: int) -> tuple[list[Event], list[int]]:
        devices = [find_device(state, name).device.index for name in said.devices]
        return quarantine(state, now_ms, by, group=said.group, devices=devices)

    return JSONResponse({"quarantined": await office.controller.ask(act)})


async def _by_name(request: Request, act: Callable[..., tuple[list[Event], int]], word: str) -> Response:
    office = request.app.state.office
    by = who_of(await body_of(request))
    name = request.path_params["name"]
    index = await office.controller.ask(lambda state, now_ms: act(state, now_ms, by, find_device(state, name)))
    return JSONResponse({word: index})


async def signal(request: Request) -> Response:
    """Take somebody's word that a device is down: it counts as harm in the rollouts that exposed it."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    name = request.path_params["name"]
    counted = await office.controller.ask(
        lambda state, now_ms: acts.signal_device(state, now_ms, by, find_device(state, name))
    )
    return JSONResponse({"rollouts": counted})


ROUTES = [
    Route("/api/v1/devices", listing),
    Route("/api/v1/devices/quarantine", quarantine_group, methods=["POST"]),
    Route("/api/v1/devices/{name}", one),
    Route("/api/v1/devices/{name}/why", explain),
    Route("/api/v1/devices/{name}/reinstate", reinstate, methods=["POST"]),
    Route("/api/v1/devices/{name}/retire", retire, methods=["POST"]),
    Route("/api/v1/devices/{name}/revoke", revoke, methods=["POST"]),
    Route("/api/v1/devices/{name}/signal", signal, methods=["POST"]),
]
