"""What a benchmark gives: a value beside a reference, and their ratio."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `reference` says what it is compared with; the ratio is value / reference_value."""

    name: str
    value: float
    unit: str
    reference: str
    reference_value: float
    ratio: float = field(init=False)

    def __post_init__(self) -> None:
        ratio = self.value / self.reference_value if self.reference_value else float("nan")
        object.__setattr__(self, "ratio", ratio)
