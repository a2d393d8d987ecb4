"""How long a ring takes under caps: groups of devices drawn at random, at most so many of each in flight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.sim.scenario import GroupCap, Scenario

Groups = npt.NDArray[np.int32]
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
        self._lost = [np.zeros(len(left), dtype=np.int32) for left in self._left]

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
            slowest = Dealt(min(slowest.leased, dealt.leased), max(slowest.rounds, dealt.rounds))
        return slowest


def _groups(devices: int, cap: GroupCap) -> Groups:
    sizes = np.full(-(-devices // cap.group_devices), cap.group_devices, dtype=np.int32)
    sizes[-1] -= len(sizes) * cap.group_devices - devices
    return sizes


def _loads(rng: np.random.Generator, remaining: Groups, treated: int, left: int) -> Groups:
    if treated >= left:
        return remaining.copy()
    if treated > _FEW:
        found = rng.binomial(remaining, treated / left)
    else:
        found = np.bincount(rng.integers(0, len(remaining), treated), minlength=len(remaining))
    return np.minimum(found, remaining).astype(np.int32)


def _follow(rng: np.random.Generator, cap: GroupCap, load: Groups, lost: Groups, fails: float) -> Dealt:
    wanted, leased, rounds = int(load.sum()), 0, 0
    active = np.flatnonzero(load)
    waiting = load[active]
    while len(active):
        go = np.minimum(np.maximum(cap.at_most - lost[active], 0), waiting)
        count = int(go.sum())
        if count == 0:
            break
        rounds, leased = rounds + 1, leased + count
        failed = int(rng.binomial(count, fails)) if fails > 0 else 0
        if failed:
            whose = active[np.searchsorted(np.cumsum(go), rng.choice(count, failed, replace=False), side="right")]
            np.add.at(lost, whose, 1)
        waiting = waiting - go
        still = waiting > 0
        active, waiting = active[still], waiting[still]
    return Dealt(leased, max(rounds, 1 if wanted else 0))
