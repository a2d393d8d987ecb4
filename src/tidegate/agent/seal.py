"""What a slot held when it was filled: its files' lengths and digests, so that a damaged disk is noticed at a start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tidegate.core.wire import canonical

SEAL = ".files.json"
OWN = frozenset({SEAL, ".manifest.json"})
HASHED_LIMIT = 64 << 20
"""Bytes of a slot that a start reads again; of what is beyond them it looks at the lengths alone."""


def describe(slot: Path) -> bytes:
    """Give the list of a slot's files: {name: [length in bytes, sha256]}."""
    return canonical({name: [path.stat().st_size, digest(path)] for name, path in _files(slot)})


def broken(slot: Path) -> str:
    """Say what is not as it was when the slot was filled, or nothing; a slot without a list is taken as it is."""
    try:
        listed: Any = json.loads((slot / SEAL).read_bytes())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, RecursionError):
        return "its list of files cannot be read"
    try:
        return _compare(slot, {str(name): (int(length), str(digest)) for name, (length, digest) in listed.items()})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"its files cannot be read: {error}"


def _compare(slot: Path, listed: dict[str, tuple[int, str]]) -> str:
    here = dict(_files(slot))
    for name in sorted(listed):  # what is there besides, a component may have put there itself
        if name not in here:
            return f"{name} is missing"
        if here[name].stat().st_size != listed[name][0]:
            return f"{name} has {here[name].stat().st_size} bytes and not {listed[name][0]}"
    read = 0
    for name, (length, expected) in sorted(listed.items()):
        read += length
        if read > HASHED_LIMIT:
            break
        if digest(here[name]) != expected:
            return f"{name} has other content than it was installed with"
    return ""


def damaged_files(home: Path) -> Iterator[str]:
    """Name the small files of a home that are not whole JSON any more; each is made anew, or its copy counts."""
    globs = ("components/*/guard.json", "components/*/note.json", "components/*/condemned/*")
    globs = (*globs, "metadata/*.json", "metadata/*/*.json", "metadata/metadata/root_history/*.json")
    for path in sorted((home / "metadata" / "targets").glob("*")):
        with suppress(OSError):
            if path.name != digest(path) and not path.name.startswith("."):
                yield f"{path.relative_to(home)} was damaged: its content is not what its name says"
    found = (path for pattern in globs for path in home.glob(pattern))
    for path in sorted((home / "seq.json", *found)):
        with suppress(OSError):
            data = path.read_bytes()
            try:
                json.loads(data)
            except (ValueError, RecursionError):
                yield f"{path.relative_to(home)} was damaged: {len(data)} bytes that are no JSON"


def _files(slot: Path) -> Iterator[tuple[str, Path]]:
    for path in slot.rglob("*"):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(slot).as_posix()
            if name not in OWN:
                yield name, path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
