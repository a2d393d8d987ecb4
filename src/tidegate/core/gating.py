"""How many placebo devices may be silent when a ring is read: an outage waits, whatever the treated arm shows."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


def placebo_gate(q_gate: float, placebo_count: int) -> int:
    """Say up to how many silent placebo devices a ring is evaluated: g c + 3 sqrt(g c) + 2, rounded down.

    A ring is evaluated, and frozen, at the first moment from `observe_s` on at which so few are silent; the treated
    arm is not looked at for that. An outage waits; it neither passes nor blocks for ever. A bare share would lose
    many rings by chance alone.

    Args:
        q_gate: background share that is put up with, in [0, 1).
        placebo_count: c, placebo devices of the ring.
    """
    return int(placebo_gates(q_gate, np.asarray([placebo_count]))[0])


def placebo_gates(q_gate: float, placebo_count: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Say the same for many rings at once; `placebo_count` of any shape. Raises ValueError for what cannot be."""
    if not 0 <= q_gate < 1 or np.any(placebo_count < 0):
        raise ValueError("q_gate must lie in [0, 1) and placebo_count must not be negative")
    mean = q_gate * placebo_count
    return np.floor(mean + 3.0 * np.sqrt(mean) + 2.0).astype(np.int64)


def first_shut(q: float, q_gate: float, placebo: Iterable[int], margin: float) -> int | None:
    """Find the first ring that the background alone keeps from ever being read, counted from 0; None if there is none.

    Args:
        q: background failure rate per device and observation window.
        q_gate: as `placebo_gate`.
        placebo: placebo devices of each ring.
        margin: standard deviations of bad luck that a ring must stand.
    """
    shut = (k for k, c in enumerate(placebo) if q * c + margin * math.sqrt(q * c) > placebo_gate(q_gate, c))
    return next(shut, None)
