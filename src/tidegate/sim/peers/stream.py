"""Runs a policy that tells devices at a rate and may stop at any moment by what has been reported so far."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import numpy as np

from tidegate.sim.outcome import Flags, Floats, Ints, Runs
from tidegate.sim.peers.course import Course, runs_of
from tidegate.sim.peers.fleet import PeerFleet, Seen, nothing
from tidegate.sim.scenario import Scenario

FINE_STEPS = 600
"""Steps at the rule's own grain; after them steps grow by 1/600 of the time gone by."""
MOST_STEPS = 200_000


class StreamRule(Protocol):
    """A policy at a rate."""

    grain_s: float

    def rate(self, scenario: Scenario, at_s: float, told: Ints, seen: Seen, step_s: float) -> Floats:
        """Say how many devices may be told in the step that begins now, shape (replicates,)."""
        ...

    def stops(self, scenario: Scenario, at_s: float, told: Ints, seen: Seen) -> Flags:
        """Say whether the rollout ends now, by what has come back, `seen`."""
        ...


def run_stream(rule: StreamRule, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
    """Play a policy at a rate: each device's outcome is known one observation time and poll after it was told."""
    fleet, course, terms = PeerFleet(scenario, rng, replicates), Course(scenario), scenario.rollout
    seen, due = nothing(replicates), deque[tuple[float, Seen]]()
    told: Ints = np.zeros(replicates, dtype=np.int64)
    harmed, spare = told.copy(), np.zeros(replicates)
    stopped, ended, last = (np.full(replicates, np.inf), np.zeros(replicates, dtype=np.bool_), np.zeros(replicates))
    at = 0.0
    for step in range(MOST_STEPS):
        while due and due[0][0] <= at:
            when, batch = due.popleft()
            seen = seen + fleet.visible(batch, np.full(replicates, when))
        now = ~ended & np.asarray(rule.stops(scenario, at, told, seen))
        stopped, ended = np.where(now, at, stopped), ended | now
        active = ~ended & (told < scenario.fleet.devices) & (at < terms.rollout_deadline_s)
        if not active.any():
            break
        step_s = rule.grain_s if step < FINE_STEPS else max(rule.grain_s, at / FINE_STEPS)
        allowed = np.where(active, rule.rate(scenario, at, told, seen, step_s) + spare, 0.0)
        batch = fleet.expose(np.floor(allowed).astype(np.int64), np.full(replicates, at))
        spare = np.where(active, np.minimum(allowed - np.floor(allowed), 1.0), spare)
        due.append((at + terms.round_s, batch))
        course.batch(np.full(replicates, at), batch)
        told, harmed = told + batch.told, harmed + batch.harmed
        last = np.where(batch.told > 0, at, last)
        at += step_s
    done = ~ended & (told >= scenario.fleet.devices)
    return runs_of(scenario, fleet, course, harmed, done, last + terms.round_s, stopped)
