"""Operators' routes for what was signed offline: ceremonies, promotions, emergency stops. The server verifies alone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from tuf.api.metadata import Targets  # pyright: ignore[reportPrivateImportUsage]

from tidegate.api.reading import body_of, read_as, who_of
from tidegate.api.releases import one_at_a_time
from tidegate.control import acts
from tidegate.control.acts import Who
from tidegate.control.state import ServerState
from tidegate.core.errors import BadInput, NotFound, Refused, Untrusted
from tidegate.core.model import PlanState
from tidegate.core.wire import plain, read
from tidegate.log.events import Act, Event
from tidegate.trust import layout
from tidegate.trust.ceremony import Bundle
from tidegate.trust.ceremony_accept import accept_bundle
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.emergency import STOP, Stop
from tidegate.trust.expiry import trust_view
from tidegate.trust.holders import Kind, Said
from tidegate.trust.keys import ledger_publics, online_ids
from tidegate.trust.metadata import latest_bytes, parse
from tidegate.trust.pardon import PARDON, Pardon
from tidegate.trust.promotion import Promotion, accept_promotion


@dataclass(frozen=True, slots=True)
class StopRequest:
    """An emergency stop that was signed offline: its text."""

    component: str
    stop: str


@dataclass(frozen=True, slots=True)
class PardonRequest:
    """A pardon that was signed offline: its text."""

    component: str
    pardon: str


async def roles(request: Request) -> Response:
    """Show every role: version, keys, threshold, expiry, and what to renew."""
    return JSONResponse(await asyncio.to_thread(trust_view, request.app.state.office.repository, int(time.time())))


async def metadata(request: Request) -> Response:
    """Give a role's newest signed list."""
    repository, role = request.app.state.office.repository, request.path_params["role"]
    return Response(await asyncio.to_thread(latest_bytes, repository, role), media_type="application/json")


async def ceremony(request: Request) -> Response:
    """Take in a bundle of metadata that key holders have signed."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    bundle = read(Bundle, body.get("bundle"), "the signing bundle")
    online = await asyncio.to_thread(online_ids, office.keys) if office.keys else None
    ledger = await asyncio.to_thread(ledger_publics, office.keys) if office.keys else ()
    async with one_at_a_time:
        changed = await asyncio.to_thread(
            accept_bundle, office.repository, bundle, int(time.time()), online=online, ledger=ledger
        )
        if changed:
            await _record(office, by, "keys_changed", {"title": bundle.title, "roles": changed})
    office.controller.publish_soon()
    return JSONResponse({"changed": changed}, 201)


async def promote(request: Request) -> Response:
    """Take in a promotion: a release's ceiling is lifted, on record."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    promotion = read(Promotion, body.get("promotion"), "promotion")
    release = office.controller.state.releases.get(promotion.digest)
    if release is None or (release.manifest.component, release.manifest.seq) != (promotion.component, promotion.seq):
        raise NotFound("there is no such release in the log; log it before it is promoted")
    signed = str(body.get("promotions", "")).encode()
    async with one_at_a_time:
        await asyncio.to_thread(accept_promotion, office.repository, signed, promotion, int(time.time()))
        if office.controller.state.promoted.get(promotion.digest) != promotion.ceiling_2p32:
            await _record(office, by, "release_promoted", plain(promotion))
    office.controller.publish_soon()
    return JSONResponse(plain(promotion), 201)


async def stop(request: Request) -> Response:
    """Serve an emergency stop beside the signed files, and end the rollouts that it names."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    said = read_as(StopRequest, body, "emergency stop")
    path = layout.stop_path(said.component)
    found = await asyncio.to_thread(_keep, STOP, office.repository, path, said.component, said.stop.encode())
    ended = await office.controller.ask(lambda state, now_ms: _stop(state, now_ms, by, found))
    return JSONResponse({**plain(found), "ended": ended}, 201)


async def pardon(request: Request) -> Response:
    """Serve a pardon beside the signed files, on record."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    said = read_as(PardonRequest, body, "pardon")
    path = layout.pardon_path(said.component)
    found: Pardon = await asyncio.to_thread(
        _keep, PARDON, office.repository, path, said.component, said.pardon.encode()
    )
    await _record(office, by, "release_pardoned", plain(found))
    return JSONResponse(plain(found), 201)


def _keep(kind: Kind[Said], repository: Path, path: str, component: str, data: bytes) -> Said:
    trunk = parse(Targets, latest_bytes(repository, layout.TARGETS), "the targets metadata").signed
    found = kind.verify(data, component, trunk)
    file = repository / path
    if file.exists() and _issued(kind, file.read_bytes(), component, trunk) > found.issued:
        raise Refused(f"a newer {kind.name} stands already; sign one anew")
    make_directory(file.parent)
    write_durably(file, data)
    return found


def _issued(kind: Kind[Said], data: bytes, component: str, trunk: Targets) -> int:
    """When what stands was issued; 0 if it does not count any more, since the keys were changed."""
    try:
        return kind.verify(data, component, trunk).issued
    except (Untrusted, BadInput):
        return 0


def _stop(state: ServerState, now_ms: int, by: Who, found: Stop) -> tuple[list[Event], list[str]]:
    made: list[Event] = [Act(at_ms=now_ms, what="emergency_stop", who=by.who, why=by.why, body=plain(found))]
    name = state.active.get(found.component, "")
    rollout = state.rollouts.get(name)
    if rollout is None or rollout.phase is PlanState.HALTED or not found.names(rollout.spec.candidate.sha256):
        return made, []
    because = by.because(f"an emergency stop: {found.reason or '-'}")
    events, _ = acts.steer_rollout(state, now_ms, because, rollout=name, verb="abort")
    return [*made, *events], [name]


async def _record(office: Any, by: Who, what: str, body: dict[str, Any]) -> None:
    await office.controller.ask(
        lambda _, now_ms: ([Act(at_ms=now_ms, what=what, who=by.who, why=by.why, body=body)], None)
    )


ROUTES = [
    Route("/api/v1/roles", roles),
    Route("/api/v1/roles/{role}", metadata),
    Route("/api/v1/ceremonies", ceremony, methods=["POST"]),
    Route("/api/v1/promotions", promote, methods=["POST"]),
    Route("/api/v1/stops", stop, methods=["POST"]),
    Route("/api/v1/pardons", pardon, methods=["POST"]),
]
