"""May this device change anything at this hour? Its owner's windows, its battery and its line, before it announces."""

from __future__ import annotations

import re
from dataclasses import dataclass

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 24 * 60
WEEK_MIN = 7 * DAY_MIN
_DAY = "(?:mon|tue|wed|thu|fri|sat|sun)"
_DAYS = re.compile(rf"{_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?)*\Z")
_HOURS = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)\Z")
WORDS = "a window is written as in 'mon-fri 22:00-06:00', '01:00-05:00' or 'sat,sun'"


@dataclass(frozen=True, slots=True)
class Window:
    """Minutes of the week, from Monday 00:00 local time; `ends` may lie in the next week."""

    begins: int
    ends: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the device knows of itself now; None for what it cannot tell.

    `minute` is the local minute of the week, from Monday 00:00. `wish` is a sentence of someone who asks it to wait.
    """

    minute: int
    battery_percent: int | None = None
    on_mains: bool | None = None
    metered: bool | None = None
    wish: str = ""


@dataclass(frozen=True, slots=True)
class NotNow:
    """Why the device waits, and for how many seconds at least (None: nobody knows)."""

    sentence: str
    wait_s: float | None = None


def parse_window(text: str) -> tuple[Window, ...]:
    """Read one window. One that ends before it begins goes on into the next day.

    Raises:
        ValueError: saying how a window is written.
    """
    words = text.lower().split()
    hours = _HOURS.match(words[-1]) if words else None
    days = words[:-1] if hours else words
    if len(days) > 1 or (days and not _DAYS.match(days[0])) or not words:
        raise ValueError(f"{text!r} is no maintenance window; {WORDS}")
    begins, ends = 0, DAY_MIN
    if hours:
        h1, m1, h2, m2 = map(int, hours.groups())
        begins, ends = h1 * 60 + m1, h2 * 60 + m2
        if m1 > 59 or m2 > 59 or begins >= DAY_MIN or ends > DAY_MIN or begins == ends:
            raise ValueError(f"{text!r} is no maintenance window: its hours are not; {WORDS}")
    ends += DAY_MIN if ends <= begins else 0
    return tuple(Window(day * DAY_MIN + begins, day * DAY_MIN + ends) for day in _days(days[0] if days else "mon-sun"))


def _days(text: str) -> list[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return sorted(found)


def opens_in(windows: tuple[str, ...], minute: int) -> int:
    """Give the minutes until a window is open: 0 if one is, or if there are none and so every hour is right."""
    spans = [span for text in windows for span in parse_window(text)]
    if not spans or any(span.begins <= at < span.ends for span in spans for at in (minute, minute + WEEK_MIN)):
        return 0
    return min((span.begins - minute) % WEEK_MIN for span in spans)


def may_not_fetch(conditions: Conditions, min_battery_percent: int, metered: str) -> NotNow | None:
    """Say why nothing large may be fetched now, or None. Windows do not count: fetching early is what they need."""
    if conditions.metered and metered == "avoid":
        return NotNow("not now: the line is metered")
    return _power(conditions, min_battery_percent)


def may_not_begin(conditions: Conditions, windows: tuple[str, ...], min_battery_percent: int) -> NotNow | None:
    """Say why the device may not ask for its lease now, or None.

    Asked before the lease alone: after it, whatever keeps a device from confirming counts against the candidate.
    """
    if conditions.wish:
        return NotNow(f"not now: {conditions.wish}")
    closed_min = opens_in(windows, conditions.minute)
    if closed_min:
        sentence = f"not now: its next maintenance window opens {_hour(conditions.minute + closed_min)} local time"
        return NotNow(f"{sentence} ({'; '.join(windows)})", closed_min * 60.0)
    return _power(conditions, min_battery_percent)


def _power(conditions: Conditions, least_percent: int) -> NotNow | None:
    charge = conditions.battery_percent
    if charge is None or conditions.on_mains or charge >= least_percent:
        return None
    return NotNow(f"not now: the battery has {charge} %, and no mains; at least {least_percent} % are asked for")


def _hour(minute: int) -> str:
    return f"{DAYS[minute // DAY_MIN % 7]} {minute % DAY_MIN // 60:02}:{minute % 60:02}"
