"""Damaged variants of a payload: what disks, builds and networks make of it, always the same ones for one release."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tidegate.gate.records import read_schema
from tidegate.gate.sources import YARA_SUFFIXES, Source

KINDS = ("zeros", "truncated", "bit-flip", "swapped", "duplicated")


@dataclass(frozen=True, slots=True)
class Variant:
    """One damaged content: a directory below the variants' own, which file was damaged, how, and whether an interpreter
    that takes it has not looked."""

    name: str
    kind: str
    file: str
    line: int
    must_refuse: bool


def archives(data: bytes, seed: str, count: int) -> Iterator[tuple[str, bytes]]:
    """Give damaged variants of a payload's archive, as a device might receive them."""
    rng = random.Random(f"archive/{seed}")
    yield "all zeros", bytes(len(data))
    yield "empty", b""
    for _ in range(count):
        what, damaged = _archive(data, rng.choice(KINDS), rng.randrange(len(data)), rng.choice((1, 16, 512, 4096)))
        if damaged != data:
            yield what, damaged


def _archive(data: bytes, kind: str, start: int, length: int) -> tuple[str, bytes]:
    head, block, tail = data[:start], data[start : start + length], data[start + length :]
    if kind == "zeros":
        return f"{len(block)} zeros at {start}", head + bytes(len(block)) + tail
    if kind == "truncated":
        return f"cut off at {start}", head
    if kind == "bit-flip":
        return f"a bit flipped at {start}", head + bytes([block[0] ^ 1 << length % 8]) + data[start + 1 :]
    if kind == "swapped":
        return f"blocks swapped at {start}", head + tail[:length] + block + tail[length:]
    return f"{len(block)} bytes twice at {start}", head + block + data[start:]


def contents(
    root: Path, files: list[str], sources: dict[str, Source], target: Path, seed: str, count: int, *, alone: bool
) -> list[Variant]:
    """Write damaged variants of the content, each a directory below `target`.

    Args:
        root: the content as it should be.
        files: those that the interpreter reads.
        sources: its items, to damage within one.
        target: is made.
        seed: the same seed gives the same variants.
        count: about so many.
        alone: a variant holds the damaged file alone, where each means the same alone.
    """
    rng = random.Random(f"content/{seed}")
    made: list[Variant] = []
    full = [name for name in files if (root / name).stat().st_size > 0]
    if not full:
        return []
    by_file: dict[str, list[Source]] = {}
    for source in sources.values():
        by_file.setdefault(source.file, []).append(source)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        file = rng.choice(full)
        data = (root / file).read_bytes()
        damaged, line, must = _damage(kind, data, file, by_file.get(file, []), root, rng)
        if damaged == data:
            continue
        name = f"{number:04d}"
        _write(root, files, file, damaged, target / name, alone)
        made.append(Variant(name, kind, file, line, must))
    if not alone or len(full) > 1:
        for name in full:
            _write(root, [], name, bytes((root / name).stat().st_size), target / "all-zeros", True)
        made.append(Variant("all-zeros", "zeros", full[0], 0, True))
    return made


def _damage(
    kind: str, data: bytes, file: str, items: list[Source], root: Path, rng: random.Random
) -> tuple[bytes, int, bool]:
    """Give (damaged bytes, line, whether it must be refused)."""
    yara = file.lower().endswith(YARA_SUFFIXES)
    item = rng.choice(items) if items else None
    start = data.find(item.text.encode()) if item else -1
    line = item.line if item and start >= 0 else 0
    length = len(item.text.encode()) if item else 0
    if kind == "zeros":
        return bytes(len(data)), 0, True
    if kind == "truncated":
        # Within an item: what is cut between two is shorter, and whole.
        cut = start + length // 2 if start >= 0 and length > 8 else rng.randrange(len(data))
        return data[:cut], line, start >= 0 and yara
    if kind == "bit-flip":
        flipped = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        return bytes(flipped), 0, False
    fields = _fields(data, file, root, rng, kind)
    if fields is not None:
        return fields
    if kind == "duplicated" and start >= 0:
        piece = data[start : start + length]
        return data[:start] + piece + b"\n" + data[start:], line, yara
    if kind == "swapped":
        lines = data.splitlines(keepends=True)
        if len(lines) > 3:
            first, second = sorted(rng.sample(range(len(lines)), 2))
            lines[first], lines[second] = lines[second], lines[first]
            return b"".join(lines), first + 1, False
    at = rng.randrange(len(data))
    return data[:at] + data[at : at + 64] + data[at:], 0, False


def _fields(data: bytes, file: str, root: Path, rng: random.Random, kind: str) -> tuple[bytes, int, bool] | None:
    """Damage one record's fields, where the payload declares them: one swapped with the first, or one too many."""
    for declared in read_schema(root):
        if not fnmatch(file, declared.files):
            continue
        lines = data.decode(errors="replace").split("\n")
        numbers = [n for n, text in enumerate(lines) if declared.separator in text and not text.startswith("#")]
        if not numbers:
            return None
        number = rng.choice(numbers)
        parts = lines[number].split(declared.separator)
        if len(parts) <= declared.head:
            return None
        where = rng.randrange(declared.head, len(parts))
        if kind == "duplicated":
            # One field more, and no wildcard among them: a reader that counts on their number goes past its end.
            parts.append(next((part for part in parts[declared.head :] if part != declared.wild), "x"))
        else:
            parts[0], parts[where] = parts[where], parts[0]
        lines[number] = declared.separator.join(parts)
        return "\n".join(lines).encode(), number + 1, kind == "duplicated"
    return None


def _write(root: Path, files: list[str], file: str, damaged: bytes, target: Path, alone: bool) -> None:
    if not alone:
        for name in files:
            place = target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, place)
    place = target / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(damaged)
