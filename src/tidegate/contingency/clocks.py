"""The legal clocks of an incident: by when which report is due, and why; nothing is sent by itself.

DORA: (EU) 2025/301 art. 5. NIS2: (EU) 2022/2555 art. 23(4). CRA: (EU) 2024/2847 art. 14. A month is a calendar month:
it ends on the day of the same number, or on the last day of a shorter month (Regulation 1182/71 art. 3).
"""

from __future__ import annotations

import calendar
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

HOURS = timedelta(hours=1)
WEEKEND = (5, 6)
IsHoliday = Callable[[date], bool]


@dataclass(frozen=True, slots=True)
class Clock:
    """One deadline. `due` None: it does not run yet, `rule` says what starts it. `sent` is when that was handed in."""

    regime: str
    stage: str
    due: datetime | None
    rule: str
    sent: datetime | None = None

    def left_s(self, now: datetime) -> float | None:
        """Give the seconds that are left, negative when it is late."""
        return None if self.due is None else (self.due - now).total_seconds()


@dataclass(frozen=True, slots=True)
class Entity:
    """What of a financial entity the clocks depend on: its country's days off, and whether they count for it at all."""

    zone: str = "UTC"
    is_holiday: IsHoliday = lambda day: False
    strict: bool = False
    """A credit institution, central counterparty, trading venue, or an entity that is essential or important: initial
    and intermediate reports are due on days off too (art. 5(5))."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The moments that start clocks, as far as they are known."""

    aware: datetime | None = None
    classified: datetime | None = None
    fix_available: datetime | None = None
    kind: str = "incident"
    """For the CRA: `incident` (severe incident) or `vulnerability` (actively exploited)."""
    sent: dict[str, list[datetime]] | None = None
    """`dora-initial` and so on -> when it was handed in, oldest first."""

    def first(self, name: str) -> datetime | None:
        """Give when a report was first handed in."""
        found = (self.sent or {}).get(name)
        return found[0] if found else None

    def last(self, name: str) -> datetime | None:
        """Give when a report was last handed in."""
        found = (self.sent or {}).get(name)
        return found[-1] if found else None


def month_after(at: datetime) -> datetime:
    """Give the same day and time one calendar month later, or the last day of a shorter month."""
    year, month = (at.year + 1, 1) if at.month == 12 else (at.year, at.month + 1)
    return at.replace(year=year, month=month, day=min(at.day, calendar.monthrange(year, month)[1]))


def next_noon(due: datetime, entity: Entity) -> datetime:
    """Move a deadline that falls on a weekend or bank holiday to noon of the next working day, local time."""
    zone = ZoneInfo(entity.zone)
    day = due.astimezone(zone).date()
    if not _off(day, entity):
        return due
    while _off(day, entity):
        day += timedelta(days=1)
    return datetime(day.year, day.month, day.day, 12, tzinfo=zone).astimezone(UTC)


def _off(day: date, entity: Entity) -> bool:
    return day.weekday() in WEEKEND or entity.is_holiday(day)


def dora_clocks(facts: Facts, entity: Entity) -> list[Clock]:
    """Give DORA's three clocks."""
    initial = _dora_initial(facts)
    rule = "within 4 h of classification as major, and 24 h of awareness"
    if facts.aware and facts.classified and facts.classified > facts.aware + 24 * HOURS:
        rule = "within 4 h of classification as major, which came later than 24 h after awareness"
    found = [
        _moved(Clock("DORA", "initial", initial, rule, facts.first("dora-initial")), entity, may=not entity.strict)
    ]
    began = facts.first("dora-initial")
    due = None if began is None else began + 72 * HOURS
    rule = "within 72 h of submitting the initial notification, and again when activities are back"
    sent = facts.first("dora-intermediate")
    found.append(_moved(Clock("DORA", "intermediate", due, rule, sent), entity, may=not entity.strict))
    latest = facts.last("dora-intermediate")
    due = None if latest is None else month_after(latest)
    rule = "within a month of the latest intermediate report"
    found.append(_moved(Clock("DORA", "final", due, rule, facts.first("dora-final")), entity, may=True))
    return found


def _dora_initial(facts: Facts) -> datetime | None:
    if facts.classified is None:
        return None
    four = facts.classified + 4 * HOURS
    if facts.aware is None or facts.classified > facts.aware + 24 * HOURS:
        return four
    return min(four, facts.aware + 24 * HOURS)


def _moved(clock: Clock, entity: Entity, *, may: bool) -> Clock:
    if clock.due is None or not may:
        return clock
    due = next_noon(clock.due, entity)
    if due == clock.due:
        return clock
    rule = f"{clock.rule}; it falls on a day off, so by noon of the next working day"
    return Clock(clock.regime, clock.stage, due, rule, clock.sent)


def nis2_clocks(facts: Facts) -> list[Clock]:
    """Give NIS2's three clocks."""
    aware, notified = facts.aware, facts.first("nis2-notification")
    return [
        Clock("NIS2", "early-warning", _plus(aware, 24), "within 24 h of awareness", facts.first("nis2-early-warning")),
        Clock("NIS2", "notification", _plus(aware, 72), "within 72 h of awareness", notified),
        Clock(
            "NIS2",
            "final",
            None if notified is None else month_after(notified),
            "within a month of submitting the notification",
            facts.first("nis2-final"),
        ),
    ]


def cra_clocks(facts: Facts) -> list[Clock]:
    """Give the CRA's three clocks, for manufacturers of products with digital elements."""
    aware, notified = facts.aware, facts.first("cra-notification")
    if facts.kind == "vulnerability":
        fix = facts.fix_available
        final, rule = None if fix is None else fix + timedelta(days=14), "within 14 days of a fix being available"
    else:
        final = None if notified is None else month_after(notified)
        rule = "within a month of submitting the notification"
    return [
        Clock("CRA", "early-warning", _plus(aware, 24), "within 24 h of awareness", facts.first("cra-early-warning")),
        Clock("CRA", "notification", _plus(aware, 72), "within 72 h of awareness", notified),
        Clock("CRA", "final", final, rule, facts.first("cra-final")),
    ]


def _plus(at: datetime | None, hours: int) -> datetime | None:
    return None if at is None else at + hours * HOURS
