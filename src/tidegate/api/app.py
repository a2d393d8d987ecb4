"""The operators' HTTP: what people and their scripts ask of Tidegate. Loopback unless told otherwise, token always."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api import (
    approvals,
    backup,
    devices,
    evidence,
    inventory,
    keys,
    operators,
    policy,
    records,
    releases,
    rollouts,
    timeline,
    tokens,
    watch,
)
from tidegate.api.access import OPEN, Access, TooManyTries, asking, may, role_needed
from tidegate.control.approvals import Waits, approval_view
from tidegate.control.controller import Controller
from tidegate.control.identities import barred_view
from tidegate.control.operators import Forbidden
from tidegate.control.views import status_view
from tidegate.core.errors import BadInput, NotFound, Refused, TidegateError, Untrusted
from tidegate.log.port import LogError
from tidegate.trust.epochs import SecretsFile
from tidegate.trust.evidence_store import EvidenceStore
from tidegate.trust.expiry import trust_view
from tidegate.trust.passwords import Passwords

_STATUS: list[tuple[type[TidegateError], int, str]] = [
    (NotFound, 404, "Not found"),
    (BadInput, 400, "Bad request"),
    (TooManyTries, 429, "Too many requests"),
    (Forbidden, 403, "Forbidden"),
    (Untrusted, 403, "Not trusted"),
    (Refused, 409, "Refused"),
    (LogError, 503, "Not durable"),
]
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EIO, errno.EROFS}
"""What the system refuses for a time, and nobody's mistake here."""
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
    passwords: Passwords | None = None
    """Where operators' passwords are kept; without them there is the local token alone."""
    device_secrets: Path | None = None
    secrets: SecretsFile | None = None
    """The secret behind the devices' credentials, where this server holds it."""
    heard_epochs: Callable[[], dict[int, int]] = dict
    """Gives how many devices used a credential of each epoch last."""
    witnesses: Callable[[], list[dict[str, Any]]] = list
    """Shows how it stands with the ledger's witnesses."""
    metrics: CollectorRegistry | None = None
    """What /metrics shows."""


def problem(status: int, title: str, detail: str) -> JSONResponse:
    """Answer with problem details (RFC 9457)."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


async def _refusal(_: Request, error: Exception) -> Response:
    if isinstance(error, Waits):  # not refused: on record, and waiting
        return JSONResponse({"approval": error.number, "reason": error.reason, "sentence": str(error)}, 202)
    if isinstance(error, TooManyTries):
        sooner = problem(429, "Too many requests", str(error))
        sooner.headers["retry-after"] = str(error.wait_s)
        return sooner
    for kind, status, title in _STATUS:
        if isinstance(error, kind):
            found = problem(status, title, str(error))
            if status == 503:
                found.headers["retry-after"] = "5"
            return found
    return problem(500, "Error", str(error))


async def _scarce(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    if error.errno not in _SCARCE:
        raise error
    structlog.get_logger().error("request failed", path=request.url.path, trouble=str(error))
    sentence = f"the server's system refuses it: {error.strerror}; look whether it was done, then ask again"
    found = problem(503, "Not now", sentence)
    found.headers["retry-after"] = "5"
    return found


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, error.detail)


async def _status(request: Request) -> Response:
    office: Office = request.app.state.office
    controller = office.controller
    trust = await asyncio.to_thread(trust_view, office.repository, controller.now_ms() // 1000)
    found = status_view(controller.state, controller.now_ms(), controller.trouble)
    figures = trust.pop("figures")
    now_ms = controller.now_ms()
    more = {
        "barred": barred_view(controller.state),
        "witnesses": office.witnesses(),
        "waiting": [
            approval_view(asked, now_ms)
            for asked in controller.state.approvals.asked.values()
            if asked.standing(now_ms) == "open"
        ],
    }
    return JSONResponse({**found, "trust": trust, "figures": figures, **more})


class OperatorOnly:
    """Lets a request in that an account's role allows; anyone may ask whether the server lives."""

    def __init__(self, app: Any, access: Access, now_ms: Callable[[], int]) -> None:
        self._app, self._access, self._now_ms = app, access, now_ms

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "http" and scope["path"] not in ("/healthz", "/readyz"):
            method, path = scope["method"], scope["path"]
            account = self._access.account_of(dict(scope["headers"]).get(b"authorization", b""), self._now_ms())
            if not account and (method, path) not in OPEN:
                sentence = "this needs the operators' token, or a session: tidegate login NAME"
                await problem(401, "Not trusted", sentence)(scope, receive, send)
                return
            role = self._access.role_of(account) if account else ""
            if account and not may(role, method, path):
                sentence = f"{account} is {role}, and this takes the role {role_needed(method, path)}"
                await problem(403, "Forbidden", sentence)(scope, receive, send)
                return
            asking.set(account)
        await self._app(scope, receive, send)


def make_app(office: Office) -> Any:
    """Make the operators' application (ASGI)."""
    app = Starlette(
        routes=[
            Route("/api/v1/status", _status),
            *watch.ROUTES,
            *backup.ROUTES,
            *devices.ROUTES,
            *evidence.ROUTES,
            *inventory.ROUTES,
            *approvals.ROUTES,
            *keys.ROUTES,
            *operators.ROUTES,
            *policy.ROUTES,
            *records.ROUTES,
            *releases.ROUTES,
            *rollouts.ROUTES,
            *timeline.ROUTES,
            *tokens.ROUTES,
        ],
        exception_handlers={
            TidegateError: _refusal,
            OSError: _scarce,
            HTTPException: _http_error,
            Exception: _broken,
        },
    )
    app.state.office = office
    access = Access(office.operator_token, lambda: office.controller.state.operators, office.passwords)
    app.state.access = access
    return OperatorOnly(app, access, office.controller.now_ms)


async def _broken(_: Request, error: Exception) -> Response:
    return problem(500, "Error", "the server made a mistake, which is in its log")
