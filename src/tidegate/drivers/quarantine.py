"""Files that the scanning engine has taken away, each with a record that lets it be put back.

Used by the engine and by its driver. Standard library alone, and quick to load: the engine starts often. A record is
on disk before its file moves, so that a power cut leaves a file in its place or a record that finds it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""{path: relative to the watched directory, rule, namespace, digest: of the release whose rule it was, sha256: of the
content, at: seconds since 1970}"""


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_record(directory: Path, name: str, record: Record) -> None:
    partial = directory / f".{name}.new"
    with partial.open("wb") as file:
        file.write(json.dumps(record, sort_keys=True).encode())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(directory / f"{name}.json")
    sync_directory(directory)


def _inside(path: str) -> bool:
    """Whether a record's path stays within the watched directory: a damaged record must not reach outside."""
    return bool(path) and not Path(path).is_absolute() and ".." not in Path(path).parts


def records(directory: Path) -> dict[str, Record]:
    """Give all records by name; what is no record is left out and left alone."""
    found: dict[str, Record] = {}
    for path in sorted(directory.glob("*.json")):
        try:
            record = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(record, dict) and all(isinstance(record.get(k), str) for k in ("path", "digest", "sha256")):
            found[path.stem] = record
    return found


def content(directory: Path, name: str) -> Path:
    """Give the place of a quarantined file; it may be missing, if a power cut came before the move."""
    return directory / f"{name}.file"


def take(directory: Path, watch: Path, record: Record) -> str:
    """Move a file out of the watched directory.

    Args:
        directory: the quarantine, on the same file system as `watch`.
        watch: the watched directory.
        record: as `Record` says.

    Returns:
        The record's name: the same for the same path and content, so that taking a file twice leaves one.

    Raises:
        OSError: the file stays where it is, or both it and its record are complete.
    """
    name = hashlib.sha256(f"{record['path']}\0{record['sha256']}".encode(errors="surrogateescape")).hexdigest()[:32]
    _write_record(directory, name, record)
    source = watch / record["path"]
    source.replace(content(directory, name))
    sync_directory(directory)
    sync_directory(source.parent)
    return name


def relabel(directory: Path, name: str, record: Record) -> None:
    """Replace a record: its file stays, for a reason of another release's."""
    _write_record(directory, name, record)


def give_back(directory: Path, watch: Path, name: str, record: Record) -> bool:
    """Put a file back where it was, if nothing stands there now, and drop its record.

    Returns:
        Whether the record is settled. False: another file has taken its place, and both are kept.

    Raises:
        OSError: the file is still in quarantine, with its record.
    """
    held, target = content(directory, name), watch / record["path"]
    if held.exists():
        if not _inside(record["path"]):
            return False
        if target.exists() or target.is_symlink():
            if not target.is_file() or hashlib.sha256(target.read_bytes()).hexdigest() != record["sha256"]:
                return False
            held.unlink()
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            held.replace(target)
            sync_directory(target.parent)
        sync_directory(directory)
    (directory / f"{name}.json").unlink(missing_ok=True)
    return True


def give_all_back(directory: Path, watch: Path) -> list[str]:
    """Put every file back. Gives the paths that could not be, since another file stands there."""
    if not directory.is_dir():
        return []
    return [
        str(record["path"])
        for name, record in records(directory).items()
        if not give_back(directory, watch, name, record)
    ]
