"""A batch of questions, decided in their order; what single devices report is folded together, in columns."""

from __future__ import annotations

from typing import Any

from tidegate.control.batch_fold import fold_events, fold_reports
from tidegate.control.questions import Asked, settle
from tidegate.control.state import ServerState
from tidegate.log.events import Event


def decide_all(state: ServerState, batch: list[Asked], now_ms: int) -> tuple[list[Event], list[tuple[Asked, Any]]]:
    """Take each decision on a state that holds all before it; give the events, folded, and the answers.

    Questions that fail are told so here, and have no events.
    """
    events: list[Event] = []
    answers: list[tuple[Asked, Any]] = []
    reports: list[Event] = []
    reporters: set[int] = set()
    for asked in batch:
        if reports and not (asked.devices and reporters.isdisjoint(asked.devices)):
            fold_reports(state, reports)
            reports, reporters = [], set()
        try:
            made, answer = asked.decide(state, now_ms)
        except Exception as error:
            settle(asked, error)
            continue
        if not asked.devices:
            fold_events(state, made)
        elif made:  # what other devices report is the same with it as without it
            reports += made
            reporters |= asked.devices
        events += made
        answers.append((asked, answer))
    fold_reports(state, reports)
    return events, answers
