"""POST /v1/announce: a device holds the verified candidate and asks to act. Here an announcement is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tidegate.control import devices
from tidegate.control.questions import Decision
from tidegate.core.admission import Grant, NotYet
from tidegate.core.rollout import Rollout
from tidegate.intake.http import Answer, Reply, ok, parse, problem
from tidegate.intake.identity import claim_of, copy_seen, flag

if TYPE_CHECKING:
    from starlette.types import Scope

    from tidegate.intake.app import IntakeApp

Decided = tuple[Rollout, int, Grant] | NotYet
_decoder = msgspec.json.Decoder(devices.Announcement)


async def take_in(app: IntakeApp, asked: Sequence[tuple[Scope, bytes]]) -> list[Answer]:
    """Take several announcements in; give each one's answer, or why it was refused.

    An answer is the lease, once it is durable, or the time to ask again. Each is a question of its own, since a lease
    changes what the next one may have.
    """
    answers: dict[int, Answer] = {}
    waits: list[tuple[int, Awaitable[Decided]]] = []
    for at, (scope, body) in enumerate(asked):
        try:
            claim = claim_of(app, scope, body)
            said = parse(_decoder, body)
            decide = partial(devices.announce, claim=claim, said=said)
            if seen := copy_seen(app, scope, claim, said.boot_id):
                waits.append((at, asyncio.ensure_future(_flagged(app, claim, seen, decide))))
            else:
                waits.append((at, app.controller.put(decide)))
        except Exception as error:
            answers[at] = error
    for at, decision in waits:
        try:
            answers[at] = _reply(await decision)
        except devices.Halted as error:
            answers[at] = problem(409, "Halted", str(error))
        except Exception as error:
            answers[at] = error
    return [answers[at] for at in range(len(asked))]


async def _flagged(app: IntakeApp, claim: devices.Claim, seen: str, decide: Decision[Decided]) -> Decided:
    await flag(app, claim, seen)
    return await app.controller.ask(decide)


def _reply(decision: Decided) -> Reply:
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
