"""Nebraska (Flatcar Linux): so many updates a period, so many at once; safe mode stops when as many have timed out.

Source: https://github.com/flatcar/nebraska, `backend/pkg/api/updates.go` (`enforceRolloutPolicy`) and `events.go`,
and https://www.flatcar.org/docs/latest/nebraska/: at most `max_updates_per_period` are granted in a period, and as
many in progress; in safe mode the first instance goes alone, and updates are disabled when as many as may be granted
have timed out (`update_timeout`); with `OptionDisableUpdatesOnFailedRollout` also when the first one reports a
failure. An instance that reports a failure is no longer in progress and is not counted again; one that is away does
not ask.

Documented defaults: a period of 1 hour and a time-out of 1 day, as the web interface proposes. Chosen, because the
operator must: 1 % of the fleet an hour, safe mode and that option on.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from tidegate.sim.outcome import Flags, Ints, Runs
from tidegate.sim.peers.course import Course, runs_of
from tidegate.sim.peers.fleet import PeerFleet, Seen
from tidegate.sim.scenario import Scenario

SHARE_PER_PERIOD = 0.01
PERIOD_S = 3600.0
UPDATE_TIMEOUT_S = 86_400.0


class Nebraska:
    name = "nebraska"
    settings = "1 % an hour (chosen), no more at once; safe mode: the first alone; time-out 1 day (default)"

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        """Play period by period; the first device has a period, or a time-out, of its own."""
        return _Periods(scenario, rng, replicates).play()


class _Periods:
    """The state of a run, arrays of shape (replicates,)."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> None:
        self.scenario, self.replicates = scenario, replicates
        self.fleet, self.course = PeerFleet(scenario, rng, replicates), Course(scenario)
        self.most = max(1, math.ceil(scenario.fleet.devices * SHARE_PER_PERIOD))
        zero = np.zeros(replicates, dtype=np.int64)
        self.told, self.harmed, self.pending, self.timed_out = zero, zero.copy(), zero.copy(), zero.copy()
        self.open = deque[tuple[float, Ints, float, Ints]]()
        self.stopped = np.full(replicates, np.inf)
        self.last = np.zeros(replicates)

    def play(self) -> Runs:
        """Grant, period by period, until everyone is told, it is stopped, or nothing moves before the deadline."""
        terms, everyone = self.scenario.rollout, self.scenario.fleet.devices
        reverted, silent = self._first()
        self.stopped = np.where(reverted, terms.round_s, self.stopped)
        self.stopped = np.where(silent, UPDATE_TIMEOUT_S, self.stopped)
        at = max(PERIOD_S, terms.round_s)
        while at < terms.rollout_deadline_s:
            self._settle(at)
            now = (self.timed_out >= self.most) & np.isinf(self.stopped)
            self.stopped = np.where(now, at, self.stopped)
            active = np.isinf(self.stopped) & (self.told < everyone)
            if not active.any():
                break
            room = np.maximum(self.most - self.pending, 0)
            self._grant(np.where(active, np.minimum(room, self.most), 0), at)
            at += PERIOD_S
        return self._outcome()

    def _first(self) -> tuple[Flags, Flags]:
        """Grant to the first instance that asks: one that is away does not. Whether it reverted, and fell silent."""
        reverted, silent = (np.zeros(self.replicates, dtype=np.bool_) for _ in range(2))
        asks = np.ones(self.replicates, dtype=np.bool_)
        while (asks & (self.told < self.scenario.fleet.devices)).any():
            batch = self._grant(asks.astype(np.int64), 0.0)
            reverted, silent = reverted | (batch.reverted > 0), silent | (batch.silent > 0)
            asks &= batch.told == batch.away
        return reverted, silent

    def _grant(self, wanted: Ints, at: float) -> Seen:
        when = np.full(self.replicates, at)
        batch = self.fleet.expose(wanted, when)
        self.course.batch(when, batch)
        self.told, self.harmed = self.told + batch.told, self.harmed + batch.harmed
        self.pending = self.pending + batch.told - batch.away
        answered = batch.fine + batch.reverted
        self.open.append((at + self.scenario.rollout.round_s, answered, at + UPDATE_TIMEOUT_S, batch.silent))
        self.last = np.where(batch.told > 0, at, self.last)
        return batch

    def _settle(self, at: float) -> None:
        """Take answers off what is in progress, and turn what is older than the time-out into timed out."""
        left = deque[tuple[float, Ints, float, Ints]]()
        nobody = np.zeros(self.replicates, dtype=np.int64)
        for due, answered, expires, silent in self.open:
            if due <= at:
                self.pending, answered, due = self.pending - answered, nobody, math.inf
            if expires <= at:
                self.pending, self.timed_out = self.pending - silent, self.timed_out + silent
            else:
                left.append((due, answered, expires, silent))
        self.open = left

    def _outcome(self) -> Runs:
        done = np.isinf(self.stopped) & (self.told >= self.scenario.fleet.devices)
        end = self.last + self.scenario.rollout.round_s
        return runs_of(self.scenario, self.fleet, self.course, self.harmed, done, end, self.stopped)


POLICY = Nebraska()
