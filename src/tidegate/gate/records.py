"""Records with declared fields: a payload's `schema.json`, and the lines that it speaks of."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tidegate.core.errors import BadInput
from tidegate.core.wire import read

SCHEMA = "schema.json"
KINDS = {"text": r".*", "int": r"-?\d+", "hex": r"[0-9a-fA-F]*", "word": r"\S+"}


@dataclass(frozen=True, slots=True)
class ContentType:
    """One content type: its records stand in `files`, one a line, with `fields` fields between separators.

    The first two parts of a line are the record's name and its verdict, and no fields, unless `head` says another
    number. `wild` matches anything. `may_be_wild` are numbers of fields, from 1, that need no other criterion.
    """

    name: str
    files: str
    fields: int
    separator: str = "|"
    head: int = 2
    wild: str = "*"
    kinds: tuple[str, ...] = ()
    may_be_wild: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.fields < 1 or self.head < 0 or not self.separator:
            raise ValueError("a content type has at least 1 field, and a separator")
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise ValueError(f"kinds are {', '.join(KINDS)}, not {unknown[0]!r}")

    def fits(self, value: str, kind: str) -> bool:
        """Say whether a field's text is of its kind."""
        return value == self.wild or re.fullmatch(KINDS[kind], value) is not None


@dataclass(frozen=True, slots=True)
class Schema:
    """All content types of a payload."""

    types: tuple[ContentType, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One record: where it stands, its name and its fields."""

    file: str
    line: int
    name: str
    fields: tuple[str, ...]


def read_schema(root: Path) -> tuple[ContentType, ...]:
    """Read a payload's schema; none declares nothing. Raises BadInput."""
    path = root / SCHEMA
    if not path.exists():
        return ()
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the payload's {SCHEMA} is not JSON: {error}") from None
    return read(Schema, value, SCHEMA).types


def schema_line(root: Path, name: str) -> int:
    """Give the line of a payload's schema in which a type is named."""
    lines = (root / SCHEMA).read_bytes().decode(errors="replace").splitlines()
    return next((number for number, line in enumerate(lines, start=1) if json.dumps(name) in line), 1)


def records_of(root: Path, kind: ContentType) -> list[Record]:
    """Read all records of a type; lines that begin with # and empty ones are none."""
    found: list[Record] = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and fnmatch(name, kind.files):
            for number, line in enumerate(path.read_bytes().decode(errors="replace").splitlines(), start=1):
                if line and not line.startswith("#"):
                    parts = line.split(kind.separator)
                    head = parts[: kind.head]
                    found.append(Record(name, number, head[0] if head else "", tuple(parts[kind.head :])))
    return found
