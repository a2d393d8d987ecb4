"""The book: what was done in contingencies, as signed lines in one file that needs no server, network or database.

Each line holds the digest of the line before it and a signature. A line that was cut off by a power cut is dropped
when the next one is written; anything else that does not fit is said, with its line number.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.wire import canonical
from tidegate.trust.durable import make_directory, room_for, sync_dir, sync_file
from tidegate.trust.keys import create_key, key_path
from tidegate.trust.note import NoteKey, NoteSigner, load_note_signer

KEY = "contingency"
KEY_NAME = "tidegate-contingency"
MOST_LINE = 1_000_000
START = "0" * 64
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line: its number from 1, when, what, who, why, and what belongs to it."""

    seq: int
    at_ms: int
    what: str
    who: str
    why: str
    body: Json
    before: str
    digest: str


class Book:
    """One directory. Several processes may write: a line is added under a lock."""

    def __init__(self, directory: Path) -> None:
        """Name the place; nothing is made until something is written."""
        self.directory = directory
        self.file = directory / "book.jsonl"

    def signer(self) -> NoteSigner:
        """Give the book's key, made when it is first needed."""
        path = key_path(self.directory / "keys", KEY)
        if not path.exists():
            make_directory(self.directory, 0o700)
            create_key(self.directory / "keys", KEY)
        return load_note_signer(path, KEY_NAME)

    @property
    def key(self) -> NoteKey:
        """What its lines are verified with."""
        return self.signer().key

    def add(self, what: str, body: Json, *, who: str, why: str, at_ms: int) -> Entry:
        """Write one line and return once it is durable. Raises BadInput for one that is too long."""
        make_directory(self.directory, 0o700)
        signer = self.signer()
        with self._locked(), room_for(str(self.file)):
            entries, good = self._scan(signer.key)
            before = entries[-1].digest if entries else START
            told = {"seq": len(entries) + 1, "at_ms": at_ms, "what": what, "who": who, "why": why, "body": body}
            told["before"] = before
            line = canonical({**told, "signature": base64.b64encode(signer.sign(canonical(told))).decode()}) + b"\n"
            if len(line) > MOST_LINE:
                raise BadInput(f"that is more than {MOST_LINE:,} bytes for one entry")
            new = not self.file.exists()
            with open(self.file, "ab" if not new else "xb", buffering=0) as file:
                os.chmod(self.file, 0o600)
                file.truncate(good)
                file.write(line)
                sync_file(file.fileno())
            if new:
                sync_dir(self.directory)
        return Entry(digest=hashlib.sha256(line).hexdigest(), **told)

    def read(self) -> list[Entry]:
        """Give all lines, checked. Raises Untrusted, naming the first line that does not hold."""
        if not self.file.exists():
            return []
        return self._scan(self.signer().key)[0]

    def _scan(self, key: NoteKey) -> tuple[list[Entry], int]:
        """Give the entries, and the length of the file without a last line that was cut off."""
        if not self.file.exists():
            return [], 0
        data = self.file.read_bytes()
        good = data.rfind(b"\n") + 1
        return read_lines(data[:good], key, str(self.file)), good

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(self.directory / ".lock", "ab") as lock:
            if sys.platform != "win32":
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def read_lines(data: bytes, key: NoteKey, name: str) -> list[Entry]:
    """Read and check a book's lines. Raises Untrusted."""
    entries: list[Entry] = []
    before = START
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        try:
            value: Json = json.loads(line)
            signature = base64.b64decode(value.pop("signature"))
            entry = Entry(digest=hashlib.sha256(line).hexdigest(), **value)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Untrusted(f"{name}, line {number}: this is no line of a book; restore the file from a copy") from None
        if entry.seq != number or entry.before != before or not key.holds(canonical(value), signature):
            raise Untrusted(f"{name}, line {number}: it was changed, or one before it is missing; restore a copy")
        entries.append(entry)
        before = entry.digest
    return entries
