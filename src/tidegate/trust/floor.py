"""The versions below which a device never goes again, kept by itself: the library's files may be lost in a power cut.

Two copies, each with its checksum. The floor belongs to the online keys that the root named when it was written: once
the root names others, versions may begin anew, or an attacker who once signed a huge number would be obeyed for ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.wire import canonical, plain, read
from tidegate.trust.durable import write_durably

_COPIES = ("trust_floor.json", "trust_floor.copy.json")


@dataclass(frozen=True, slots=True)
class Floor:
    """What was last believed: root version, the other roles' versions, and the latest signed time (unix seconds).

    `authority` stands for the online keys under which all but the root counts. `generation` tells the copies apart.
    """

    root: int = 0
    authority: str = ""
    versions: dict[str, int] = field(default_factory=lambda: {})
    high_water_s: int = 0
    generation: int = 0
    v: int = 1

    def under(self, authority: str) -> Floor:
        """Give the floor that counts under these online keys: after a rotation only the root's is left."""
        if self.authority in ("", authority):
            return replace(self, authority=authority)
        return replace(self, authority=authority, versions={}, high_water_s=0)

    def check(self, root: int, versions: Mapping[str, int]) -> None:
        """Refuse what lies below.

        Raises:
            Untrusted: naming the first role that fell back.
        """
        for role, least in {"root": self.root, **self.versions}.items():
            found = root if role == "root" else versions.get(role, 0)
            if found < least:
                raise Untrusted(f"version {found} of {role} is older than {least}, seen before: an old copy was served")


def load_floor(directory: Path) -> Floor:
    """Read the better of the two copies; a directory that has none gives an empty floor.

    Raises:
        Untrusted: if there are copies and none is whole. What was seen before is unknown then, and nothing advances.
    """
    present = [directory / name for name in _COPIES if (directory / name).exists()]
    whole = [floor for path in present if (floor := _load_copy(path)) is not None]
    if present and not whole:
        raise Untrusted(
            f"the record of versions seen ({present[0]}) is damaged in both copies; enrol this device again "
            "in an empty directory"
        )
    return max(whole, key=lambda floor: floor.generation, default=Floor())


def store_floor(directory: Path, floor: Floor) -> Floor:
    """Write both copies durably, one after the other; gives the floor with its new generation."""
    floor = replace(floor, generation=floor.generation + 1)
    body = plain(floor)
    data = canonical({"floor": body, "sha256": _checksum(body)})
    for name in _COPIES:
        write_durably(directory / name, data)
    return floor


def _load_copy(path: Path) -> Floor | None:
    try:
        value = json.loads(path.read_bytes())
        floor = read(Floor, value["floor"], "floor")
        return floor if value["sha256"] == _checksum(value["floor"]) else None
    except (BadInput, KeyError, TypeError, ValueError, RecursionError):
        return None


def _checksum(body: object) -> str:
    return hashlib.sha256(canonical(body)).hexdigest()
