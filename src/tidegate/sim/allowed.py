"""What the numbers of a scenario may be."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

MOST_DEVICES = 1_000_000_000
MOST_SECONDS = 1e12


@dataclass(frozen=True, slots=True)
class Range:
    """What a number may be; `open_low` and `open_high` leave the end itself out."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Say whether a finite number lies within."""
        if not math.isfinite(value):
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"above {self.low:g}" if self.open_low else f"{self.low:g} or more"
        low = f"above {self.low:g}" if self.open_low else f"{self.low:g}"
        return f"{low} to {'below ' if self.open_high else ''}{self.high:,.10g}"


SHARE, BELOW_ONE = Range(0, 1), Range(0, 1, open_high=True)
INSIDE_ONE = Range(0, 1, open_low=True, open_high=True)
SECONDS, SOME_SECONDS = Range(0, MOST_SECONDS), Range(1e-6, MOST_SECONDS)
RATIO = Range(0, 1e6)
COUNT = Range(1, MOST_DEVICES)


def optional(default: Any, allowed: Range | tuple[str, ...]) -> Any:
    """A key with a default and what it may be."""
    return field(default=default, metadata={"allowed": allowed})


def required(allowed: Range) -> Any:
    """A key that must be given."""
    return field(metadata={"allowed": allowed, "required": True})
