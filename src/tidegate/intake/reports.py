"""POST /v1/reports: devices say how their leases ended. A 2xx means that it is durable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tidegate.control import devices, proofs
from tidegate.intake.http import Reply, ok, parse
from tidegate.intake.identity import claim_of, watch_copies

if TYPE_CHECKING:
    from starlette.types import Scope

    from tidegate.intake.app import IntakeApp


class ReportsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Several reports of one device, taken whole or not at all."""

    reports: tuple[devices.Report, ...]
    boot_id: str = ""


_decoder = msgspec.json.Decoder(ReportsRequest)


async def handle(app: IntakeApp, scope: Scope, body: bytes) -> Reply:
    """Take reports in; what was taken before is taken again without effect."""
    claim = claim_of(app, scope, body)
    said = parse(_decoder, body)
    await watch_copies(app, scope, claim, said.boot_id)
    proofs.check_signatures(app.controller.state, claim, said.reports)
    await app.controller.ask(lambda state, now_ms: devices.report(state, now_ms, claim, said.reports), claim.index)
    return ok({"durable_seq": claim.seq})
