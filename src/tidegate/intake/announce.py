"""POST /v1/announce: a device holds the verified candidate and asks to act. Here an announcement is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tidegate.control import devices
from tidegate.core.admission import NotYet
from tidegate.intake.http import Reply, ok, parse, problem
from tidegate.intake.identity import claim_of, copy_seen, flag

if TYPE_CHECKING:
    from starlette.types import Scope

    from tidegate.intake.app import IntakeApp

_decoder = msgspec.json.Decoder(devices.Announcement)


async def handle(app: IntakeApp, scope: Scope, body: bytes) -> Reply:
    """Answer with the lease, once it is durable, or with the time to ask again."""
    claim = claim_of(app, scope, body)
    said = parse(_decoder, body)
    if seen := copy_seen(app, scope, claim, said.boot_id):
        await flag(app, claim, seen)
    try:
        decision = await app.controller.ask(lambda state, now_ms: devices.announce(state, now_ms, claim, said))
    except devices.Halted as error:
        return problem(409, "Halted", str(error))
    if isinstance(decision, NotYet):
        return ok({"retry_after_s": decision.retry_after_s, "reason": decision.reason, "sentence": decision.sentence})
    rollout, position, grant = decision
    return ok(
        {
            "lease_id": devices.lease_id(rollout.spec.rollout, grant.ring, position),
            "arm": grant.arm.value,
            "ring": grant.ring,
            "ttl_s": rollout.spec.lease_ttl_s,
            "observe_s": rollout.spec.observe_s,
        }
    )
