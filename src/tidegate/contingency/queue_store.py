"""Where a queue lies: its case, its own book, the technicians' tokens, and recovery keys that are shown once."""

from __future__ import annotations

import csv
import hmac
import io
import json
import re
import secrets
from pathlib import Path

from tidegate.contingency.book import Book, Entry
from tidegate.contingency.case import read_case
from tidegate.contingency.queue import AGAIN, CANT, DONE, GIVEN, KEY, OPENED, Queue, fold_queue
from tidegate.core.errors import BadInput, NotFound, Refused, Untrusted
from tidegate.trust.durable import make_directory, read_bytes, read_json, write_durably

LEAD = "*lead"


class QueueStore:
    """One queue's directory. What is reported is durable in its book before anybody is told."""

    def __init__(self, book: Book, name: str) -> None:
        """Name it. Raises BadInput for a name that cannot be a directory's."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", name):
            raise BadInput(f"a queue cannot be called {name!r}: letters, digits, dots and dashes")
        self.name = name
        self.directory = book.directory / "queues" / name
        self.book = Book(self.directory, keys=book.directory / "keys")
        self._queue: Queue | None = None
        self._seen = 0

    def open(self, case: Path, *, who: str, at_ms: int, incident: str = "") -> Queue:
        """Begin a queue from a case. Raises Refused where there is one of this name."""
        found = read_case(case)
        if self.book.file.exists():
            raise Refused(f"there is a queue {self.name} already; choose another --name")
        make_directory(self.directory, 0o700)
        write_durably(self.directory / f"case{case.suffix}", case.read_bytes(), 0o600)
        tokens = {t.name: secrets.token_urlsafe(16) for t in found.technicians} | {LEAD: secrets.token_urlsafe(16)}
        write_durably(self.directory / "tokens.json", json.dumps(tokens).encode(), 0o600)
        body = {"queue": self.name, "incident": incident, "devices": found.devices}
        self.book.add(OPENED, body, who=who, why="", at_ms=at_ms)
        return self.queue()

    def queue(self) -> Queue:
        """Give the queue as it stands now. Raises NotFound."""
        if not self.book.file.exists():
            known = (
                sorted(path.name for path in self.directory.parent.glob("*/")) if self.directory.parent.is_dir() else []
            )
            raise NotFound(
                f"there is no queue {self.name!r}; there are {', '.join(known) or 'none: tidegate recovery open'}"
            )
        fresh = self.book.read_new()
        if self._queue is None:
            case = next(iter(sorted(self.directory.glob("case.*"))), None)
            if case is None:
                raise NotFound(f"the case of queue {self.name} is not there")
            self._queue = fold_queue(self.name, read_case(case), fresh)
        else:
            for entry in fresh:
                self._queue.take(entry)
        return self._queue

    def tokens(self) -> dict[str, str]:
        """Give each technician's token, and the lead's."""
        return dict(read_json(self.directory / "tokens.json", "the technicians' tokens"))

    def who(self, token: str) -> str:
        """Say whose a token is. Raises Untrusted."""
        found = ""
        for name, known in self.tokens().items():
            if hmac.compare_digest(known.encode(), token.encode()):
                found = name
        if not found:
            raise Untrusted("this link is nobody's: ask for a new sheet")
        return found

    def next(self, technician: str, at_ms: int) -> int | None:
        """Give the item that a technician has or takes next; None where there is nothing for them."""
        queue = self.queue()
        mine = queue.has(technician)
        if mine is not None:
            return mine
        found = queue.next_for(technician, queue.hour(at_ms))
        if found is None:
            return None
        item, planned_h = found
        body = {"queue": self.name, "item": item, "technician": technician, "planned_h": planned_h}
        self._add(GIVEN, body, technician, at_ms)
        return item

    def done(self, item: int, technician: str, at_ms: int) -> None:
        """Report an item done; a repeated report changes nothing."""
        queue = self.queue()
        queue.check_name(technician)
        old = queue.items.get(item)
        if old is not None and old.state == "done" and old.technician == technician:
            return
        queue.check_open(item)
        self._add(DONE, {"queue": self.name, "item": item, "technician": technician}, technician, at_ms)

    def cant(self, item: int, technician: str, why: str, at_ms: int) -> None:
        """Report that an item cannot be done: it is put aside until somebody puts it back. BadInput without why."""
        if not why.strip():
            raise BadInput("say why it cannot be done")
        queue = self.queue()
        queue.check_name(technician)
        queue.check_open(item)
        body = {"queue": self.name, "item": item, "technician": technician, "why": why.strip()[:500]}
        self._add(CANT, body, technician, at_ms)

    def again(self, item: int, who: str, at_ms: int) -> None:
        """Put an item back that was put aside or given out."""
        self.queue().check_open(item)
        self._add(AGAIN, {"queue": self.name, "item": item}, who, at_ms)

    def import_keys(self, path: Path) -> int:
        """Take recovery keys in: lines of item number (or device name) and key. Gives how many. Raises BadInput."""
        queue = self.queue()
        by_name = {queue.label(item): item for item in range(1, queue.size + 1)}
        found = self._keys()
        text = read_bytes(path, "the recovery keys").decode("utf-8-sig", errors="replace")
        count = 0
        for number, row in enumerate(csv.reader(io.StringIO(text)), 1):
            if not row or row[0].strip().lower() in ("item", "device"):
                continue
            if len(row) != 2 or not row[1].strip():
                raise BadInput(f"{path}, line {number}: an item's number or a device's name, a comma, and its key")
            name = row[0].strip()
            item = int(name) if name.isdecimal() else by_name.get(name, 0)
            if not 1 <= item <= queue.size:
                # Not repeated: with the columns changed about it is the key.
                raise BadInput(
                    f"{path}, line {number}: there is no item of that name or number; it comes first, then its key"
                )
            found[str(item)], count = row[1].strip(), count + 1
        write_durably(self.directory / "keys.json", json.dumps(found).encode(), 0o600)
        return count

    def show_key(self, item: int, who: str, at_ms: int) -> str:
        """Give an item's recovery key, once. It is on record before it is shown, and gone from here afterwards.

        Raises:
            NotFound: if there is none.
            Refused: if it was shown before, saying to whom.
        """
        queue, keys = self.queue(), self._keys()
        queue.batch_of(item)
        if item in queue.keys_shown:
            raise Refused(f"the key of item {item} was shown to {queue.keys_shown[item]['who']}: ask the escrow for it")
        key = keys.pop(str(item), None)
        if key is None:
            raise NotFound(f"there is no recovery key for item {item}: tidegate recovery keys takes them in")
        self._add(KEY, {"queue": self.name, "item": item}, who, at_ms)
        write_durably(self.directory / "keys.json", json.dumps(keys).encode(), 0o600)
        return key

    def has_key(self, item: int) -> bool:
        """Say whether an item has a key that was not shown yet."""
        return str(item) in self._keys()

    def _keys(self) -> dict[str, str]:
        path = self.directory / "keys.json"
        return dict(read_json(path, "the recovery keys")) if path.exists() else {}

    def _add(self, what: str, body: dict[str, object], who: str, at_ms: int) -> Entry:
        entry = self.book.add(what, body, who=who, why="", at_ms=at_ms)
        self.queue()
        return entry
