"""The report for the board: written, signed with the ledger's key, and checked with no server and no network."""

from __future__ import annotations

import time
from pathlib import Path

from tidegate.cli.home import Home, default_home
from tidegate.cli.ledger import find_key
from tidegate.cli.ledger_home import open_ledger
from tidegate.cli.show import out, out_json
from tidegate.core.errors import BadInput, NotFound, Untrusted
from tidegate.exposure.estate import Estate
from tidegate.exposure.history import read_history
from tidegate.exposure.report import board_report, digest_text, split_signature, with_signature
from tidegate.trust.durable import read_bytes, write_durably
from tidegate.trust.note import Note, open_note, parse_key

KEY = "key "


def write_report(
    estate: Estate, file: Path, budget: int, history: Path | None, unsigned: bool, home: Path | None
) -> None:
    """Write the report. Raises BadInput, and NotFound where there is no key to sign with."""
    if file.suffix != ".html":
        raise BadInput(f"{file}: the report is an .html file")
    if not file.parent.is_dir():
        raise BadInput(f"{file.parent} is no directory; make it first")
    page = board_report(estate, time.time(), budget, read_history(history) if history else [])
    if not unsigned:
        page = _signed(page, Home(home or default_home()))
    write_durably(file, page.encode())
    out(f"Written: {file}" + (", not signed." if unsigned else f". Check it: tidegate exposure verify {file}"))


def _signed(page: str, place: Home) -> str:
    ledger = open_ledger(place) if place.path.is_dir() else None
    if ledger is None:
        raise NotFound(
            f"{place.path} has no ledger key to sign with; name a control plane with --home, or say --unsigned"
        )
    note = Note(digest_text(page) + KEY + ledger.signer.key.text() + "\n").signed_by(ledger.signer)
    return with_signature(page, note.data().decode())


def verify_report(file: Path, key: str, home: Path | None, json: bool) -> None:
    """Check a report's signature. Raises Untrusted if it does not hold."""
    text = read_bytes(file, "the report").decode("utf-8", "replace")
    page, note = split_signature(text)
    if not note:
        raise Untrusted(f"{file} is not signed")
    known = find_key(key, home)
    named = parse_key(_named(note))
    if known is not None and known != named:
        raise Untrusted(f"{file} is signed by {named.text()}, and not by {known.text()}")
    if open_note(note.encode(), named) != digest_text(page) + KEY + named.text() + "\n":
        raise Untrusted(f"{file} was changed after it was signed")
    if json:
        out_json({"file": str(file), "key": named.text(), "key_trusted": known is not None})
        return
    out(f"It holds: {file} is as it was signed.")
    if known is None:
        out("It names its key itself, so who made it is not shown. Compare the key, or give it with --key:")
    out(f"Key: {named.text()}")


def _named(note: str) -> str:
    for line in note.splitlines():
        if line.startswith(KEY):
            return line.removeprefix(KEY)
    raise Untrusted("the signature names no key")
