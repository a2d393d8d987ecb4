"""One batch of leases: who comes, who is harmed or fails by itself, who reports when, and when it is frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tidegate.core.gating import placebo_gates
from tidegate.sim.faults import Effects
from tidegate.sim.outcome import Flags, Floats, Ints
from tidegate.sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Leases:
    """Who of a batch comes, arrays of shape (replicates,).

    Attributes:
        at_s: when the batch is opened.
        treated, placebo: devices that get a lease.
        absent: members of the treated arm that do not come; they are late.
        gone: whether some of them cannot reach the server, rather than being away by `[late]`.
        short: whether a cap is used up for good, so that members are left without a lease.
        lasts_s: how long granting takes, beyond the observation time.
    """

    at_s: Floats
    treated: Ints
    placebo: Ints
    absent: Ints
    gone: Flags
    short: Flags
    lasts_s: Floats


class Fleet(Protocol):
    """The devices, as pools of counts or one by one."""

    @property
    def late_left(self) -> Ints:
        """Late devices without a lease, shape (replicates,)."""
        ...

    @property
    def harmless(self) -> Flags:
        """Whether the candidate harms nobody at all, shape (replicates,)."""
        ...

    def attend(self, who: Ints, at_s: Floats, size: Ints, placebo: Ints, left: Ints) -> Leases:
        """Take the next `size` members in the order of exposure, of `left`, and so many placebo members beside."""
        ...

    def attend_late(self, who: Ints, at_s: Floats, size: Ints) -> Leases:
        """Take so many of the late devices that wait."""
        ...

    def play(self, who: Ints, leases: Leases) -> Outcome:
        """Draw the outcomes of the batch that attended last."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a batch fared, arrays of shape (replicates,) or (replicates, arrivals).

    Attributes:
        harmed: treated devices that the candidate harms, whether it shows or not.
        reverted: treated devices that said so themselves.
        due_s: when the last lease runs out.
        fine, placebo_fine: confirmations by arrival: column 0 in time, column 1 + i at `Arrivals.times_s[i]`.
        placebo_silent: placebo devices that never answer.
        frozen: whether the placebo gate opened at all.
        frozen_s: when, or when the last report came.
    """

    harmed: Ints
    reverted: Ints
    due_s: Floats
    fine: Ints
    placebo_fine: Ints
    placebo_silent: Ints
    frozen: Flags
    frozen_s: Floats


class Arrivals:
    """Splits confirmations by when they arrive: in time, or at one of few later moments that the faults give."""

    def __init__(self, scenario: Scenario, effects: Effects) -> None:
        self.takes_s = scenario.rollout.round_s
        self.effects = effects
        late_leases = [absence.end_s + scenario.rollout.round_s for absence in effects.absences]
        self.times_s = np.asarray([delay.arrive_s for delay in effects.delays] + late_leases, dtype=np.float64)

    def split(self, rng: np.random.Generator, fine: Ints, at_s: Floats, due_s: Floats) -> Ints:
        """Shape (replicates, 1 + arrivals). Devices that cannot ask at `at_s` but can within the time ask later."""
        found = np.zeros((len(fine), 1 + len(self.times_s)), dtype=np.int64)
        found[:, 0] = fine
        delays = self.effects.delays
        for place, absence in enumerate(self.effects.absences, start=1 + len(delays)):
            away = (absence.start_s <= at_s) & (at_s < absence.end_s) & (absence.end_s < at_s + self.takes_s)
            moved = _mean(found[:, 0], np.where(away, absence.share, 0.0))
            found[:, place] += moved
            found[:, 0] -= moved
        for place, delay in enumerate(delays, start=1):
            for source in range(place):
                when = due_s if source == 0 else np.full(len(fine), self.times_s[source - 1])
                hit = (delay.start_s <= when) & (when < delay.end_s) & (when < delay.arrive_s)
                if np.any(hit):
                    moved = rng.binomial(found[:, source], np.where(hit, delay.share, 0.0))
                    found[:, place] += moved
                    found[:, source] -= moved
        return found

    def missed(self, devices: Ints, at_s: Floats) -> Ints:
        """Count those of a batch that cannot ask before it no longer takes them: they are late."""
        gone = np.zeros_like(devices)  # a ring takes its members for the spread and one observation time
        for absence in self.effects.absences:
            away = (absence.start_s <= at_s) & (at_s + self.takes_s <= absence.end_s)
            gone += _mean(devices - gone, np.where(away, absence.share, 0.0))
        return gone

    def arrived(self, columns: Ints, by_s: Floats) -> Ints:
        """Count what has come by these moments, of shape (replicates,); column 0 always has."""
        if not len(self.times_s):
            return columns[:, 0]
        return columns[:, 0] + (columns[:, 1:] * (self.times_s[None, :] <= by_s[:, None])).sum(axis=1)


def _mean(devices: Ints, share: Floats) -> Ints:
    return np.rint(devices * share).astype(np.int64)


def opening(
    scenario: Scenario, arrivals: Arrivals, leases: Leases, fine: Ints, silent: Ints, due_s: Floats
) -> tuple[Flags, Floats]:
    """The first moment, once every lease has run out, at which so few placebo devices are silent as the gate allows.

    Args:
        scenario, arrivals, leases: of the batch.
        fine: confirmations of its placebo devices by arrival, shape (replicates, 1 + arrivals).
        silent: placebo devices that never answer, shape (replicates,).
        due_s: when the last lease runs out, shape (replicates,).

    Returns:
        Whether the gate opens at all, and when, or when the last report came.
    """
    gates = placebo_gates(scenario.rollout.q_gate, leases.placebo)
    first = due_s.copy()
    for column, when in enumerate(arrivals.times_s[len(arrivals.effects.delays) :], 1 + len(arrivals.effects.delays)):
        first = np.where(fine[:, column] > 0, np.maximum(first, when), first)
    frozen, frozen_s = np.zeros(len(due_s), dtype=np.bool_), first.copy()
    for when in (-np.inf, *np.unique(arrivals.times_s)):
        moment = np.maximum(first, when)
        pending = fine.sum(axis=1) - arrivals.arrived(fine, moment)
        opens = ~frozen & (silent + pending <= gates)
        frozen_s = np.where(frozen, frozen_s, moment)
        frozen |= opens
    return frozen, frozen_s
