"""How long a ring takes under caps: groups of devices drawn at random, at most so many of each in flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.sim.scenario import GroupCap, Scenario

Groups = npt.NDArray[np.signedinteger[Any]]
_FEW = 5_000_000
"""Batches up to here are dealt to groups device by device; above, group by group with the same mean."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """What the caps allow of a batch: devices that get their lease, and the observation times that it takes."""

    leased: int
    rounds: int


class Caps:
    """One replicate's groups: who is left in each, and who of it never confirmed and so keeps using its cap.

    A device belongs to one group of every cap. Each cap's groups are followed by themselves, and the slowest decides:
    that two caps bind on different devices of one ring at once is left out.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._devices = scenario.fleet.devices
        self._caps = scenario.caps
        self._left = [_groups(self._devices, cap) for cap in self._caps]
        self._lost = [np.zeros_like(left) for left in self._left]

    def deal(self, rng: np.random.Generator, treated: int, left: int, fails: float) -> Dealt:
        """Deal a batch to the groups and follow it round by round.

        Args:
            treated: devices of the batch.
            left: devices that nobody has treated yet, the batch included.
            fails: probability that a device of it never confirms.
        """
        loads = [_loads(rng, remaining, treated, left) for remaining in self._left]
        return self.follow(rng, loads, treated, fails)

    def follow(self, rng: np.random.Generator, loads: Sequence[Groups], treated: int, fails: float) -> Dealt:
        """Follow a batch whose members of each group are known, one array of groups for each cap."""
        slowest = Dealt(treated, 1)
        for cap, remaining, lost, load in zip(self._caps, self._left, self._lost, loads, strict=True):
            remaining -= load
            dealt = _follow(rng, cap, load, lost, fails)
            shut_out = int(load.sum(dtype=np.int64)) - dealt.leased
            slowest = Dealt(min(slowest.leased, max(treated - shut_out, 0)), max(slowest.rounds, dealt.rounds))
        return slowest


def _groups(devices: int, cap: GroupCap) -> Groups:
    kind = np.int16 if cap.group_devices < 1 << 15 else np.int32  # five million groups should stay small
    sizes = np.full(-(-devices // cap.group_devices), cap.group_devices, dtype=kind)
    sizes[-1] -= len(sizes) * cap.group_devices - devices
    return sizes


def _loads(rng: np.random.Generator, remaining: Groups, treated: int, left: int) -> Groups:
    if treated >= left:
        return remaining.copy()
    if treated > _FEW:
        found = rng.binomial(remaining, treated / left)
    else:
        found = np.bincount(rng.integers(0, len(remaining), treated), minlength=len(remaining))
    return np.minimum(found.astype(remaining.dtype), remaining)


def _follow(rng: np.random.Generator, cap: GroupCap, load: Groups, lost: Groups, fails: float) -> Dealt:
    """Grant round by round what each group's cap has room for; whoever fails keeps using it. Changes `lost`."""
    leased, rounds = 0, 0
    active: slice | npt.NDArray[np.int64] = slice(None)
    waiting = load.copy()
    while True:
        go = np.minimum(np.maximum(cap.at_most - lost[active], 0), waiting)
        count = int(go.sum(dtype=np.int64))
        if count == 0:
            return Dealt(leased, max(rounds, 1))
        rounds, leased = rounds + 1, leased + count
        failed = int(rng.binomial(count, fails)) if fails > 0 else 0
        if failed:
            whose = _owners(rng, go, failed)
            np.add.at(lost, whose if isinstance(active, slice) else active[whose], 1)
        waiting -= go
        some = np.flatnonzero(waiting) if count < len(waiting) * cap.at_most // 4 else None
        if some is not None:
            active = some if isinstance(active, slice) else active[some]
            waiting = waiting[some]


def _owners(rng: np.random.Generator, go: Groups, failed: int) -> npt.NDArray[np.int64]:
    """Draw the groups of so many of the devices that go."""
    count = int(go.sum(dtype=np.int64))
    if failed * 8 > len(go):
        order = rng.choice(count, failed, replace=False)
        return np.searchsorted(np.cumsum(go, dtype=np.int64), order, side="right")
    most, found = int(go.max()), np.empty(0, dtype=np.int64)
    while len(found) < failed:
        tried = rng.integers(0, len(go), 2 * failed + 16)
        found = np.concatenate([found, tried[rng.integers(0, most, len(tried)) < go[tried]]])
    return found[:failed]
