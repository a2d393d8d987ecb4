"""Operators' routes for enrolment tokens."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api.reading import body_of, read_as, who_of
from tidegate.control import acts
from tidegate.trust.metadata import current_root, root_digest
from tidegate.trust.tokens import TOKEN_RANDOM_BYTES, new_token, token_hash


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """How often a token may be used, until when, and the labels that it gives."""

    labels: dict[str, str] = field(default_factory=lambda: {})
    uses: int = 1
    expires_s: int = 3600


async def create(request: Request) -> Response:
    """Make a token. It is shown this once; the log keeps its hash."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    said = read_as(TokenRequest, body, "token")
    token = new_token(root_digest(current_root(office.repository)), secrets.token_bytes(TOKEN_RANDOM_BYTES))
    await office.controller.ask(
        lambda _, now_ms: acts.create_token(
            now_ms,
            by,
            token_id=token.token_id,
            token_hash=token_hash(token.text()),
            labels=said.labels,
            uses=said.uses,
            expires_s=said.expires_s,
        )
    )
    return JSONResponse({"token": token.text(), "token_id": token.token_id}, 201)


async def listing(request: Request) -> Response:
    """List the tokens, the newest first; none of them can be read back."""
    controller = request.app.state.office.controller
    now_ms = controller.now_ms()
    rows = [
        {
            "token_id": token.token_id,
            "labels": token.labels,
            "uses": token.uses,
            "used": token.used,
            "expires_ms": token.expires_ms,
            "open": now_ms < token.expires_ms and token.used < token.uses,
        }
        for token in reversed(controller.state.tokens.values())
    ]
    return JSONResponse({"tokens": rows})


async def revoke(request: Request) -> Response:
    """Let a token enrol nobody any more."""
    office = request.app.state.office
    by = who_of(await body_of(request))
    token_id = request.path_params["token_id"]
    await office.controller.ask(lambda state, now_ms: acts.revoke_token(state, now_ms, by, token_id))
    return JSONResponse({"revoked": token_id})


ROUTES = [
    Route("/api/v1/tokens", listing),
    Route("/api/v1/tokens", create, methods=["POST"]),
    Route("/api/v1/tokens/{token_id}/revoke", revoke, methods=["POST"]),
]
