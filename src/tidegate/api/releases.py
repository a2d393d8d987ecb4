"""Operators' routes for releases: a payload, then the signed release that names it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api.reading import body_of, bytes_of, read_as, who_of
from tidegate.control import acts
from tidegate.control.views import release_view
from tidegate.core.errors import Untrusted
from tidegate.core.model import Manifest
from tidegate.core.wire import decode, plain
from tidegate.trust.layout import payload_path, release_role
from tidegate.trust.metadata import latest_bytes
from tidegate.trust.payload import PAYLOAD_LIMIT, describe_payload, store_payload, verify_payload
from tidegate.trust.release import accept_release
from tidegate.trust.withdrawal import accept_withdrawal

one_at_a_time = asyncio.Lock()
"""Each signed list continues the one before."""


@dataclass(frozen=True, slots=True)
class ReleaseRequest:
    """A release signed offline: the component's next list of releases, and the manifest, as texts."""

    component: str
    releases: str
    manifest: str
    emergency: bool = False


@dataclass(frozen=True, slots=True)
class WithdrawalRequest:
    """A list of releases that was signed offline and leaves out what is withdrawn, as text."""

    releases: str


async def listing(request: Request) -> Response:
    """List the releases in the log."""
    state = request.app.state.office.controller.state
    found = [release_view(state, release) for release in state.releases.values()]
    return JSONResponse({"releases": found})


async def metadata(request: Request) -> Response:
    """Give a component's newest list of releases, for signing offline."""
    repository = request.app.state.office.repository
    data = await asyncio.to_thread(latest_bytes, repository, release_role(request.path_params["component"]))
    return Response(data, media_type="application/json")


async def upload(request: Request) -> Response:
    """Take a payload in by its digest. It means nothing until a signed release names it."""
    office = request.app.state.office
    sha256 = request.path_params["sha256"]
    payload_path(sha256)
    data = await bytes_of(request, PAYLOAD_LIMIT)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise Untrusted(f"the payload that arrived has digest {found}, not {sha256}; send it again")
    payload = await asyncio.to_thread(describe_payload, data)
    await asyncio.to_thread(store_payload, office.repository, data, payload)
    return JSONResponse({"sha256": found, "length": len(data)}, 201)


async def submit(request: Request) -> Response:
    """Verify a release that was signed offline, put it into the repository and the log."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    said = read_as(ReleaseRequest, body, "release")
    manifest = decode(Manifest, said.manifest, "the manifest")
    stored = office.repository / payload_path(manifest.payload.sha256)
    await asyncio.to_thread(verify_payload, stored, manifest.payload)
    async with one_at_a_time:
        accepted = await asyncio.to_thread(
            accept_release,
            office.repository,
            said.component,
            said.releases.encode(),
            said.manifest.encode(),
            int(time.time()),
            emergency=said.emergency,
        )
        news = await office.controller.ask(
            lambda state, now_ms: acts.log_release(
                state,
                now_ms,
                by,
                digest=accepted.digest,
                manifest=accepted.manifest,
                terms=accepted.terms,
                emergency=said.emergency,
            )
        )
    office.controller.publish_soon()
    return JSONResponse({"digest": accepted.digest, "seq": accepted.manifest.seq, "news": news}, 201)


async def withdraw(request: Request) -> Response:
    """Take in a list from which release keys withdrew something, and end the rollouts of that."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    signed = read_as(WithdrawalRequest, body, "withdrawal").releases.encode()
    async with one_at_a_time:
        found = await asyncio.to_thread(accept_withdrawal, office.repository, signed, int(time.time()))
        ended = await office.controller.ask(lambda state, now_ms: acts.withdraw_releases(state, now_ms, by, found))
    office.controller.publish_soon()
    return JSONResponse({"withdrawn": plain(found), "ended": ended}, 201)


ROUTES = [
    Route("/api/v1/releases", listing),
    Route("/api/v1/releases", submit, methods=["POST"]),
    Route("/api/v1/withdrawals", withdraw, methods=["POST"]),
    Route("/api/v1/components/{component}/releases", metadata),
    Route("/api/v1/payloads/{sha256}", upload, methods=["PUT"]),
]
