"""The log as records, for a backup of a server that runs. For administrators: it holds the secrets of rollouts."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from tidegate.control.controller import Controller
from tidegate.log.pack import pack

LAST = "tidegate-last-event"


def _records(controller: Controller, last: int) -> Iterator[bytes]:
    for first, batch in controller.read_batches():
        if first > last:
            return
        body = pack(batch.events)
        yield struct.pack("<I", len(body)) + body


async def _log(request: Request) -> StreamingResponse:
    controller: Controller = request.app.state.office.controller
    last = controller.last_event
    return StreamingResponse(
        _records(controller, last), media_type="application/octet-stream", headers={LAST: str(last)}
    )


ROUTES = [Route("/api/v1/backup/log", _log)]
