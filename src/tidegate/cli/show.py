"""How the command line speaks: tables for people, JSON for scripts, the same figures in both."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tidegate.core.errors import BadInput
from tidegate.core.printable import printable

console = Console(highlight=False)
PIPE_COLUMNS = 250
LIGHT = {
    "open": "green",
    "closed": "green",
    "advance": "green",
    "hold": "yellow",
    "paused": "yellow",
    "halted": "red",
    "halt": "red",
}


def out(text: str = "") -> None:
    """Print a line."""
    console.print(printable(text), markup=False, soft_wrap=True)


def out_json(value: Any) -> None:
    """Print one JSON value."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")  # json.dump writes piece by piece: ten times the time


def coloured(word: str) -> Text:
    """Give a phase or verdict its colour."""
    return Text(word, style=LIGHT.get(word, ""))


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]], *, empty: str) -> None:
    """Print a table; where there is nothing, a sentence that says what to do."""
    kept = [[cell if isinstance(cell, Text) else Text(printable(str(cell))) for cell in row] for row in rows]
    if not kept:
        out(empty)
        return
    sheet = Table(title=Text(printable(title)), title_justify="left", header_style="bold")
    for column in columns:
        sheet.add_column(Text(printable(column)), overflow="fold")
    for row in kept:
        sheet.add_row(*row)
    # In a pipe or a file nothing limits a line: each row stays one, and can be searched.
    wide = console if console.is_terminal else Console(highlight=False, width=max(console.width, PIPE_COLUMNS))
    wide.print(sheet)


def moment(ms: int | None) -> str:
    """Write a moment in UTC."""
    if not ms:
        return "never"
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(ms: int | None) -> str:
    """Write how long ago a moment was."""
    if not ms:
        return "never"
    return duration(max(time.time() - ms / 1000, 0)) + " ago"


def duration(seconds: float) -> str:
    """Write a duration in the largest units that tell it."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


UNITS_S = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def seconds_of(what: str, text: str) -> int:
    """Read a duration as in 90, 90s, 15m, 4h, 7d. Raises BadInput."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text[len(number) :] or "s"
    if not number.isdecimal() or unit not in UNITS_S:
        raise BadInput(f"{what} must be a duration as in 90s, 15m, 4h or 7d, not {text!r}")
    return int(number) * UNITS_S[unit]


def pairs_of(what: str, entries: Iterable[str]) -> dict[str, str]:
    """Read NAME=VALUE entries. Raises BadInput."""
    found: dict[str, str] = {}
    for entry in entries:
        name, sign, value = entry.partition("=")
        if not sign or not name or not value:
            raise BadInput(f"{what} must be NAME=VALUE, not {entry!r}")
        found[name] = value
    return found
