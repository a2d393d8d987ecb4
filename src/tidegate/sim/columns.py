"""A fleet device by device, in arrays: each with its rank, its arm and its fate; 8.5 million in under a second."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tidegate.core.assign import arm_order, hash64, rank
from tidegate.core.looks import LookPlan
from tidegate.sim.batch import Arrivals, Leases, Outcome, opening
from tidegate.sim.capped import Caps
from tidegate.sim.counts import Certain, Naive, Tidegate
from tidegate.sim.draws import draw_population
from tidegate.sim.outcome import Flags, Floats, Ints, Runs, joined
from tidegate.sim.port import Policy
from tidegate.sim.rule import looks_of
from tidegate.sim.scenario import Scenario

Ids = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
BLOCK = 1 << 15
"""Hashes are taken in blocks that stay in the processor's cache."""
SORTED = 1 << 20
RARE = 0.01


class Columns:
    """One replicate's devices. A device is a row; all arrays over rows have shape (devices,).

    The order of exposure and the arms are the shipped hashes. The order is sorted only as far as it is asked for: at
    the planned rings' ends, and within a ring where the certain rule goes through it in small steps.
    """

    def __init__(self, scenario: Scenario, arrivals: Arrivals, rng: np.random.Generator, replicates: int) -> None:
        if replicates != 1:
            raise ValueError("columns play one replicate at a time")
        self.scenario, self.arrivals, self.rng = scenario, arrivals, rng
        devices = scenario.fleet.devices
        self.keys = rng.integers(0, 2**64, devices, dtype=np.uint64)
        population = draw_population(rng, scenario, 1)
        self.harmless = population.harmed == 0
        self.is_late = _marked(rng, devices, population.late)
        harmed, harmed_late = int(population.harmed_present[0]), int(population.harmed_late[0])
        self.harmed = _marked_within(rng, ~self.is_late, harmed) | _marked_within(rng, self.is_late, harmed_late)
        self.order = Order(_hashed(rng.bytes(16), self.keys, rank), looks_of(scenario))
        self.caps = Caps(scenario) if scenario.caps else None
        self.groups = [rng.permutation(devices) // cap.group_devices for cap in scenario.caps]
        faults = arrivals.effects
        self._delay_salts = [rng.bytes(16) for _ in faults.delays]
        self._absence_salts = [rng.bytes(16) for _ in faults.absences]
        self._late_left, self._waiting = population.late, np.empty(0, dtype=np.int64)
        self._treated = self._placebo = self._waiting

    @property
    def late_left(self) -> Ints:
        return np.asarray([self._late_left], dtype=np.int64)

    def attend(self, who: Ints, at_s: Floats, size: Ints, placebo: Ints, left: Ints) -> Leases:
        members = self.order.take(int(size[0] + placebo[0]))
        treated, beside = self._arms(members, int(size[0]))
        self.order.put_back(beside)
        absent, missed = self._absent(treated, float(at_s[0]))
        self._waiting = np.concatenate([self._waiting, treated[absent]])
        self._late_left += missed
        self._treated = treated if not len(absent) else np.delete(treated, absent)
        gone = self._absent(beside, float(at_s[0]))[0]
        self._placebo = beside if not len(gone) else np.delete(beside, gone)
        dealt, rounds = self._through_caps(int(left[0]))
        terms = self.scenario.rollout
        return Leases(
            at_s=at_s,
            treated=_one(dealt),
            placebo=_one(len(self._placebo)),
            absent=_one(len(absent)),
            gone=np.asarray([missed > 0]),
            short=np.asarray([dealt < len(treated) - len(absent)]),
            lasts_s=np.asarray([terms.poll_s + (rounds - 1) * terms.observe_s]),
        )

    def attend_late(self, who: Ints, at_s: Floats, size: Ints) -> Leases:
        self._treated, self._waiting = self._waiting[: size[0]], self._waiting[size[0] :]
        self._placebo = self._treated[:0]
        self._late_left -= len(self._treated)
        no = np.zeros(1, dtype=np.bool_)
        return Leases(at_s, size, _one(0), _one(0), no, no, np.asarray([self.scenario.rollout.poll_s]))

    def play(self, who: Ints, leases: Leases) -> Outcome:
        scenario, rng, effects = self.scenario, self.rng, self.arrivals.effects
        due_s = leases.at_s + leases.lasts_s + scenario.rollout.observe_s
        treated, harmed = self._treated, self.harmed[self._treated]
        visible = np.zeros_like(harmed)
        if scenario.defect.delay_s <= scenario.rollout.observe_s:
            visible = harmed & ~_chance(rng, len(treated), float(effects.lie_share("healthy", leases.at_s)[0]))
        silent, reverted = self._background(len(treated))
        sick = _chance(rng, len(treated), float(effects.lie_share("sick", leases.at_s)[0])) & ~silent
        placebo_silent, placebo_reverted = self._background(len(self._placebo))
        says_sick = ~visible & (reverted | sick)
        if scenario.defect.outcome == "reverted":
            says_sick |= visible
        fine = self._split(treated, ~(visible | silent | reverted | sick), leases, due_s)
        placebo_fine = self._split(self._placebo, ~(placebo_silent | placebo_reverted), leases, due_s)
        quiet = _one(int(placebo_silent.sum()))
        frozen, frozen_s = opening(scenario, self.arrivals, leases, placebo_fine, quiet, due_s)
        counts = (_one(int(harmed.sum())), _one(int(says_sick.sum())))
        return Outcome(*counts, due_s, fine, placebo_fine, quiet, frozen, frozen_s)

    def _arms(self, members: Ids, treated: int) -> tuple[Ids, Ids]:
        if treated == len(members):
            return members, members[:0]
        arms = np.argpartition(_hashed(self.rng.bytes(16), self.keys, arm_order, members), treated)
        return members[arms[:treated]], members[arms[treated:]]

    def _absent(self, devices: Ids, at_s: float) -> tuple[Ids, int]:
        """Which of these do not come (places, not rows), and how many of them cannot reach the server."""
        away = self.is_late[devices] if self._late_left else np.zeros(len(devices), dtype=np.bool_)
        known = int(away.sum())
        for salt, absence in zip(self._absence_salts, self.arrivals.effects.absences, strict=True):
            if absence.start_s <= at_s and at_s + self.arrivals.takes_s <= absence.end_s:
                away |= self._struck(salt, devices, absence.share)
        found = np.flatnonzero(away)
        return found, len(found) - known

    def _split(self, devices: Ids, confirms: Flags, leases: Leases, due_s: Floats) -> Ints:
        """Count confirmations by arrival, as `Arrivals.split` does, but always the same devices are struck."""
        if not len(self.arrivals.times_s):
            return _one(int(np.count_nonzero(confirms)))[:, None]
        fine = devices[confirms]
        effects, at_s, takes_s = self.arrivals.effects, float(leases.at_s[0]), self.arrivals.takes_s
        column = np.zeros(len(fine), dtype=np.int64)
        when = np.full(len(fine) if effects.delays else 0, due_s[0])
        for place, absence in enumerate(effects.absences):
            if absence.start_s <= at_s < absence.end_s < at_s + takes_s:
                hit = self._struck(self._absence_salts[place], fine, absence.share) & (column == 0)
                column[hit] = 1 + len(effects.delays) + place
        own = column == 0
        for place, delay in enumerate(effects.delays):
            if len(fine) and delay.end_s > float(due_s[0]):
                hit = (delay.start_s <= when) & (when < delay.end_s) & own
                if hit.any():
                    hit &= self._struck(self._delay_salts[place], fine, delay.share)
                    column[hit], when[hit] = 1 + place, delay.arrive_s
        return np.bincount(column, minlength=1 + len(self.arrivals.times_s))[None, :].astype(np.int64)

    def _struck(self, salt: bytes, devices: Ids, share: float) -> Flags:
        if share >= 1.0:
            return np.ones(len(devices), dtype=np.bool_)
        return _hashed(salt, self.keys, hash64, devices) < np.uint64(share * 2.0**64)

    def _background(self, devices: int) -> tuple[Flags, Flags]:
        silent, reverted = self.scenario.background.silent_rate, self.scenario.background.reverted_rate
        quiet = _chance(self.rng, devices, silent)
        return quiet, _chance(self.rng, devices, reverted / (1.0 - silent)) & ~quiet

    def _through_caps(self, left: int) -> tuple[int, int]:
        """Count the treated devices that get their lease, and the observation times it takes."""
        if self.caps is None:
            return len(self._treated), 1
        shows = self.scenario.defect.delay_s <= self.scenario.rollout.observe_s
        harmed = float(self.harmed[self._treated].mean()) if shows and len(self._treated) else 0.0
        fails = 1.0 - (1.0 - self.scenario.background.rate) * (1.0 - harmed)
        loads = [
            np.bincount(group[self._treated], minlength=-(-len(group) // cap.group_devices)).astype(np.int32)
            for group, cap in zip(self.groups, self.scenario.caps, strict=True)
        ]
        dealt = self.caps.follow(self.rng, loads, len(self._treated), fails)
        self._treated = self._treated[: dealt.leased]
        return dealt.leased, dealt.rounds


class Order:
    """The devices in the order of exposure, sorted as far as needed; placebo devices come back to its head."""

    def __init__(self, ranks: Words, looks: LookPlan | None) -> None:
        self._ranks = ranks
        reach = [] if looks is None else [n + c for n, c in zip(looks.sizes, looks.placebo, strict=True)]
        ends = sorted({end for end in reach if end < len(ranks)})
        self._order = np.argpartition(ranks, ends) if ends else np.arange(len(ranks))
        self._bounds = [0, *ends, len(ranks)]
        self._sorted: set[int] = set()
        self._taken, self._heads = 0, np.empty(0, dtype=np.int64)

    def take(self, count: int) -> Ids:
        """Give the next devices, as a set: their order among themselves does not matter."""
        heads, self._heads = self._heads[:count], self._heads[count:]
        start, end = self._taken, self._taken + count - len(heads)
        self._settle(end)
        self._taken = end
        return np.concatenate([heads, self._order[start:end]]) if len(heads) else self._order[start:end]

    def put_back(self, devices: Ids) -> None:
        """Put placebo devices at the head of what comes next."""
        self._heads = np.concatenate([devices, self._heads]) if len(self._heads) else devices

    def _settle(self, end: int) -> None:
        """Make sure that the first `end` devices are those of the lowest ranks."""
        place = bisect_right(self._bounds, end) - 1
        low = self._bounds[place]
        if end == low or low in self._sorted:
            return
        high = self._bounds[place + 1]
        part = self._order[low:high]
        if len(part) <= SORTED:
            self._order[low:high] = part[np.argsort(self._ranks[part])]
            self._sorted.add(low)
            return
        cut = min(max(end - low, SORTED), len(part) - 1)
        self._order[low:high] = part[np.argpartition(self._ranks[part], cut)]
        self._bounds.insert(place + 1, low + cut)
        self._settle(end)


def _hashed(salt: bytes, keys: Words, how: Callable[[bytes, Words], Words], devices: Ids | None = None) -> Words:
    """Hash the keys of some devices, or of all, block by block."""
    found = np.empty(len(keys) if devices is None else len(devices), dtype=np.uint64)
    for start in range(0, len(found), BLOCK):
        part = slice(start, start + BLOCK)
        found[part] = how(salt, keys[part] if devices is None else keys[devices[part]])
    return found


def _one(value: int) -> Ints:
    return np.asarray([value], dtype=np.int64)


def _chance(rng: np.random.Generator, count: int, share: float) -> Flags:
    """Each with this probability, shape (count,). Rare ones are picked, since a float32 would round them away."""
    if share >= RARE:
        return rng.random(count) < share
    return _marked(rng, count, int(rng.binomial(count, share)))


def _marked(rng: np.random.Generator, count: int, marked: int) -> Flags:
    """So many of them, exactly, at random."""
    found = np.zeros(count, dtype=np.bool_)
    if marked == count:
        found[:] = True
    elif marked:
        found[rng.choice(count, marked, replace=False, shuffle=False)] = True
    return found


def _marked_within(rng: np.random.Generator, group: Flags, count: int) -> Flags:
    """So many of a group, exactly, at random; shape of `group`."""
    if count == 0 or group.all():
        return _marked(rng, len(group), count)
    found = np.zeros(len(group), dtype=np.bool_)
    inside = np.flatnonzero(group)
    found[inside[_marked(rng, len(inside), count)]] = True
    return found


@dataclass(frozen=True, slots=True)
class _OneByOne:
    """Plays a rule replicate by replicate."""

    rule: Tidegate

    @property
    def name(self) -> str:
        return self.rule.name

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        return joined([self.rule.run(scenario, one, 1) for one in rng.spawn(replicates)])


POLICIES: dict[str, Policy] = {
    rule.name: _OneByOne(rule) for rule in (Tidegate(fleet=Columns), Certain(fleet=Columns), Naive(fleet=Columns))
}
