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

from tidegate.core.errors import BadInput, NotFound, Untrusted
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

    def __init__(self, directory: Path, *, keys: Path | None = None) -> None:
        """Name the place; nothing is made until something is written. `keys` is where its key lies, if elsewhere."""
        self.directory = directory
        self.file = directory / "book.jsonl"
        self._keys = keys or directory / "keys"
        self._read_to, self._read_seq, self._read_digest = 0, 0, START

    def signer(self) -> NoteSigner:
        """Give the book's key, made when it is first needed."""
        path = key_path(self._keys, KEY)
        if not path.exists():
            make_directory(self.directory, 0o700)
            make_directory(self._keys.parent, 0o700)
            create_key(self._keys, KEY)
        return load_note_signer(path, KEY_NAME)

    def known_key(self) -> NoteKey:
        """Give the key that the book has; verifying makes none. Raises NotFound where there is no book yet."""
        path = key_path(self._keys, KEY)
        if not path.exists():
            raise NotFound(f"there is no book in {self.directory} whose key could be meant; give one with --key")
        return load_note_signer(path, KEY_NAME).key

    @property
    def key(self) -> NoteKey:
        """What its lines are verified with."""
        return self.signer().key

    def add(self, what: str, body: Json, *, who: str, why: str, at_ms: int) -> Entry:
        """Write one line and return once it is durable. Raises BadInput for one that is too long."""
        make_directory(self.directory, 0o700)
        signer = self.signer()
        with self._locked(), room_for(str(self.file)):
            seq, before, good = self._tail()
            told = {"seq": seq + 1, "at_ms": at_ms, "what": what, "who": who, "why": why, "body": body}
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

    def read_new(self) -> list[Entry]:
        """Give the lines since the last time this was asked, checked. Raises Untrusted."""
        if not self.file.exists():
            return []
        with open(self.file, "rb") as file:
            file.seek(self._read_to)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        found = read_lines(data, self.signer().key, str(self.file), self._read_seq, self._read_digest) if data else []
        if found:
            self._read_to, self._read_seq, self._read_digest = (
                self._read_to + len(data),
                found[-1].seq,
                found[-1].digest,
            )
        return found

    def _tail(self) -> tuple[int, str, int]:
        """Give the last whole line's number and digest, and the length of the file up to there."""
        if not self.file.exists():
            return 0, START, 0
        with open(self.file, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 2 * MOST_LINE))
            data = file.read()
        end = data.rfind(b"\n") + 1
        good = size - (len(data) - end)
        line = data[data.rfind(b"\n", 0, max(end - 1, 0)) + 1 : end]
        if not line:
            return 0, START, good
        try:
            return int(json.loads(line)["seq"]), hashlib.sha256(line).hexdigest(), good
        except (ValueError, KeyError, TypeError):
            raise Untrusted(
                f"the last line of {self.file} is no line of a book; restore the file from a copy"
            ) from None

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


def read_lines(data: bytes, key: NoteKey, name: str, after: int = 0, before: str = START) -> list[Entry]:
    """Read and check a book's lines that follow line `after`, whose digest is `before`. Raises Untrusted."""
    entries: list[Entry] = []
    for number, line in enumerate(data.split(b"\n")[:-1], after + 1):
        line += b"\n"
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
