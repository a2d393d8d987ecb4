"""POST /v1/reports: devices say how their leases ended. A 2xx means that it is durable.

Messages that came at the same moment go to the controller as one question: for each alone, most of the work would be
to ask. What is wrong with one is nothing to the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from tidegate.control import devices, proofs
from tidegate.control.devices import Claim, Report
from tidegate.intake.http import Answer, ok, parse
from tidegate.intake.identity import claim_of, copy_seen, flag

if TYPE_CHECKING:
    from starlette.types import Scope

    from tidegate.intake.app import IntakeApp


class ReportsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Several reports of one device, taken whole or not at all."""

    reports: tuple[Report, ...]
    boot_id: str = ""


class _Told(msgspec.Struct):
    """One message that may be taken in, and its place among those that came."""

    at: int
    claim: Claim
    reports: tuple[Report, ...]


_decoder = msgspec.json.Decoder(ReportsRequest)


async def take_in(app: IntakeApp, asked: Sequence[tuple[Scope, bytes]]) -> list[Answer]:
    """Take several messages in, in their order; give each one's answer, or why it was refused.

    What was taken before is taken again without effect.
    """
    answers: dict[int, Answer] = {}
    rounds: list[dict[int, _Told]] = [{}]
    waits: list[Coroutine[Any, Any, None]] = []
    for at, (scope, body) in enumerate(asked):
        try:
            claim = claim_of(app, scope, body)
            said = parse(_decoder, body)
            told = _Told(at, claim, said.reports)
            if seen := copy_seen(app, scope, claim, said.boot_id):
                waits.append(_flagged(app, told, seen, answers))
                continue
            proofs.check_signatures(app.controller.state, claim, said.reports)
        except Exception as error:
            answers[at] = error
            continue
        if claim.index in rounds[-1]:  # a device's messages are decided one after the other
            rounds.append({})
        rounds[-1][claim.index] = told
    waits += [_ask(app, some, answers) for some in rounds if some]
    if len(waits) == 1:
        await waits[0]
    elif waits:
        await asyncio.gather(*waits)
    return [answers[at] for at in range(len(asked))]


async def _ask(app: IntakeApp, some: dict[int, _Told], answers: dict[int, Answer]) -> None:
    """Put messages of different devices to the controller, and answer them once they are durable."""
    told = [(one.claim, one.reports) for one in some.values()]
    try:
        refused = await app.controller.ask(partial(devices.report_all, told=told), frozenset(some))
    except Exception as error:
        answers.update((one.at, error) for one in some.values())
        return
    for one, why in zip(some.values(), refused, strict=True):
        answers[one.at] = why or ok({"durable_seq": one.claim.seq})


async def _flagged(app: IntakeApp, one: _Told, seen: str, answers: dict[int, Answer]) -> None:
    try:
        await flag(app, one.claim, seen)
        proofs.check_signatures(app.controller.state, one.claim, one.reports)
    except Exception as error:
        answers[one.at] = error
        return
    await _ask(app, {one.claim.index: one}, answers)
