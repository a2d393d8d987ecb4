"""A fleet that comes back after an outage: who asks in which second, who is served, who is turned away and returns.

The waits are the agent's own (`agent/pace.py`), drawn for all devices at once. What a server does when more come than
it takes in is what `intake/` does: it answers at once, with a time to come again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tidegate.agent.pace import LEAST_S, jittered, reach_s, spread
from tidegate.core.errors import BadInput
from tidegate.sim.asking import Many

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
RETRY_AFTER_S = 5.0
"""What the server says to who comes when too much waits."""
Wait = Callable[["Herd", Many, int, float], Floats]


@dataclass(frozen=True, slots=True)
class Herd:
    """Devices that all have one message for a server that is away, and how much it takes in when it is back.

    `poll_s` is the agents' poll interval, `serves_per_s` the messages that are answered in a second; `wait` one of
    `WAITS`: "backoff" is what agents do, the others show what it is good for.
    """

    devices: int
    outage_s: int = 3600
    poll_s: float = 60.0
    serves_per_s: int = 15_000
    wait: str = "backoff"
    seed: int = 1

    def __post_init__(self) -> None:
        if self.devices < 1 or self.outage_s < 1 or self.poll_s <= 0 or self.serves_per_s < 1:
            raise BadInput("a herd needs devices, an outage, a poll interval and a server that serves")
        if self.wait not in WAITS:
            raise BadInput(f"a herd waits by one of {', '.join(WAITS)}, not {self.wait!r}")


@dataclass(frozen=True, slots=True)
class Returned:
    """How a fleet came back. Each array has one entry for a second; second 0 is that of the server's return."""

    failed: Ints
    """Attempts in vain during the outage, from its first second."""
    came: Ints
    served: Ints
    all_served_s: int
    """To the last device's answer."""

    @property
    def worst(self) -> int:
        """The most messages in one second after the return."""
        return int(self.came.max())

    def served_by_s(self, share: float) -> int:
        """Give the second in which this share of the devices had been served."""
        return int(np.searchsorted(np.cumsum(self.served), share * self.served.sum()))


def _backoff(herd: Herd, many: Many, errors: int, told_s: float) -> Floats:
    """Give `pace.Backoff.next_s` for as many devices as `many` draws for."""
    wait = np.maximum(LEAST_S, many.uniform(0, reach_s(herd.poll_s, errors)))
    return np.maximum(wait, cast(Floats, spread(told_s, cast(Any, many)))) if told_s else wait


def _interval(herd: Herd, many: Many, errors: int, told_s: float) -> Floats:
    """Give the ordinary poll interval, whatever happened."""
    del errors, told_s
    return cast(Floats, jittered(herd.poll_s, cast(Any, many)))


def _doubling(herd: Herd, many: Many, errors: int, told_s: float) -> Floats:
    """Give waits that double, without any chance in them."""
    return np.full(many.count, max(reach_s(herd.poll_s, errors), told_s))


WAITS: dict[str, Wait] = {"backoff": _backoff, "interval": _interval, "doubling": _doubling}


def come_back(herd: Herd, most_s: int = 86_400) -> Returned:
    """Run an outage and what follows, in steps of a second, until every device was served or `most_s` have passed."""
    rng, wait = np.random.default_rng(herd.seed), WAITS[herd.wait]
    failed, at_s, errors = _outage(herd, rng, wait)
    calendar: dict[int, list[Ints]] = defaultdict(list)
    _put(calendar, np.arange(herd.devices), at_s - herd.outage_s)
    came, served = [], []
    left, now = herd.devices, 0
    while left and now < most_s:
        who = np.concatenate(calendar.pop(now, [np.empty(0, np.int64)]))
        came.append(len(who))
        served.append(min(len(who), herd.serves_per_s))
        if len(who) > herd.serves_per_s:
            away = rng.permutation(who)[herd.serves_per_s :]
            # by now nearly all have the longest wait; who has fewer errors is taken to have as many as the fewest
            waits = wait(herd, Many(rng, len(away)), int(errors[away].min()), RETRY_AFTER_S)
            errors[away] += 1
            _put(calendar, away, now + np.maximum(waits, 1.0))
        left -= served[-1]
        now += 1
    return Returned(failed, np.asarray(came), np.asarray(served), now)


def _outage(herd: Herd, rng: np.random.Generator, wait: Wait) -> tuple[Ints, Floats, Ints]:
    """Run the outage: attempts in vain of each second, and of each device its next attempt and its errors so far."""
    failed = np.zeros(herd.outage_s, dtype=np.int64)
    at_s = rng.uniform(0, herd.poll_s, herd.devices)
    errors = np.zeros(herd.devices, dtype=np.int64)
    asking, nth = np.arange(herd.devices), 0
    while len(asking := asking[at_s[asking] < herd.outage_s]):
        failed += np.bincount(at_s[asking].astype(np.int64), minlength=herd.outage_s)
        at_s[asking] += wait(herd, Many(rng, len(asking)), nth, 0.0)
        errors[asking] += 1
        nth += 1
    return failed, at_s, errors


def _put(calendar: dict[int, list[Ints]], who: Ints, at_s: Floats) -> None:
    """Note in which second devices come."""
    seconds = at_s.astype(np.int64)
    order = np.argsort(seconds, kind="stable")
    starts = np.flatnonzero(np.diff(seconds[order], prepend=-1))
    for part in np.split(order, starts[1:]) if len(order) else ():
        calendar[int(seconds[part[0]])].append(who[part])
