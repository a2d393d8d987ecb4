"""What the server writes into its own diary about events that have become durable: one structured line each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import structlog

from tidegate.control.metrics import Meters
from tidegate.control.state import ServerState
from tidegate.core.model import Outcome
from tidegate.log.events import Act, Enrolled, Event, Leased, PlanPublished, Reported, RingClosed, VerdictTaken

_SAFE = ("rollout", "component", "digest", "release", "index", "indexes", "group", "token_id", "ceiling_2p32")
"""Parts of an act's body that may be read by whoever reads the diary: no hash, no secret, no roster."""


def tell(events: Sequence[Event], state: ServerState, meters: Meters) -> None:
    """Write one line for each event; those of single devices at level debug, but what went wrong with one at info.

    Args:
        events: what has just become durable.
        state: which holds them.
        meters: where verdicts are counted.
    """
    log = structlog.get_logger().bind()
    if not log.is_enabled_for(logging.DEBUG):  # what a fleet says by the thousand is not even looked at then
        events = [event for event in events if not _is_usual(event)]
    for event in events:
        match event:
            case Leased():
                log.debug(
                    "leased",
                    rollout=event.rollout,
                    device=event.index,
                    ring=event.ring,
                    arm=event.arm.value,
                    late=event.late,
                )
            case Reported():
                _report(log, event, state)
            case Enrolled():
                log.debug("enrolled", device=event.index, device_id=event.device_id, token=event.token_id)
            case VerdictTaken():
                verdict = event.verdict
                component = state.rollouts[event.rollout].spec.component
                meters.verdicts.labels(component, verdict.kind.value).inc()
                log.info(
                    "verdict",
                    rollout=event.rollout,
                    verdict=verdict.kind.value,
                    ring=verdict.ring,
                    sentence=verdict.sentence,
                )
            case RingClosed():
                log.info("ring closed", rollout=event.rollout, ring=event.closed.ring)
            case PlanPublished():
                plan = event.plan
                log.info(
                    "plan published",
                    rollout=event.rollout,
                    component=event.component,
                    edition=event.version,
                    state=plan.get("state"),
                    ring=plan.get("ring"),
                )
            case Act():
                safe = {key: event.body[key] for key in _SAFE if key in event.body}
                if isinstance(devices := event.body.get("devices"), int):  # how many, and never which
                    safe["devices"] = devices
                log.info("act", act=event.what, who=event.who, why=event.why, **safe)
            case _:
                log.debug(type(event).__name__.lower(), device=getattr(event, "index", None))


def _is_usual(event: Event) -> bool:
    return isinstance(event, Leased) or (isinstance(event, Reported) and event.outcome is Outcome.CONFIRMED)


def _report(log: Any, event: Reported, state: ServerState) -> None:
    if event.outcome is Outcome.CONFIRMED:
        log.debug("confirmed", rollout=event.rollout, device=event.index, ring=event.ring)
    else:
        log.info(
            "reverted",
            rollout=event.rollout,
            device=event.index,
            device_id=state.devices.device_id(event.index),
            ring=event.ring,
            note=event.note,
        )
