"""A ring's requests, second by second: who asks when, who is refused and when he asks again, in columns.

The times come from what runs: the spread from `core/spread.py`, the turns from `core/turns.py`, the places from the
agent's `pace.py`. What is drawn here is what a fleet does by itself: when a device reads the plan, how long it takes to
apply, whether it falls silent.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tidegate.agent.pace import TURN_JITTER_S, TURN_SHARE, place_within
from tidegate.core.errors import BadInput
from tidegate.core.spread import ring_spread_s
from tidegate.core.turns import KEPT_STRETCH, MOST_STRETCH, VAIN_STRETCH, hold_ms, kept_places, turn_ms

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Crowd:
    """One ring of a fleet: how many, in groups of what size under what cap (0: none), and the times of its devices.

    `apply_s` is the longest time from a lease to the begin of the soak, `silent_share` of the treated never answer and
    keep their group's place. `spread` and `turns` switch the two means off, to show what they are good for.
    """

    devices: int
    group_devices: int = 0
    at_most: int = 0
    soak_s: int = 60
    poll_s: int = 300
    apply_s: float = 10.0
    silent_share: float = 0.0
    spread: bool = True
    turns: bool = True
    seed: int = 1

    def __post_init__(self) -> None:
        if self.devices < 1 or self.at_most < 0 or self.soak_s < 1 or self.poll_s < 0 or self.apply_s < 1:
            raise BadInput("a crowd needs devices, and times that can be")
        if self.at_most and self.group_devices < 1:
            raise BadInput("a cap needs groups: group_devices")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a ring asked. `requests` are those of each second, announcements and reports together."""

    spread_s: int
    granted: int
    refused: int
    vain: int
    """Refusals of devices that had been given a time to ask again, and kept to it."""
    took_s: int
    """To the last report."""
    requests: Ints

    @property
    def peak(self) -> int:
        """The most requests in one second."""
        return int(self.requests.max())


class Many:
    """Draws for many devices at once what `random.Random` draws for one, so that the agent's functions serve here."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self._rng, self.count = rng, count

    def uniform(self, low: Any, high: Any) -> Floats:
        return self._rng.uniform(low, high, self.count)


def ask(crowd: Crowd, most_s: int = 7 * 86_400) -> Asked:
    """Run one ring from the moment at which its plan stands, in steps of a second, to its last report or `most_s`."""
    return _Ring(crowd).run(most_s)


class _Ring:
    def __init__(self, crowd: Crowd) -> None:
        self.crowd, self.rng = crowd, np.random.default_rng(crowd.seed)
        count = crowd.devices
        self.group = self.rng.permutation(count) // crowd.group_devices if crowd.at_most else np.zeros(count, np.int64)
        groups = int(self.group.max()) + 1
        self.places = crowd.at_most or count
        self.flying = np.zeros(groups, dtype=np.int64)
        self.newest_ms = np.zeros(groups)
        self.stretch = np.ones(groups)
        self.waiting = np.zeros(groups, dtype=np.int64)
        self.has_turn = np.zeros(count, dtype=np.bool_)
        self.held_ms = hold_ms(crowd.soak_s)
        rounds = crowd.group_devices / crowd.at_most if crowd.at_most else 0.0
        self.spread_s = ring_spread_s(count, rounds, crowd.soak_s) if crowd.spread else 0
        self.asks: dict[int, list[Ints]] = defaultdict(list)
        self.ends: dict[int, list[Ints]] = defaultdict(list)
        self.requests: dict[int, int] = defaultdict(int)
        self.granted = self.refused = self.vain = self.open = 0

    def run(self, most_s: int) -> Asked:
        crowd, many = self.crowd, Many(self.rng, self.crowd.devices)
        read_s = many.uniform(0, crowd.poll_s)
        first_s = read_s + cast(Floats, place_within(self.spread_s, cast(Any, many)))
        self._put(self.asks, np.arange(crowd.devices), first_s)
        self.open = crowd.devices
        now = last = 0
        while self.open and now < most_s:
            for who in self.ends.pop(now, []):
                self.flying -= np.bincount(self.group[who], minlength=len(self.flying))
                self.requests[now] += len(who)
                self.open -= len(who)
                last = now
            if asking := self.asks.pop(now, []):
                self._decide(np.concatenate(asking), now)
            now += 1
        seconds = np.zeros(max(self.requests) + 1, dtype=np.int64)
        seconds[list(self.requests)] = list(self.requests.values())
        return Asked(self.spread_s, self.granted, self.refused, self.vain, last, seconds)

    def _put(self, calendar: dict[int, list[Ints]], who: Ints, at_s: Floats) -> None:
        """Note when devices come; each list is whole seconds apart, in order of chance within one."""
        seconds = at_s.astype(np.int64)
        order = np.argsort(seconds, kind="stable")
        starts = np.flatnonzero(np.diff(seconds[order], prepend=-1))
        for part in np.split(order, starts[1:]) if len(order) else ():
            calendar[int(seconds[part[0]])].append(who[part])

    def _decide(self, who: Ints, now: int) -> None:
        self.requests[now] += len(who)
        if self.crowd.turns:  # whoever has a turn comes first, as in the server he finds a place kept
            turned = self.has_turn[who]
            self.waiting -= np.bincount(self.group[who[turned]], minlength=len(self.waiting))
            self.waiting[self.newest_ms <= now * 1000] = 0
            self.waiting = np.maximum(self.waiting, 0)
            self._let_in(who[turned], now, 0)
            who = who[~turned]
            kept = kept_places(self.waiting[self.group[who]], self.places)
            self._let_in(who, now, kept)
        else:
            self._let_in(who, now, 0)

    def _let_in(self, who: Ints, now: int, kept: Any) -> None:
        order, nth = _numbered(self.group[who])
        who = who[order]
        group = self.group[who]
        free = self.places - self.flying[group] - (kept[order] if isinstance(kept, np.ndarray) else kept)
        lets_in = nth < np.maximum(free, 0)
        self._grant(who[lets_in], now)
        if not lets_in.all():
            self._refuse(who[~lets_in], now)

    def _grant(self, who: Ints, now: int) -> None:
        crowd, group = self.crowd, self.group[who]
        np.add.at(self.flying, group, 1)
        self.granted += len(who)
        kept = np.bincount(group[self.has_turn[who]], minlength=len(self.flying))
        self.stretch = np.maximum(1.0, self.stretch * KEPT_STRETCH**kept)
        answers = self.rng.random(len(who)) >= crowd.silent_share
        self.open -= int((~answers).sum())
        who = who[answers]
        self._put(self.ends, who, now + 1 + self.rng.uniform(1, crowd.apply_s, len(who)) + crowd.soak_s)

    def _refuse(self, who: Ints, now: int) -> None:
        many = cast(Any, Many(self.rng, len(who)))
        order, nth = _numbered(self.group[who])
        who = who[order]
        group, again = self.group[who], self.has_turn[who]
        self.refused += len(who)
        self.vain += int(again.sum())
        self.has_turn[who] = True
        if not self.crowd.turns:
            self._put(self.asks, who, now + 1 + self.crowd.soak_s / 2 * many.uniform(1.0, 1.2))
            return
        vain = np.bincount(group[again], minlength=len(self.stretch))
        self.stretch = np.minimum(MOST_STRETCH, self.stretch * VAIN_STRETCH**vain)
        spacing = self.held_ms * self.stretch / self.places
        turns = turn_ms(self.newest_ms[group], now * 1000.0, spacing[group], self.held_ms, nth)
        np.maximum.at(self.newest_ms, group, turns)
        wait_s = (turns - now * 1000.0) / 1000
        self.waiting += np.bincount(group, minlength=len(self.waiting))
        self._put(self.asks, who, now + 1 + wait_s + many.uniform(0, turn_jitter_s(wait_s)))


def turn_jitter_s(wait_s: Any) -> Any:
    """Give how much later than at its turn an agent may come: that of `pace.at_turn`, for arrays."""
    return np.minimum(wait_s * TURN_SHARE, TURN_JITTER_S)


def _numbered(group: Ints) -> tuple[Ints, Ints]:
    """Order by group, and number within each: (order, place in the group), each of shape (n,)."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return order, np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
