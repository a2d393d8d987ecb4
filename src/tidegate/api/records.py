"""Operators' route for what was done in contingencies: its digest becomes an act in the log, and so a ledger entry."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tidegate.api.reading import body_of, who_of
from tidegate.control.records import enter_record


async def record(request: Request) -> Response:
    """Enter `{what, subject, record_sha256, line, result?}`; the record itself stays in the book."""
    office = request.app.state.office
    body = await body_of(request)
    by = who_of(body)
    await office.controller.ask(lambda _, now_ms: enter_record(now_ms, by, what=body.get("what"), body=body))
    return JSONResponse({"entered": True}, 201)


ROUTES = [Route("/api/v1/records", record, methods=["POST"])]
