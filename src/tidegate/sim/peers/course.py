"""The course of the first replicate of a peer's rollout, kept as changes and summed up at the end."""

from __future__ import annotations

import math

import numpy as np

from tidegate.sim.outcome import Ending, Flags, Floats, Ints, Recorder, Runs, Series
from tidegate.sim.peers.fleet import PeerFleet, Seen
from tidegate.sim.scenario import Scenario

SPREAD = tuple(sorted({*np.geomspace(1e-5, 1.0, 26).tolist(), *np.linspace(0.0, 1.0, 25)[1:].tolist()}))
"""Moments, as shares of the poll, at which a batch whose devices ask evenly over it is recorded; fine at first."""


class Course:
    """Changes of exposed, confirmed, harmed and window in the first replicate."""

    def __init__(self, scenario: Scenario) -> None:
        self._terms = scenario.rollout
        self._changes: list[tuple[float, float, float, float, float]] = [(0.0, 0.0, 0.0, 0.0, 0.0)]

    def batch(self, at_s: Floats, seen: Seen, stop_s: float = math.inf, poll_s: float | None = None) -> None:
        """Keep a batch, told at `at_s[0]`; its devices ask evenly over the poll, those after `stop_s` in vain."""
        start, poll = float(at_s[0]), self._terms.poll_s if poll_s is None else poll_s
        came, harmed = int(seen.told[0] - seen.away[0]), int(seen.harmed[0])
        if came == 0:
            return
        self._changes.append((start, 0.0, 0.0, 0.0, float(came)))
        before = 0.0
        for moment in SPREAD if poll > 0 else (1.0,):
            when = start + poll * (moment if poll > 0 else 0.0)
            if when > stop_s:
                break
            part, before = moment - before, moment
            self._changes.append((when, came * part, 0.0, harmed * part, 0.0))
            self._changes.append((when + self._terms.observe_s, 0.0, float(seen.fine[0]) * part, 0.0, 0.0))

    def series(self, end_s: float) -> Series | None:
        """Give the course, up to `end_s`."""
        recorder, total = Recorder(), [0.0, 0.0, 0.0, 0.0]
        for when, *changes in sorted(self._changes):
            if when > end_s:
                break
            total = [before + change for before, change in zip(total, changes, strict=True)]
            recorder.add(when, *(round(value) for value in total))
        recorder.add(end_s, *(round(value) for value in total))
        return recorder.series()


def runs_of(
    scenario: Scenario, fleet: PeerFleet, course: Course, harmed: Ints, done: Flags, end_s: Floats, stopped_s: Floats
) -> Runs:
    """Put a peer's runs together; those who were away and came back before a stop are added.

    Args:
        scenario: what was played.
        fleet: its fleet, at the end.
        course: the first replicate's.
        harmed: of those who took the candidate when told, shape (replicates,), as all below.
        done: everyone was told.
        end_s: when the last of them was observed.
        stopped_s: when the rule stopped the rollout; infinity where it did not.
    """
    halted = np.isfinite(stopped_s)
    late_harmed, last_back = fleet.returned(stopped_s)
    end_s = np.where(last_back > 0, np.maximum(end_s, last_back + scenario.rollout.round_s), end_s)
    verdict = np.where(halted, Ending.HALTED, np.where(done, Ending.COMPLETED, Ending.HELD)).astype(np.int8)
    return Runs(
        harmed=harmed + late_harmed,
        verdict=verdict,
        coverage_s=np.where(verdict == Ending.COMPLETED, end_s, np.nan),
        false_halt=halted & scenario.good,
        series=course.series(float(end_s[0])),
    )
