"""What a ClamAV signature looks for, as bytes: to make samples of, and inputs that keep the engine busy.

Formats: ClamAV's documentation, "Body-based signatures" (.ndb, .db) and "Logical signatures" (.ldb).
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

MOST_GAP = 4096
_GAP = re.compile(r"\{(\d*)-?\d*\}|\[(\d+)-\d+\]")
_EITHER = re.compile(r"!?\(([^()|]*)(?:\|[^()]*)?\)")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
SUFFIXES = (".db", ".ndb", ".ldb")


def has_bodies(file: str) -> bool:
    """Say whether a file's signatures look for bytes."""
    return PurePosixPath(file).suffix.lower() in SUFFIXES


def bodies_of(file: str, line: str) -> tuple[int, list[bytes]]:
    """Give (kind of target, what it looks for) of one signature; holes are filled with zeros.

    Kinds as ClamAV numbers them: 0 any file, 1 Windows programs, 6 ELF. What is not plain enough is left out.
    """
    suffix = PurePosixPath(file).suffix.lower()
    if suffix == ".db":
        return 0, _plain([line.partition("=")[2]])
    if suffix == ".ndb":
        _, target, offset, body = [*line.split(":"), "", "", ""][:4]
        (data,) = _plain([body]) or [b""]
        start = int(offset) if offset.isdecimal() and len(offset) < 6 else 0
        return _number(target), [bytes(start) + data] if data else []
    parts = line.split(";")
    target = re.search(r"Target:(\d+)", parts[1]) if len(parts) > 3 else None
    # A part may bear an offset before it and modifiers behind it: EP+0:cafe::i
    subs = [part.partition("::")[0].rpartition(":")[2] for part in parts[3:]]
    return _number(target[1] if target else ""), _plain(subs)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 4 else 0


def _plain(bodies: list[str]) -> list[bytes]:
    return [data for body in bodies if (data := _bytes(body.strip()))]


def _bytes(body: str) -> bytes:
    for _ in range(4):  # of alternatives the first
        body = _EITHER.sub(r"\1", body)
    body = _GAP.sub(lambda gap: "00" * min(int(gap[1] or gap[2] or 0), MOST_GAP), body).replace("*", "")
    digits = body.replace("?", "0")
    return bytes.fromhex(digits) if _HEX.fullmatch(digits) else b""
