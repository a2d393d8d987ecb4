"""POST /v1/renew: a device whose credential is of an older epoch gets one of the newest, under its own key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tidegate.control import proofs
from tidegate.intake.http import Reply, ok, parse

if TYPE_CHECKING:
    from starlette.types import Scope

    from tidegate.intake.app import IntakeApp


class RenewRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Who asks, when by its clock (unix seconds), and its Ed25519 signature over both."""

    device_id: str
    issued: int
    proof: str


_decoder = msgspec.json.Decoder(RenewRequest)


async def handle(app: IntakeApp, scope: Scope, body: bytes) -> Reply:
    """Give a credential of the newest epoch; nothing is written, and asking again gives the same."""
    said = parse(_decoder, body)
    controller = app.controller
    index = proofs.renew(controller.state, controller.now_ms(), said.device_id, said.issued, said.proof)
    credential = app.secrets.credential(app.secrets.newest_epoch, index, said.device_id)
    return ok({"device_id": said.device_id, "index": index, "credential": credential})
