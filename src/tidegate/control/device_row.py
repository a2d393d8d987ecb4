"""One device as it is looked at, and the values that many devices share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from tidegate.core.model import Device


@dataclass(frozen=True, slots=True)
class Reverted:
    """What a device said when it went back to its last known good."""

    rollout: str
    note: str


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device and what it last said, at the moment at which it was asked for."""

    device: Device
    public_key: str
    enrolled_ms: int
    facts: dict[str, str]
    installed: dict[str, str] = field(default_factory=lambda: {})
    last_seq: int = 0
    last_heard_ms: int = 0
    last_report: Reverted | None = None
    token_id: str = ""


MOST_SAME = 4096


class Interned:
    """Values that many devices share, each once: what a device holds is a number."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._known: dict[bytes, int] = {}
        self._same: dict[int, tuple[Any, int]] = {}
        """Objects that came lately, by their `id`: thousands of records name the very same ones."""

    def number(self, value: Any) -> int:
        """Give a value's number; nobody may change the value any more."""
        same = self._same.get(id(value))
        if same is not None:  # it is kept, so that no other object has its id
            return same[1]
        if len(self._same) >= MOST_SAME:
            self._same.clear()
        number = self._number(value)
        self._same[id(value)] = value, number
        return number

    def _number(self, value: Any) -> int:
        key = msgspec.json.encode(value, order="sorted")
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self.values)
            self.values.append(value)
        return known
