"""Files that content is tried on: below which directory, which ones, and where they stand in the sandbox."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.gate.needed import is_needed

SYSTEM_PLACES = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/share")
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Corpus:
    """Some files below one directory, which stands at `inside` in the sandbox. Each file is (name, bytes)."""

    name: str
    root: Path
    inside: str
    files: tuple[tuple[str, int], ...]
    digest: str

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(size for _, size in self.files)

    def paths(self) -> list[tuple[str, int]]:
        """Give each file's path inside the sandbox, and its bytes."""
        return [(f"{self.inside}/{name}", size) for name, size in self.files]


def _readable(path: str, found: os.stat_result) -> bool:
    """Say whether the sandbox may read it: as root it drops to a user to whom nothing belongs."""
    return bool(found.st_mode & 0o004) if os.geteuid() == 0 else os.access(path, os.R_OK)


def _walk(root: Path, above: str = "") -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = sorted(os.scandir(root / above), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        name = f"{above}/{entry.name}" if above else entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, name)
            elif stat.S_ISREG((found := entry.stat(follow_symlinks=False)).st_mode) and _readable(entry.path, found):
                yield name, found
        except OSError:
            continue


def _digest(found: Sequence[tuple[str, os.stat_result]]) -> str:
    """Names a corpus by names, sizes and times: content would take as long to read as to scan."""
    text = hashlib.sha256()
    for name, one in found:
        text.update(f"{name}\0{one.st_size}\0{one.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return text.hexdigest()


def directory_corpus(name: str, root: Path, inside: str, file_mb: int = 64) -> Corpus:
    """Take all files of a directory, those above `file_mb` left out; links are not followed."""
    found = [(each, one) for each, one in _walk(root) if one.st_size <= file_mb * MB]
    return Corpus(name, root, inside, tuple((each, one.st_size) for each, one in found), _digest(found))


def system_corpus(budget_mb: int, file_mb: int = 64, places: Sequence[str] = SYSTEM_PLACES) -> Corpus:
    """Take this machine's own programs and libraries, up to a budget: the same files as long as they do not change.

    First come those that no device can be without, such as the shell and the C library, up to half of the budget. Which
    others is decided by a hash of their names, so that each kind has its share.
    """
    found: list[tuple[str, os.stat_result]] = []
    for place in places:
        root = Path(place)
        found += [(f"{root.relative_to('/usr')}/{each}", one) for each, one in _walk(root) if one.st_size]
    found = [(each, one) for each, one in found if one.st_size <= file_mb * MB]
    found.sort(key=lambda pair: hashlib.sha256(pair[0].encode(errors="surrogateescape")).digest())
    needed = sorted((pair for pair in found if is_needed(pair[0])), key=lambda pair: pair[1].st_size)
    kept, left = _within(needed, budget_mb * MB // 2)
    names = {each for each, _ in kept}
    others = [pair for pair in found if pair[0] not in names]
    kept += _within(others, left + budget_mb * MB - budget_mb * MB // 2)[0]
    kept.sort()
    files = tuple((each, one.st_size) for each, one in kept)
    return Corpus("this machine's programs", Path("/usr"), "/usr", files, _digest(kept))


def _within(files: Sequence[tuple[str, os.stat_result]], budget: int) -> tuple[list[tuple[str, os.stat_result]], int]:
    """Take files as long as they fit; give them, and the bytes that are left."""
    kept: list[tuple[str, os.stat_result]] = []
    for each, one in files:
        if one.st_size <= budget:
            kept.append((each, one))
            budget -= one.st_size
        if budget < MB // 16:
            break
    return kept, budget


def shards(files: Sequence[tuple[str, int]], count: int) -> list[list[tuple[str, int]]]:
    """Split files into `count` parts of about the same bytes, large ones first; empty parts are left out."""
    parts: list[list[tuple[str, int]]] = [[] for _ in range(max(count, 1))]
    sizes = [0] * len(parts)
    for entry in sorted(files, key=lambda found: (-found[1], found[0])):
        least = sizes.index(min(sizes))
        parts[least].append(entry)
        sizes[least] += entry[1] + 4096
    return [part for part in parts if part]
