"""What is true of a simulated device, whatever it says, and what it holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidegate.core.model import Arm


@dataclass(frozen=True, slots=True)
class Lease:
    """What a device holds: the server's answer, and when it was asked for."""

    lease_id: str
    arm: Arm
    ttl_ms: int
    asked_ms: int


@dataclass(slots=True)
class Fate:
    """What is true of a device, whatever it says.

    Attributes:
        harmed: the candidate harms it.
        late: it is away when its turn comes, and back at `back_ms`.
        dead: harmed, and silent from now on.
        mute: leases after which it falls silent for its own reasons.
        sick: leases after which it goes back for its own reasons.
    """

    harmed: bool = False
    late: bool = False
    back_ms: int = 0
    dead: bool = False
    mute: set[str] = field(default_factory=lambda: set[str]())
    sick: set[str] = field(default_factory=lambda: set[str]())
