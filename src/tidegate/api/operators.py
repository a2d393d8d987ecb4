"""Operators' routes for accounts and sessions."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api.access import Access, asking
from tidegate.api.approvals import with_second
from tidegate.api.reading import body_of, who_of
from tidegate.control import operators
from tidegate.control.acts import Who
from tidegate.control.operators import Forbidden, reaches
from tidegate.control.state import ServerState
from tidegate.core.errors import BadInput
from tidegate.log.events import Event

_hashing = asyncio.Semaphore(2)
"""One hash takes 64 MB for a moment: not more than two at once, however many log in."""


def _access(request: Request) -> Access:
    found: Access = request.app.state.access
    return found


def _text(body: dict[str, Any], name: str) -> str:
    value = body.pop(name, "")
    if not isinstance(value, str) or not value:
        raise BadInput(f"{name} must be a text")
    return value


async def log_in(request: Request) -> Response:
    """Begin a session: a token that stands for a named operator until it expires."""
    body = await body_of(request)
    name, password = _text(body, "name"), _text(body, "password")
    access, controller = _access(request), request.app.state.office.controller
    access.count_try(name, request.client.host if request.client else "")
    async with _hashing:
        token, session = await asyncio.to_thread(access.log_in, name, password, controller.now_ms())
    role = access.role_of(name)
    return JSONResponse({"token": token, "name": name, "role": role, "expires_ms": session.expires_ms}, 201)


async def log_out(request: Request) -> Response:
    """End the session that asks."""
    _access(request).log_out(request.headers.get("authorization", "").encode())
    return JSONResponse({"ended": True})


async def me(request: Request) -> Response:
    """Say who asks, and in which role."""
    account = asking.get()
    return JSONResponse({"name": account, "role": _access(request).role_of(account)})


async def listing(request: Request) -> Response:
    """List the accounts."""
    accounts = request.app.state.office.controller.state.operators.accounts
    return JSONResponse({"operators": [_view(accounts[name]) for name in sorted(accounts)]})


async def create(request: Request) -> Response:
    """Open an account with a password. Where two people are asked for, a role beyond viewer waits for the second."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    name, role, password = _text(body, "name"), _text(body, "role"), _text(body, "password")

    def decide(state: ServerState, now_ms: int) -> tuple[list[Event], Any]:
        first = "viewer" if state.identities.policy.takes_two else role
        operators.create_operator(state, now_ms, by, name=name, role=role)  # refuses what cannot be
        return operators.create_operator(state, now_ms, by, name=name, role=first)

    decide(office.controller.state, office.controller.now_ms())
    async with _hashing:  # the hash first: without an account it opens nothing
        await asyncio.to_thread(_access(request).passwords.set, name, password)
    made = await office.controller.ask(decide)
    if made.role != role:
        await _role(office, by, name, role)
    return JSONResponse(_view(office.controller.state.operators.find(name)), 201)


async def role(request: Request) -> Response:
    """Give an account another role."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    name = request.path_params["name"]
    await _role(office, by, name, _text(body, "role"))
    return JSONResponse(_view(office.controller.state.operators.find(name)))


async def _role(office: Any, by: Who, name: str, role: str) -> None:
    await with_second(office, by, "operator_role", {"name": name, "role": role})


async def shut(request: Request) -> Response:
    """Shut an account, or open it again."""
    office = request.app.state.office
    by = who_of(await body_of(request))
    name, disabled = request.path_params["name"], request.path_params["verb"] == "disable"
    await office.controller.ask(
        lambda state, now_ms: operators.set_disabled(state, now_ms, by, name=name, disabled=disabled)
    )
    if disabled:
        _access(request).end_sessions(name)
    return JSONResponse(_view(office.controller.state.operators.find(name)))


async def password(request: Request) -> Response:
    """Set one's own password, for which the old one is asked; or, as admin, another's."""
    office, access = request.app.state.office, _access(request)
    body = await body_of(request)
    by = who_of(body)
    name, new = request.path_params["name"], _text(body, "password")
    office.controller.state.operators.find(name)
    if asking.get() == name:
        old = _text(body, "old")
        access.count_try(name, request.client.host if request.client else "")
        async with _hashing:
            if not await asyncio.to_thread(access.passwords.check, name, old):
                raise Forbidden("the old password is not right")
    elif not reaches(access.role_of(asking.get()), "admin"):
        raise Forbidden("only an admin sets another's password")
    # On record first: a password that somebody else set must not count before the role is taken down.
    await office.controller.ask(lambda state, now_ms: operators.note_password(state, now_ms, by, name=name))
    async with _hashing:
        await asyncio.to_thread(access.passwords.set, name, new)
    access.end_sessions(name)
    return JSONResponse({"name": name})


def _view(operator: operators.Operator) -> dict[str, Any]:
    return {
        "name": operator.name,
        "role": operator.role,
        "disabled": operator.disabled,
        "created_ms": operator.created_ms,
    }


ROUTES = [
    Route("/api/v1/sessions", log_in, methods=["POST"]),
    Route("/api/v1/sessions", log_out, methods=["DELETE"]),
    Route("/api/v1/me", me),
    Route("/api/v1/operators", listing),
    Route("/api/v1/operators", create, methods=["POST"]),
    Route("/api/v1/operators/{name}/role", role, methods=["POST"]),
    Route("/api/v1/operators/{name}/password", password, methods=["POST"]),
    Route("/api/v1/operators/{name}/{verb:str}", shut, methods=["POST"]),
]
