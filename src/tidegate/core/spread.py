"""Over how long the devices of a ring spread their asking: so that a server can answer, and caps need not refuse."""

from __future__ import annotations

from tidegate.core.turns import hold_ms

REQUESTS_PER_S = 12_000
"""What a ring may ask of the control plane on average; peaks stay below 15,000 a second (docs/scale.md)."""
REQUESTS_PER_DEVICE = 2
"""An announcement and a report."""
ROUND_SHARE = 1.6
"""Under caps, devices that come at random over the time their groups need find the cap used up in one case of ten."""


def ring_spread_s(members: int, rounds: float, soak_s: float, least_s: int = 0) -> int:
    """Give a ring's `spread_s`, in whole seconds.

    Args:
        members: devices that the ring lets announce, treated and placebo.
        rounds: how many times over its caps the usual group's share of the ring is; below 1: caps hold nobody back.
        soak_s: the manifest's soak.
        least_s: what the operator declared.
    """
    load_s = members * REQUESTS_PER_DEVICE // REQUESTS_PER_S
    caps_s = int(rounds * ROUND_SHARE * hold_ms(soak_s) / 1000) if rounds > 1 else 0
    return max(least_s, load_s, caps_s)
