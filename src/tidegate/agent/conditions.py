"""What a device can tell of itself now: the hour, its battery, and the hints that others leave in `hints.json`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tidegate.agent.notnow import DAY_MIN, Conditions

POWER = Path("/sys/class/power_supply")
WISH_LENGTH = 200
_MAINS = frozenset({"Mains", "USB", "Wireless"})


def look_around(wall_s: float, hints: Path, power: Path = POWER) -> Conditions:
    """Give the conditions of this moment; what cannot be read is not known, and holds nobody up.

    Args:
        wall_s: the wall clock, unix seconds; windows are in the machine's local time.
        hints: a file with any of `metered`, `on_mains` (true, false), `battery_percent` (0 to 100) and `not_now`
            (a sentence); it wins over what the machine says. Whoever knows writes it: a dispatcher script, an owner.
        power: Linux's directory of power supplies.
    """
    local = time.localtime(wall_s)
    minute = local.tm_wday * DAY_MIN + local.tm_hour * 60 + local.tm_min
    said = _hints(hints)
    charge, mains = _supplies(power)
    percent, wish = said.get("battery_percent"), said.get("not_now")
    return Conditions(
        minute,
        int(percent) if isinstance(percent, int | float) and 0 <= percent <= 100 else charge,
        _flag(said, "on_mains") if "on_mains" in said else mains,
        _flag(said, "metered"),
        " ".join(wish.split())[:WISH_LENGTH] if isinstance(wish, str) else "",
    )


def _hints(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _flag(said: dict[str, Any], name: str) -> bool | None:
    return said[name] if isinstance(said.get(name), bool) else None


def _supplies(power: Path) -> tuple[int | None, bool | None]:
    """Give the machine's own charge in percent (the fullest of its batteries), and whether it is on mains."""
    charges: list[int] = []
    mains: bool | None = None
    try:
        supplies = sorted(power.iterdir())
    except OSError:
        return None, None
    for supply in supplies:
        kind = _word(supply / "type")
        if kind == "Battery" and _word(supply / "scope") != "Device":  # not a mouse's
            if (charge := _word(supply / "capacity")).isdecimal():
                charges.append(min(100, int(charge)))
        elif kind in _MAINS and (online := _word(supply / "online")):
            mains = bool(mains) or online != "0"
    return (max(charges) if charges else None), mains


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
