"""When to ask again, and how fast to fetch: jittered polls, back-off with full jitter, and a bucket of bytes."""

from __future__ import annotations

import math
import random

LONGEST_S = 900.0
LEAST_S = 0.05
DOUBLINGS = 4
"""After errors the wait grows to this many doublings of the poll interval, and never past LONGEST_S."""
JITTER = 0.25
"""The share by which an interval is longer or shorter."""
TURN_SHARE, TURN_JITTER_S = 0.2, 5.0
"""By how much of its wait, and how many seconds at most, a device comes after the turn that it was given."""
BURST_S = 2.0
"""A bucket holds what its rate gives in this time."""


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
        reach = reach_s(self._base_s, self._errors)
        self._errors += 1
        return max(LEAST_S, self._rng.uniform(0, reach), spread(at_least_s, self._rng) if at_least_s else 0.0)

    def reset(self) -> None:
        self._errors = 0


def reach_s(poll_s: float, errors: int) -> float:
    """Give the longest wait after one more error than so many in a row, in seconds."""
    return min(LONGEST_S, poll_s * 2 ** min(errors, DOUBLINGS))


class Bucket:
    """Holds a device's downloads to a rate, over all components together.

    Args:
        bytes_per_s: the rate; 0 for none.
        now_s: a clock that only grows, in seconds; it is passed in again with each call.
    """

    def __init__(self, bytes_per_s: int, now_s: float) -> None:
        self._rate, self._at_s = bytes_per_s, now_s
        self._level = bytes_per_s * BURST_S

    def take(self, length: int, now_s: float) -> float:
        """Take so many bytes, which may leave the bucket in debt; give the seconds to wait before the next piece."""
        if not self._rate:
            return 0.0
        self._level = min(self._rate * BURST_S, self._level + max(0.0, now_s - self._at_s) * self._rate) - length
        self._at_s = now_s
        return max(0.0, -self._level / self._rate)


def first_poll(known: bool, poll_s: float, rng: random.Random) -> float:
    """Give the wait before the first poll of a start: a whole site may have got its power back in the same second.

    What is left of a jittered interval at a moment that falls anywhere in it, longer ones being hit more often: with
    this first wait, and no other, the polls of many devices are even from the first second on (renewal theory's
    forward recurrence time). A device that has never had a plan asks at once: somebody waits for it, and it is alone.
    """
    least, most = 1 - JITTER, 1 + JITTER
    return poll_s * math.sqrt(rng.uniform(least**2, most**2)) * rng.random() if known else 0.0


def jittered(interval_s: float, rng: random.Random) -> float:
    """Give one interval, a quarter more or less."""
    return interval_s * rng.uniform(1 - JITTER, 1 + JITTER)


def spread(at_least_s: float, rng: random.Random) -> float:
    """Give a wait that is never shorter than asked, and up to a fifth longer."""
    return at_least_s * rng.uniform(1.0, 1.2)


def at_turn(wait_s: float, rng: random.Random) -> float:
    """Give the wait for a turn that the server has given: hardly longer, since the next device's turn follows."""
    return wait_s + rng.uniform(0.0, min(wait_s * TURN_SHARE, TURN_JITTER_S))


def place_within(spread_s: float, rng: random.Random) -> float:
    """Give a device's place in a ring's announcements, which a plan spreads over so many seconds."""
    return rng.uniform(0, spread_s)
