"""Weekends and bank holidays of the member states, for clocks that stand still on days off."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import holidays

from tidegate.contingency.clocks import Entity, IsHoliday
from tidegate.contingency.dora_values import EEA
from tidegate.core.errors import BadInput


def bank_holidays(country: str, more: Iterable[str] = ()) -> IsHoliday:
    """Give a test for days off in a member state, and on further days (YYYY-MM-DD). Raises BadInput."""
    if country and country not in EEA:
        raise BadInput(f"country must be a member state's code as in FR, not {country!r}")
    try:
        extra = frozenset(date.fromisoformat(one) for one in more)
    except ValueError as error:
        raise BadInput(f"a day off must be written as 2026-12-24: {error}") from None
    known: Any = holidays.country_holidays(country) if country else {}
    return lambda day: day in extra or day in known


def entity_of(values: dict[str, Any]) -> Entity:
    """Give what of an entity its clocks depend on, from a record. Raises BadInput."""
    zone = str(values.get("time_zone") or "UTC")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadInput(f"time_zone must be as in Europe/Paris, not {zone!r}") from None
    test = bank_holidays(str(values.get("country") or ""), values.get("days_off") or ())
    return Entity(zone, test, bool(values.get("strict_clocks")))
