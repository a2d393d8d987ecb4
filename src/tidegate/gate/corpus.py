"""Files that content is tried on: below which directory, which ones, and where they stand in the sandbox."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tidegate.gate.needed import is_needed

SYSTEM_PLACES = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec", "/usr/share")
MB = 1 << 20


@dataclass(frozen=True)
class Corpus:
    """Some files below one directory, which stands at `inside` in the sandbox. Each file is (name, bytes).

    `marks`: for each file what tells it from every other of its name; `lasting`: what to call the directory from one
    run of the gate to the next.
    """

    name: str
    root: Path
    inside: str
    files: tuple[tuple[str, int], ...]
    marks: tuple[str, ...]
    lasting: str

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(size for _, size in self.files)

    def paths(self) -> tuple[tuple[str, int], ...]:
        """Give each file's path inside the sandbox, and its bytes."""
        return self._paths

    @cached_property
    def _paths(self) -> tuple[tuple[str, int], ...]:
        return tuple((f"{self.inside}/{name}", size) for name, size in self.files)

    def marked(self) -> dict[str, str]:
        """Give each file's mark, by its path inside the sandbox."""
        return {f"{self.inside}/{name}": mark for (name, _), mark in zip(self.files, self.marks, strict=True)}

    @cached_property
    def digest(self) -> str:
        """Name these files, and what is in them."""
        text = hashlib.sha256(self.inside.encode())
        for (name, size), mark in zip(self.files, self.marks, strict=True):
            text.update(f"\n{name}\0{size}\0{mark}".encode(errors="surrogateescape"))
        return text.hexdigest()


def _walk(root: Path) -> list[tuple[str, os.stat_result]]:
    """Give (name below the root, status) of each plain file that may be read, in the order of names."""
    found: list[tuple[str, os.stat_result]] = []
    waiting, above = [str(root)], len(str(root).rstrip("/")) + 1
    everyone = os.geteuid() == 0
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        one = entry.stat(follow_symlinks=False)
                        # As root the sandbox drops to a user to whom nothing belongs.
                        if one.st_mode & 0o004 if everyone else os.access(entry.path, os.R_OK):
                            found.append((entry.path[above:], one))
    found.sort(key=lambda pair: pair[0])
    return found


def tree_marks(path: Path) -> list[str]:
    """Mark a file, or each file below a directory: what is there now, without reading it."""
    try:
        if not path.is_dir():
            return [f"{path} {_mark(path.stat())}"]
    except OSError:
        return [f"{path} is not there"]
    return [f"{path}/{name} {_mark(found)}" for name, found in _walk(path)]


def _mark(one: os.stat_result) -> str:
    """Mark a file without reading it, which would take as long as to scan it: nobody but the kernel sets `st_ctime`."""
    return f"{one.st_ino:x}.{one.st_mtime_ns:x}.{one.st_ctime_ns:x}"


def mark_of(data: bytes) -> str:
    """Mark a file by what is in it."""
    return hashlib.sha256(data).hexdigest()[:32]


def made_corpus(name: str, directory: Path, inside: str, made: Mapping[str, bytes], file_mb: int = 64) -> Corpus:
    """Take a directory of files that were just made of these bytes, which mark them; others in it are left out."""
    found = directory_corpus(name, directory, inside, file_mb)
    files = tuple(each for each in found.files if each[0] in made)
    return Corpus(name, directory, inside, files, tuple(mark_of(made[each]) for each, _ in files), name)


def directory_corpus(name: str, root: Path, inside: str, file_mb: int = 64) -> Corpus:
    """Take all files of a directory, those above `file_mb` left out; links are not followed."""
    found = [(each, one) for each, one in _walk(root) if one.st_size <= file_mb * MB]
    files = tuple((each, one.st_size) for each, one in found)
    return Corpus(name, root, inside, files, tuple(_mark(one) for _, one in found), str(root))


def system_corpus(budget_mb: int, file_mb: int = 64, places: Sequence[str] = SYSTEM_PLACES) -> Corpus:
    """Take this machine's own programs and libraries, up to a budget: the same files as long as they do not change.

    First come those that no device can be without, such as the shell and the C library, up to half of the budget. Which
    others is decided by a hash of their names, so that each kind has its share.
    """
    found: list[tuple[str, os.stat_result]] = []
    for place in places:
        root = Path(place)
        above = root.relative_to("/usr").as_posix()
        found += [(f"{above}/{each}", one) for each, one in _walk(root) if 0 < one.st_size <= file_mb * MB]
    found.sort(key=lambda pair: hashlib.sha256(pair[0].encode(errors="surrogateescape")).digest())
    needed = sorted((pair for pair in found if is_needed(pair[0])), key=lambda pair: pair[1].st_size)
    kept, left = _within(needed, budget_mb * MB // 2)
    names = {each for each, _ in kept}
    others = [pair for pair in found if pair[0] not in names]
    kept += _within(others, left + budget_mb * MB - budget_mb * MB // 2)[0]
    kept.sort()
    files = tuple((each, one.st_size) for each, one in kept)
    marks = tuple(_mark(one) for _, one in kept)
    return Corpus("this machine's programs", Path("/usr"), "/usr", files, marks, "/usr")


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
