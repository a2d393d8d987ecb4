"""What an import gives: an estate as plain values, counts of what was understood, and a line for what was not."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tidegate.core.errors import BadInput

Json = dict[str, Any]
MOST_BYTES = 256 * 1024 * 1024
PRIVILEGES = ("kernel", "system", "user")


@dataclass(slots=True)
class Imported:
    """`estate` can be written as YAML and read again; what has no vendor or privilege there counts as unknown."""

    estate: Json = field(default_factory=lambda: {"components": {}, "services": {}})
    understood: dict[str, int] = field(default_factory=lambda: {})
    not_understood: list[str] = field(default_factory=lambda: [])

    def count(self, what: str, n: int = 1) -> None:
        """Count something that was understood."""
        self.understood[what] = self.understood.get(what, 0) + n

    def miss(self, where: str, what: str) -> None:
        """Note something that was not."""
        self.not_understood.append(f"{where}: {what}")

    def component(self, name: str, vendor: str = "", privilege: str = "", **more: Any) -> None:
        """Add a component, or what is newly known of one. The more privileged word wins."""
        said = self.estate["components"].setdefault(name, {})
        if vendor and "vendor" not in said:
            said["vendor"] = vendor
        old = said.get("privilege", "")
        if privilege and (not old or PRIVILEGES.index(privilege) < PRIVILEGES.index(old)):
            said["privilege"] = privilege
        said.update({key: value for key, value in more.items() if value not in (None, "")})

    def text(self) -> str:
        """Give the estate's YAML."""
        kept = {key: value for key, value in self.estate.items() if value or key == "services"}
        return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=110)


def read_bytes(path: Path) -> bytes:
    """Read a file. Raises BadInput."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}") from error
    if len(data) > MOST_BYTES:
        raise BadInput(f"{path}: larger than {MOST_BYTES:,} bytes")
    return data


def read_json(path: Path) -> Any:
    """Read JSON. Raises BadInput."""
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: no JSON: {error}") from error


def rows_of(value: Any, where: str, found: Imported) -> list[Json]:
    """Take the objects of a list, and note what is none."""
    if value is None:
        return []
    if not isinstance(value, list):
        found.miss(where, "is no list")
        return []
    for place, row in enumerate(value):
        if not isinstance(row, dict):
            found.miss(f"{where}[{place}]", "is no object")
    return [row for row in value if isinstance(row, dict)]


def part(row: Json, key: str) -> Json:
    """Give an object inside an object; an empty one where there is none."""
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def word(row: Json, *keys: str) -> str:
    """Give the first of some keys that holds a text, without space around; or nothing."""
    for key in keys:
        value = row.get(key)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
    return ""


def needs_of(own: list[str], inner: list[str], at_least: int) -> Any:
    """Build a need: itself, and all (or at least so many) of what it rests on."""
    if at_least and at_least < len(inner):
        counted: Any = {"at_least": at_least, "of": inner}
        return {"all": [*own, counted]} if own else counted
    return {"all": [*own, *inner]}


def at_least_of(text: str, n: int, where: str, found: Imported) -> int:
    """Read k as an annotation or property gives it; 0 stands for all."""
    if not text:
        return 0
    if text.isascii() and text.isdecimal() and 1 <= int(text) <= n:
        return int(text)
    found.miss(where, f"at least {text!r} of {n} cannot be; all are taken to be needed")
    return 0
