"""What the book knows of drills: when each plan was drilled last, and how it went."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any

from tidegate.contingency.book import Entry
from tidegate.contingency.moments import from_ms

RUN = "drill_run"


def last_drilled(entries: Iterable[Entry]) -> dict[str, date]:
    """Give for each plan the day of its last drill that was played to its end."""
    found: dict[str, date] = {}
    for entry in entries:
        if entry.what == RUN:
            found[entry.body["drill"]] = from_ms(entry.at_ms).date()
    return found


def results(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Give all drills, the oldest first."""
    return [{"at_ms": one.at_ms, "who": one.who, "line": one.seq, **one.body} for one in entries if one.what == RUN]
