"""A release's payload: packed the same way every time, stored by digest, unpacked with distrust."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
import unicodedata
from pathlib import Path
from typing import BinaryIO

from tidegate.core.errors import BadInput, NotFound, Refused, Untrusted
from tidegate.core.model import Payload
from tidegate.trust import layout
from tidegate.trust.durable import make_directory, room_for, sync_dir, sync_file, write_durably

PAYLOAD_LIMIT = 512 * 1024 * 1024
FILES_LIMIT = 100_000
_CHUNK = 1 << 20
# Windows gives these names to devices, and drops trailing dots and spaces.
_UNFIT = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?\Z|.*[. ]\Z|.*[\x00-\x1f\x7f<>:\"|?*\\]|\.{0,2}\Z")


def pack_payload(directory: Path, limit: int = PAYLOAD_LIMIT) -> bytes:
    """Pack a directory's regular files into a tar, byte for byte the same for the same content and owner-x bits.

    Empty directories are left out.

    Raises:
        BadInput: for a link or device, a name that some system cannot hold, no file at all, or more than `limit` bytes.
    """
    if not directory.is_dir():
        raise NotFound(f"there is no directory {directory} to pack")
    names = _regular_files(directory)
    if not names:
        raise BadInput(f"{directory} holds no file; a payload needs at least one")
    total = sum((directory / name).stat().st_size for name in names)
    if total > limit or len(names) > FILES_LIMIT:
        raise BadInput(f"{directory} holds {len(names)} files of {total} bytes; at most {FILES_LIMIT} and {limit} fit")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT, encoding="utf-8") as archive:
        for name in names:
            data = (directory / name).read_bytes()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755 if (directory / name).stat().st_mode & stat.S_IXUSR else 0o644
            try:
                archive.addfile(info, io.BytesIO(data))
            except ValueError as error:
                raise BadInput(f"{name!r} cannot be packed: {error}; shorten the path") from None
    return buffer.getvalue()


def describe_payload(data: bytes) -> Payload:
    """Give what a manifest says of a packed payload.

    Raises:
        BadInput: if it is no archive that `unpack_payload` would take.
    """
    members = _members(io.BytesIO(data))
    digest = hashlib.sha256(data).hexdigest()
    return Payload(digest, len(data), len(members), sum(member.size for member in members))


def verify_payload(path: Path, payload: Payload) -> None:
    """Check a file's length and SHA-256 against the manifest.

    Raises:
        NotFound: if there is no such file.
        Untrusted: if it is not this payload.
    """
    try:
        with path.open("rb") as file:
            _verify(file, payload)
    except FileNotFoundError:
        raise NotFound(f"the payload is not there: {path}") from None


def store_payload(repo: Path, data: bytes, payload: Payload) -> Path:
    """Put a payload into the repository, durably; safe to repeat. Raises Untrusted if it is not this payload."""
    _verify(io.BytesIO(data), payload)
    path = repo / layout.payload_path(payload.sha256)
    make_directory(path.parent)
    write_durably(path, data)
    return path


def unpack_payload(path: Path, destination: Path, payload: Payload) -> None:
    """Unpack a payload so that `destination` appears whole and durable, or not at all.

    The archive is checked as a whole before the first file is written. While it goes on, files lie in
    `<destination>.partial`, which the next call removes.

    Raises:
        NotFound: if the archive is not there.
        Untrusted: if it is not this payload, or unpacks to something else than the manifest says.
        BadInput: if it holds anything but regular files with plain relative names.
        DiskFull: if there is no room.
        Refused: if `destination` exists already.
    """
    if destination.exists() or destination.is_symlink():
        raise Refused(f"{destination} exists already; a slot is never unpacked over")
    partial = destination.with_name(destination.name + ".partial")
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFound(f"the payload is not there: {path}") from None
    with file:
        _verify(file, payload)
        file.seek(0)
        members = _members(file)
        unpacked = sum(member.size for member in members)
        if (len(members), unpacked) != (payload.files, payload.unpacked):
            raise Untrusted(
                f"the payload unpacks to {len(members)} files of {unpacked} bytes, "
                f"its manifest says {payload.files} of {payload.unpacked}; make the release anew"
            )
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with room_for(f"the payload at {partial}"):
                _extract(file, members, partial)
                os.rename(partial, destination)
                sync_dir(destination.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _regular_files(directory: Path) -> list[str]:
    names: list[str] = []
    for found in directory.rglob("*"):
        mode = found.lstat().st_mode
        name = found.relative_to(directory).as_posix()
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise BadInput(f"{name!r} is a link or a device; a payload holds regular files only")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise BadInput(
                f"{os.fsencode(name)!r} is no UTF-8 name, and not every system can hold it; rename the file"
            ) from None
        names.append(name)
    _check_names(names)
    return sorted(names)


def _check_names(names: list[str]) -> None:
    """Refuse what could leave the directory, or fall together with another name on some system."""
    seen: set[str] = set()
    directories: set[str] = set()
    for name in names:
        parts = name.split("/")
        if len(name) > 255 or any(_UNFIT.match(part) for part in parts):
            raise BadInput(f"{name!r} is no plain relative path that every system can hold; rename the file")
        folded = [unicodedata.normalize("NFC", part).casefold() for part in parts]
        above = {"/".join(folded[:depth]) for depth in range(1, len(folded))}
        if (same := "/".join(folded)) in seen:
            raise BadInput(f"{name!r} stands twice in the payload (upper and lower case count as one)")
        seen.add(same)
        directories |= above
    if both := seen & directories:
        raise BadInput(f"{min(both)!r} is a file and a directory in the same payload")


def _verify(file: BinaryIO, payload: Payload) -> None:
    """Check what stands in an open file, and read no more than one byte past the length it should have."""
    digest, length = hashlib.sha256(), 0
    while chunk := file.read(min(_CHUNK, payload.length + 1 - length)):
        digest.update(chunk)
        length += len(chunk)
    if length != payload.length:
        raise Untrusted(f"the payload has {length} bytes or more, its manifest says {payload.length}; fetch it again")
    if digest.hexdigest() != payload.sha256:
        raise Untrusted(f"the payload has not the digest {payload.sha256} of its manifest; fetch it again")


def _members(file: BinaryIO) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    _check_headers(file)
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="strict") as archive:
            for member in archive:
                members.append(member)
                if len(members) > FILES_LIMIT:
                    raise BadInput(f"the payload holds more than {FILES_LIMIT} files")
    except (tarfile.TarError, UnicodeError, ValueError, OverflowError) as error:
        raise BadInput(f"the payload is no tar archive: {error}") from None
    _check_names([member.name for member in members])
    return members


def _check_headers(file: BinaryIO) -> None:
    """Refuse all but plain members by their headers alone, before a library reads what extended ones say of sizes.

    Such a header can give a member more bytes than it has (sparse files), which are then those of its neighbours: a
    small archive would be written out many times.
    """
    begin = file.tell()
    while len(header := file.read(tarfile.BLOCKSIZE)) == tarfile.BLOCKSIZE and header.strip(b"\0"):
        name = header[:100].partition(b"\0")[0].decode("utf-8", "replace")
        if header[156:157] not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise BadInput(f"{name!r} in the payload is no regular file")
        size = header[124:136].strip(b" \0")
        if not size or not all(digit in b"01234567" for digit in size):
            raise BadInput(f"{name!r} in the payload has no plain size")
        file.seek(-(-int(size, 8) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, os.SEEK_CUR)
    file.seek(begin)


def _extract(file: BinaryIO, members: list[tarfile.TarInfo], destination: Path) -> None:
    destination.mkdir(parents=True)
    directories = {destination}
    for member in members:
        path = destination / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        directories.update(parent for parent in path.parents if parent.is_relative_to(destination))
        file.seek(member.offset_data)
        left = member.size
        with path.open("xb") as out:
            while left:
                chunk = file.read(min(_CHUNK, left))
                if not chunk:
                    raise Untrusted(f"{member.name!r} in the payload ends before its time; make the release anew")
                out.write(chunk)
                left -= len(chunk)
            out.flush()
            path.chmod(0o755 if member.mode & stat.S_IXUSR else 0o644)
            sync_file(out.fileno())
    for directory in sorted(directories, reverse=True):
        sync_dir(directory)
    sync_dir(destination.parent)
