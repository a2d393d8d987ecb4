"""Checkpoints: the state at one point of the log, in a file, so that a start reads what came after it alone.

A checkpoint is a shortcut and never a source: it counts only with the log that it was made from, under the code that
made it, and whole; otherwise the log is read from its first event.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tidegate.control.graph import NoGraph, read_graph, write_graph
from tidegate.control.state import ServerState
from tidegate.core.errors import TidegateError
from tidegate.log.batch import Batch
from tidegate.log.port import Log, LogError, LogReader
from tidegate.trust.durable import make_directory, room_for, sync_dir, sync_file

KEPT = 2
EVERY_EVENTS = 2_000_000


@dataclass(frozen=True, slots=True)
class About:
    """What a checkpoint says of the log and the code that it belongs to."""

    seq: int
    seal: str
    mark: bytes


class CannotKeep(TidegateError):
    """A checkpoint could not be written; the log has everything."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after event `seq`."""

    seq: int
    state: ServerState


@cache
def code_print() -> str:
    """Give a digest of the code that folds: state of another code is not read, but folded anew."""
    digest = hashlib.sha256()
    base = Path(__file__).parents[1]
    for room in ("core", "log", "control"):
        for path in sorted((base / room).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


class Checkpoints:
    """The directory of a control plane's checkpoints: `<last event>.checkpoint`, the newest two.

    `every`: after how many events one more is due.
    """

    def __init__(self, directory: Path, every: int = EVERY_EVENTS) -> None:
        self.directory, self.every = directory, every
        self.trouble = ""

    def save(self, log: Log, state: ServerState) -> Path | None:
        """Write a checkpoint of the state after the log's last event. A failure is no harm: it is said in `trouble`."""
        try:
            path = self.write(about(log), state, {})
            self.trouble = ""
            return path
        except Exception as error:  # whatever it is, the log has everything
            self.trouble = str(error)
            return None

    def write(self, head: About, state: ServerState, rows: Mapping[int, int]) -> Path:
        """Write a checkpoint of the state as it was when `about` looked at the log.

        `rows` says of arrays that another process may write to, by `id`, how many rows are the state's.

        Raises:
            Exception: of any kind; nothing is left of it on the disk then.
        """
        try:
            make_directory(self.directory, 0o700)
            self._sweep()
            path = self.directory / f"{head.seq:020}.checkpoint"
            temporary = path.with_suffix(".tmp")
            with (
                room_for("a checkpoint"),
                open(os.open(temporary, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600), "wb") as file,
            ):
                value = {"seal": head.seal, "seq": head.seq, "state": state}
                write_graph(file, value, head.mark, rows)
                file.flush()
                sync_file(file.fileno())
            os.replace(temporary, path)
            sync_dir(self.directory)
            for old in self._files()[KEPT:]:
                old.unlink(missing_ok=True)
            return path
        except Exception as error:
            self._sweep()  # on a full disk a part of it would keep the log from going on
            raise CannotKeep(f"no checkpoint could be written: {error}") from error

    def _sweep(self) -> None:
        """Remove what was begun and never finished."""
        for part in self.directory.glob("*.tmp"):
            with contextlib.suppress(OSError):
                part.unlink()

    def newest(self, log: LogReader, beyond: int = 0) -> Checkpoint | None:
        """Give the newest one, after event `beyond`, that belongs to this log and this code, or None."""
        for path in self._files():
            if path.stem.isdecimal() and int(path.stem) < beyond:
                break
            with contextlib.suppress(NoGraph, OSError, LogError, MemoryError):
                found = read_graph(path, self.room(), _mark())
                if found["seq"] <= log.last and found["seal"] == seal(log, found["seq"]):
                    found["state"].devices.keep_in(self.room())
                    return Checkpoint(found["seq"], found["state"])
        return None

    def room(self) -> str:
        """Give the directory for columns that are seldom looked at, or "": they are in memory then."""
        try:
            make_directory(self.directory, 0o700)
        except (OSError, TidegateError):
            return ""
        return str(self.directory)

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob("*.checkpoint"), reverse=True) if self.directory.is_dir() else []


def _mark() -> bytes:
    return hashlib.sha256(code_print().encode()).digest()


def about(log: Log) -> About:
    """Say to what a checkpoint that is made now belongs. Raises LogError."""
    return About(log.last, seal(log), _mark())


def seal(log: LogReader, seq: int | None = None) -> str:
    """Give a digest of the record that holds an event, the log's last unless another is named."""
    at = log.last if seq is None else seq
    if at == 0:
        return ""
    for first, batch in log.read_batches(at - 1):
        return record_seal(first, batch)
    return ""


def record_seal(first: int, batch: Batch) -> str:
    """Give a digest of one record, and of the number of its first event."""
    digest = hashlib.sha256(f"{first} {batch.count}".encode())
    for text in (batch.texts, [body for _, body in batch.others]):
        digest.update(repr(text).encode())
    for columns in (batch.leased, batch.reported, batch.enrolled):
        for name, column in sorted(columns.fields.items()) if columns is not None else ():
            digest.update(name.encode() + column.tobytes())
    return digest.hexdigest()
