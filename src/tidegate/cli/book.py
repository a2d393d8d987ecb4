"""The book on the command line: where it lies, who writes, and how its lines get into a control plane's ledger."""

from __future__ import annotations

import getpass
import os
import time
from pathlib import Path
from typing import Any

from tidegate.cli.home import Home, default_home
from tidegate.cli.office import OfficeClient
from tidegate.cli.show import out
from tidegate.contingency.book import Book, Entry
from tidegate.core.errors import TidegateError


def now_ms() -> int:
    """Give the time now."""
    return int(time.time() * 1000)


def me(who: str = "") -> str:
    """Name who acts: as told, or the account's user."""
    try:
        return who or getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def open_book(home: Path | None) -> Book:
    """Find the book: $TIDEGATE_BOOK, or `contingency` in the control plane's directory. It needs no control plane."""
    told = os.environ.get("TIDEGATE_BOOK")
    return Book(Path(told) if told else (home or default_home()) / "contingency")


def write(home: Path | None, what: str, body: dict[str, Any], *, who: str = "", why: str = "", at: int = 0) -> Entry:
    """Add a line to the book, and have the control plane enter its digest into the ledger if one runs here."""
    entry = open_book(home).add(what, body, who=me(who), why=why, at_ms=at or now_ms())
    anchor(home, entry)
    return entry


def anchor(home: Path | None, entry: Entry) -> bool:
    """Enter a line's digest into the ledger. Where no server answers the book stands for itself."""
    place = Home(home or default_home())
    if not place.operator_token.is_file() or not place.address.is_file():
        return False
    subject = next((entry.body[name] for name in ("incident", "drill", "queue", "notice") if name in entry.body), "")
    told = {"what": entry.what, "subject": str(subject), "record_sha256": entry.digest, "line": entry.seq}
    if "result" in entry.body:
        told["result"] = entry.body["result"]
    try:
        OfficeClient(home).post("/api/v1/records", told, entry.why[:500])
    except TidegateError as error:
        out(f"Not in the ledger yet ({error}). The book has it, signed: line {entry.seq}.")
        return False
    return True
