"""Operators' routes for devices."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from tidegate.api.reading import body_of, read_as, who_of
from tidegate.control import acts, identities
from tidegate.control.inventory import write_parquet
from tidegate.control.quarantine import quarantine
from tidegate.control.state import ServerState
from tidegate.control.views import device_view
from tidegate.control.why import find_device, why
from tidegate.core.errors import BadInput
from tidegate.log.events import Event

MOST_ROWS = 1000


@dataclass(frozen=True, slots=True)
class QuarantineRequest:
    """Whom to quarantine: `group` is NAME=VALUE of a label or token=ID; `devices` are ids or numbers besides."""

    group: str = ""
    devices: tuple[str, ...] = ()


async def listing(request: Request) -> Response:
    """List devices, `limit` of them after `offset`, those with every `label=name=value` given."""
    state = request.app.state.office.controller.state
    limit, offset = _number(request, "limit", 100), _number(request, "offset", 0)
    wanted = [entry.partition("=") for entry in request.query_params.getlist("label")]
    rows = np.flatnonzero(state.devices.labelled({name: value for name, _, value in wanted}))
    page = [state.devices[int(row)] for row in rows[offset : offset + min(limit, MOST_ROWS)]]
    shown = [{**device_view(row), **identities.identity_view(state.identities, row.device.index)} for row in page]
    return JSONResponse({"total": len(rows), "offset": offset, "devices": shown})


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise BadInput(f"{name} must be a whole number, not {text!r}")
    return int(text)


async def inventory(request: Request) -> Response:
    """Count devices by their labels and what is installed: what exposure is computed from."""
    state = request.app.state.office.controller.state
    counts = Counter((tuple(sorted(row.device.labels.items())), tuple(sorted(row.installed))) for row in state.devices)
    classes = [
        {"count": count, "labels": dict(labels), "components": list(components)}
        for (labels, components), count in counts.items()
    ]
    return JSONResponse({"devices": len(state.devices), "classes": classes})


async def export(request: Request) -> Response:
    """Give the devices with every `label=name=value` given as a Parquet file."""
    fleet = request.app.state.office.controller.state.devices
    wanted = [entry.partition("=") for entry in request.query_params.getlist("label")]
    descriptor, name = tempfile.mkstemp(suffix=".parquet")
    os.close(descriptor)
    try:
        await asyncio.to_thread(write_parquet, fleet, {name: value for name, _, value in wanted}, Path(name))
    except BaseException:
        os.unlink(name)
        raise
    return FileResponse(name, media_type="application/vnd.apache.parquet", background=BackgroundTask(os.unlink, name))


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
    Route("/api/v1/inventory", inventory),
    Route("/api/v1/inventory.parquet", export),
    Route("/api/v1/devices/quarantine", quarantine_group, methods=["POST"]),
    Route("/api/v1/devices/{name}", one),
    Route("/api/v1/devices/{name}/why", explain),
    Route("/api/v1/devices/{name}/reinstate", reinstate, methods=["POST"]),
    Route("/api/v1/devices/{name}/retire", retire, methods=["POST"]),
    Route("/api/v1/devices/{name}/revoke", revoke, methods=["POST"]),
    Route("/api/v1/devices/{name}/signal", signal, methods=["POST"]),
]
