"""The operators' HTTP: what people and their scripts ask of Tidegate. Loopback unless told otherwise, token always."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api import devices, evidence, keys, policy, records, releases, rollouts, timeline, tokens
from tidegate.control.controller import Controller
from tidegate.control.identities import barred_view
from tidegate.control.views import status_view
from tidegate.core.errors import BadInput, NotFound, Refused, TidegateError, Untrusted
from tidegate.log.port import LogError
from tidegate.trust.epochs import SecretsFile
from tidegate.trust.evidence_store import EvidenceStore
from tidegate.trust.expiry import trust_view

_STATUS: list[tuple[type[TidegateError], int, str]] = [
    (NotFound, 404, "Not found"),
    (BadInput, 400, "Bad request"),
    (Untrusted, 403, "Not trusted"),
    (Refused, 409, "Refused"),
    (LogError, 503, "Not durable"),
]
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Office:
    """What the operators' routes work with."""

    controller: Controller
    repository: Path
    operator_token: str
    keys: Path | None = None
    """Where the online keys lie: a change of keys that names others is refused."""
    evidence: EvidenceStore | None = None
    device_secrets: Path | None = None
    secrets: SecretsFile | None = None
    """The secret behind the devices' credentials, where this server holds it."""
    heard_epochs: Callable[[], dict[int, int]] = dict
    """Gives how many devices used a credential of each epoch last."""


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """Answer with problem details (RFC 9457)."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


async def _refusal(_: Request, error: Exception) -> Response:
    for kind, status, title in _STATUS:
        if isinstance(error, kind):
            return problem(status, title, str(error))
    return problem(500, "Error", str(error))


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, error.detail)


async def _status(request: Request) -> Response:
    office: Office = request.app.state.office
    controller = office.controller
    trust = await asyncio.to_thread(trust_view, office.repository, controller.now_ms() // 1000)
    found = status_view(controller.state, controller.now_ms(), controller.trouble)
    figures = trust.pop("figures")
    barred = barred_view(controller.state)
    return JSONResponse({**found, "trust": trust, "figures": figures, "barred": barred})


async def _health(_: Request) -> Response:
    return JSONResponse({"alive": True})


async def _ready(request: Request) -> Response:
    trouble = request.app.state.office.controller.trouble
    return JSONResponse({"ready": not trouble, "trouble": trouble}, 503 if trouble else 200)


class OperatorOnly:
    """Lets a request in that carries the operators' token; anyone may ask whether the server lives."""

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "http" and scope["path"] not in ("/healthz", "/readyz"):
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._expected):
                await problem(401, "Not trusted", "this needs the operators' token")(scope, receive, send)
                return
        await self._app(scope, receive, send)


def make_app(office: Office) -> Any:
    """Make the operators' application (ASGI)."""
    app = Starlette(
        routes=[
            Route("/healthz", _health),
            Route("/readyz", _ready),
            Route("/api/v1/status", _status),
            *devices.ROUTES,
            *evidence.ROUTES,
            *keys.ROUTES,
            *policy.ROUTES,
            *records.ROUTES,
            *releases.ROUTES,
            *rollouts.ROUTES,
            *timeline.ROUTES,
            *tokens.ROUTES,
        ],
        exception_handlers={TidegateError: _refusal, HTTPException: _http_error, Exception: _broken},
    )
    app.state.office = office
    return OperatorOnly(app, office.operator_token)


async def _broken(_: Request, error: Exception) -> Response:
    return problem(500, "Error", "the server made a mistake, which is in its log")
