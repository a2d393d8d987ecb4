"""Two yardsticks of any rollout: the rings of the certain rule, and of the exact rule with no background (T*)."""

from __future__ import annotations

import math
from functools import lru_cache

MOST_RINGS = 10_000_000


@lru_cache(maxsize=1024)
def time_limit_rings(devices: int, max_harmed: int, confidence: float = 0.999, canary: int = 0) -> int:
    """Count the rings that the exact rule needs with no background at all, the canary included: T* in units of D.

    Args:
        devices: size of the roster.
        max_harmed: budget B, in devices.
        confidence: 1 - alpha.
        canary: first ring; 0 stands for `max_harmed`.

    Returns:
        Rings, at least 1.

    Raises:
        ValueError: naming what is out of range.
    """
    check_terms(devices, max_harmed, confidence, 0.0, 0.0, 0.0, canary)
    exposed, rings = min(canary or max_harmed, max_harmed, devices), 1
    while exposed < devices:
        exposed, rings = clean_reach(exposed, devices, max_harmed, 1.0 - confidence), rings + 1
        if rings > MOST_RINGS:
            raise ValueError("the exact rule would need more than ten million rings")
    return rings


def clean_reach(exposed: int, devices: int, max_harmed: int, alpha: float) -> int:
    """Say how far exposure may reach when none of the exposed failed: exact hypergeometric rule, at least n + B.

    The place of the (B+1)-th harmed device is at most n' only if B harmed ones all missed the first n of n' - 1
    places: C(n' - 1 - n, B) / C(n' - 1, B) <= alpha.
    """

    def passes(target: int) -> bool:
        if target - 1 - exposed < max_harmed:
            return True
        log_missed = math.lgamma(target - exposed) - math.lgamma(target - exposed - max_harmed)
        log_missed -= math.lgamma(target) - math.lgamma(target - max_harmed)
        return log_missed <= math.log(alpha)

    low, high = min(exposed + max_harmed, devices), devices
    if passes(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def certain_rings(devices: int, max_harmed: int, canary: int) -> tuple[int, ...]:
    """Give the rings of a good update under the certain rule alone, when each ring is confirmed before the next.

    Args:
        devices: size of the roster.
        max_harmed: the budget B, in devices.
        canary: the first ring, in devices.

    Returns:
        Cumulative numbers of exposed devices, strictly rising, the last one `devices`.

    Raises:
        ValueError: for a budget or canary below 1, or if there would be more than ten million rings.

    Source: the certain rule, exposed - confirmed < min(B, canary + confirmed), section 3.1 of the design.
    """
    if certain_ring_count(devices, max_harmed, canary) > MOST_RINGS:
        raise ValueError("the certain rule would need more than ten million rings: ask certain_ring_count instead")
    sizes: list[int] = []
    exposed = 0
    while exposed < devices:
        exposed = min(devices, exposed + min(max_harmed, canary + exposed))
        sizes.append(exposed)
    return tuple(sizes)


def certain_ring_count(devices: int, max_harmed: int, canary: int) -> int:
    """Count the rings of `certain_rings` without listing them: a ramp, then `max_harmed` devices a ring."""
    if max_harmed < 1 or canary < 1:
        raise ValueError("max_harmed and canary must be at least 1 device")
    exposed, rings = 0, 0
    while exposed < devices and canary + exposed < max_harmed:
        exposed += min(devices - exposed, canary + exposed)
        rings += 1
    return rings - (exposed - devices) // max_harmed


def check_terms(
    devices: int, max_harmed: int, confidence: float, placebo_per_treated: float, q: float, q_gate: float, canary: int
) -> None:
    """Refuse terms of a rollout that cannot be. Raises ValueError that names the first of them."""
    if devices < 1:
        raise ValueError(f"devices must be at least 1, not {devices}")
    if max_harmed < 1:
        raise ValueError(f"max_harmed must be at least 1 device, not {max_harmed}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
    if not 0 <= placebo_per_treated < math.inf:
        raise ValueError(f"placebo_per_treated must be 0 or more, not {placebo_per_treated}")
    if not 0 <= q < 1:
        raise ValueError(f"q must lie in [0, 1), not {q}")
    if not 0 <= q_gate < 1:
        raise ValueError(f"q_gate must lie in [0, 1), not {q_gate}")
    if canary < 0:
        raise ValueError(f"canary must not be negative, not {canary}")
