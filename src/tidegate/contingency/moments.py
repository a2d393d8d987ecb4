"""Moments and durations as people write them in records: UTC, to the second."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from tidegate.core.errors import BadInput

_MOMENT = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?(?:\.\d+)? ?(Z|UTC|\+00:00)?")


def moment_of(what: str, text: str) -> datetime:
    """Read a moment in UTC, as in 2026-07-19T04:09:00Z. Raises BadInput."""
    found = _MOMENT.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        return datetime(*(int(part or 0) for part in found.groups()[:6]), tzinfo=UTC)  # pyright: ignore
    except ValueError:
        raise BadInput(f"{what} must be a moment in UTC as in 2026-07-19T04:09:00Z, not {text!r}") from None


def moment_text(at: datetime) -> str:
    """Write a moment as the reports want it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def from_ms(ms: int) -> datetime:
    """Read milliseconds since 1970."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def span(seconds: float) -> str:
    """Write a span of time for people: 3 d 4 h, 2 h 05 min, 40 s."""
    seconds = abs(seconds)
    if seconds >= 86_400:
        return f"{seconds // 86_400:.0f} d {seconds % 86_400 // 3600:.0f} h"
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    return f"{seconds // 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def days_hours_minutes(seconds: float) -> str:
    """Write a duration as DD:HH:MM."""
    minutes = int(seconds // 60)
    return f"{minutes // 1440:02d}:{minutes // 60 % 24:02d}:{minutes % 60:02d}"
