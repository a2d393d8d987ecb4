"""A backup's file: a tar of a control plane's home and of its log as records, sealed by a list of digests."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from tidegate.core.errors import BadInput, Untrusted
from tidegate.log.batch import Batch, unpack
from tidegate.log.pack import pack

LOG = "log.records"
SEAL = "seal.json"
FORM = 1
MOST_RECORD = 256 << 20
_NOT_KEPT = ("log.db", "log.db-wal", "log.db-shm", "log.json", "server.json")
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Seal:
    """What a backup says of itself."""

    at_s: int
    events: int
    files: dict[str, str]
    """Name -> SHA-256, of every file in it but this list."""


def files_of(home: Path) -> list[Path]:
    """List what belongs in a backup besides the log, in the order in which it must be copied.

    What names other files comes before them, so that a server that goes on writing does not spoil the copy: the log,
    which everything follows from, is copied last of all.
    """
    found = [
        path
        for path in sorted(home.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and path.suffix != ".tmp"
        and path.relative_to(home).parts[0] not in (*_NOT_KEPT, "checkpoints")
        and not path.name.startswith("collector-")
    ]
    return sorted(found, key=lambda path: path.name not in ("timestamp.json", "ledger.checkpoint", "checkpoint"))


def write_backup(into: Path, home: Path, batches: Iterable[tuple[int, Batch]], at_s: int) -> Seal:
    """Write a backup to a new file, readable by its owner alone; it is durable when this returns.

    Raises:
        BadInput: if the file is there already or cannot be written.
        LogError: if the log cannot be read. Then there is no file.
    """
    part = into.with_name(f".{into.name}.part")
    try:
        if into.exists():
            raise BadInput(f"{into} is there already; name another file")
        with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
            seal = _write(file, home, batches, at_s, part.with_suffix(".log"))
            file.flush()
            os.fsync(file.fileno())
        os.rename(part, into)
        return seal
    except OSError as error:
        raise BadInput(f"{into} cannot be written: {error.strerror or error}") from error
    finally:
        for left in (part, part.with_suffix(".log")):
            left.unlink(missing_ok=True)


def _write(file: IO[bytes], home: Path, batches: Iterable[tuple[int, Batch]], at_s: int, spool: Path) -> Seal:
    digests: dict[str, str] = {}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in files_of(home):
            name = path.relative_to(home).as_posix()
            with suppress(FileNotFoundError):  # an old edition that was tidied away meanwhile
                digests[f"home/{name}"] = _add(tar, f"home/{name}", path.read_bytes(), path.stat().st_mode & 0o777)
        events = 0
        with os.fdopen(os.open(spool, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as log:
            for _, batch in batches:
                body = pack(batch.events)
                log.write(struct.pack("<I", len(body)) + body)
                events += batch.count
        with spool.open("rb") as log:
            info = tarfile.TarInfo(LOG)
            info.size, info.mode = spool.stat().st_size, 0o600
            tar.addfile(info, log)
        with spool.open("rb") as log:
            digests[LOG] = hashlib.file_digest(log, "sha256").hexdigest()
        seal = Seal(at_s, events, digests)
        body = {"form": FORM, "at_s": at_s, "events": events, "files": digests}
        _add(tar, SEAL, json.dumps(body, indent=1).encode(), 0o600)
    return seal


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> str:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))
    return hashlib.sha256(data).hexdigest()


class BackupFile:
    """A backup, verified as it is opened: every file is there, is what the seal says, and nothing else is.

    Raises:
        BadInput: if it is none, or cannot be read.
        Untrusted: if it is damaged or not whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115 - open for as long as this object lives
            self._members = {member.name: member for member in self._tar.getmembers()}
            self.seal = self._sealed()
        except (OSError, tarfile.TarError, EOFError) as error:
            raise BadInput(f"{path} is no backup, or is cut short: {error}") from error

    def _sealed(self) -> Seal:
        if SEAL not in self._members:
            raise Untrusted(f"{self.path} has no seal: it is no backup, or is cut short")
        try:
            found: dict[str, Any] = json.loads(self._bytes(SEAL))
            seal = Seal(int(found["at_s"]), int(found["events"]), dict(found["files"]))
            form = found["form"]
        except (ValueError, KeyError, TypeError) as error:
            raise Untrusted(f"the seal of {self.path} cannot be read: {error}") from error
        if form != FORM:
            raise BadInput(f"{self.path} is a backup of form {form}; this Tidegate reads form {FORM}")
        if set(self._members) != {*seal.files, SEAL}:
            strange = sorted(set(self._members) ^ {*seal.files, SEAL})
            raise Untrusted(f"{self.path} does not hold what its seal lists: {strange[0]}")
        for name, digest in seal.files.items():
            parts = PurePosixPath(name).parts
            safe = name == LOG or (parts[0] == "home" and len(parts) > 1 and ".." not in parts)
            if not safe or not self._members[name].isreg():
                raise Untrusted(f"{self.path} holds a file that no backup has: {name}")
            with self._open(name) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:  # pyright: ignore[reportArgumentType]
                    raise Untrusted(f"{self.path} is damaged: {name} is not what was written")
        return seal

    def _open(self, name: str) -> IO[bytes]:
        file = self._tar.extractfile(self._members[name])
        assert file is not None, "only regular files are opened"
        return file

    def _bytes(self, name: str) -> bytes:
        with self._open(name) as file:
            return file.read()

    def home_files(self) -> Iterator[tuple[str, bytes, int]]:
        """Give the home's files: path below it, content, mode."""
        for name in self.seal.files:
            if name != LOG:
                yield name.removeprefix("home/"), self._bytes(name), self._members[name].mode & 0o777

    def batches(self) -> Iterator[Batch]:
        """Give the log's records. Raises Untrusted for one that cannot be read."""
        with self._open(LOG) as file:
            yield from read_records(file)


def read_records(file: IO[bytes]) -> Iterator[Batch]:
    """Read length-prefixed records. Raises Untrusted at one that is cut short or none."""
    while head := file.read(4):
        size = struct.unpack("<I", head.ljust(4, b"\xff"))[0]
        body = file.read(size) if size <= MOST_RECORD else b""
        if len(body) != size:
            raise Untrusted("the log's records are cut short")
        try:
            yield unpack(body)
        except ValueError as error:
            raise Untrusted(f"a record of the log cannot be read: {error}") from error
