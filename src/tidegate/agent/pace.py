"""When to ask again: jittered polls, and after errors exponential back-off with full jitter."""

from __future__ import annotations

import random

LONGEST_S = 900.0
LEAST_S = 0.05
DOUBLINGS = 4
"""After errors the wait grows to this many doublings of the poll interval, and never past LONGEST_S."""


class Backoff:
    """Waits that grow with each error in a row; drawn from the whole range, so that a fleet does not return at once.

    Args:
        poll_s: the ordinary interval in seconds, which is the first wait's upper end.
        rng: the source of jitter.
    """

    def __init__(self, poll_s: float, rng: random.Random) -> None:
        self._base_s, self._rng = poll_s, rng
        self._errors = 0

    def next_s(self, at_least_s: float | None = None) -> float:
        """Give the wait after one more error, in seconds; never less than the other side asked for."""
        reach = min(LONGEST_S, self._base_s * 2 ** min(self._errors, DOUBLINGS))
        self._errors += 1
        return max(LEAST_S, self._rng.uniform(0, reach), spread(at_least_s, self._rng) if at_least_s else 0.0)

    def reset(self) -> None:
        self._errors = 0


def jittered(interval_s: float, rng: random.Random) -> float:
    """Give one interval, a quarter more or less."""
    return interval_s * rng.uniform(0.75, 1.25)


def spread(at_least_s: float, rng: random.Random) -> float:
    """Give a wait that is never shorter than asked, and up to a fifth longer."""
    return at_least_s * rng.uniform(1.0, 1.2)
