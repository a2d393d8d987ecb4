"""Losses that were published after 19 July 2024, in US dollars: what the model is calibrated on and held against."""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "insurers' and companies' published figures on 19 July 2024"


@dataclass(frozen=True, slots=True)
class Published:
    """One published sum: direct loss of `companies` companies of a sector together, uninsured part included."""

    sector: str
    usd: float
    companies: int

    @property
    def each(self) -> float:
        """The loss of one company."""
        return self.usd / self.companies


FORTUNE_500: tuple[Published, ...] = (
    Published("health", 1.938e9, 30),
    Published("banking", 1.149e9, 16),
    Published("airlines", 860e6, 6),
    Published("manufacturing", 36e6, 6),
    Published("other", 1.417e9, 67),
)
FORTUNE_500_TOTAL = 5.4e9
INSURED = (0.10, 0.20)

AIRLINE_LOSS = 380e6 + 170e6
"""One airline: 380 million of revenue and 170 million of cost."""
AIRLINE_MACHINES = (37_000, 40_000)
AIRLINE_FLIGHTS = 7_000
AIRLINE_DAYS = 5

HOSPITALS = (759, 2_232)
"""Hospitals that were disrupted, of those that were looked at."""
BACK_WITHIN_6H = 0.58
"""Of their services; some took more than 48 hours."""

REPAIR_HOURS = {"under 20": 15.0, "2000 and more": 1394.0}
"""Hours of work to repair, by number of staff."""
MINUTES_SERVER, MINUTES_PC = 20.0, (3.0, 5.0)
"""By hand, typing a recovery key; a PC with a barcode scanner."""
