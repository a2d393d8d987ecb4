"""Runs a policy that goes in stages: tell a batch, wait, judge it by the policy's own rule, tell the next."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tidegate.sim.outcome import Flags, Floats, Ints, Runs
from tidegate.sim.peers.course import Course, runs_of
from tidegate.sim.peers.fleet import PeerFleet, Seen, nothing
from tidegate.sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Decision:
    """What a rule says of a stage, arrays of shape (replicates,). Neither advance nor halt: it waits, maybe for ever.

    `after_s` is how long after the stage began the decision falls.
    """

    advance: Flags
    halt: Flags
    after_s: Floats


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: devices told in total by then, and when it may begin at the earliest after the rollout's start."""

    size: int
    not_before_s: float = 0.0
    canary: bool = False


class StagedRule(Protocol):
    """A policy in stages."""

    def stages(self, devices: int) -> tuple[Stage, ...]:
        """Give the stages, rising in size; the last is the fleet. One that adds nobody is left out."""
        ...

    def judge(self, scenario: Scenario, stage: Stage, batch: Seen, total: Seen) -> Decision:
        """Judge a stage by what is seen of it, `batch`, and of all stages so far, `total`."""
        ...


def stages_of(devices: int, shares: tuple[float, ...]) -> tuple[Stage, ...]:
    """Turn cumulative shares of the fleet, the last one 1, into stages; devices rounded up, at least one."""
    return tuple(Stage(max(1, math.ceil(devices * share - 1e-9))) for share in shares)


def at_the_end(scenario: Scenario, advance: Flags, halt: Flags) -> Decision:
    """Give a decision that falls when the whole stage has been observed."""
    return Decision(advance, halt, np.full(advance.shape, scenario.rollout.round_s))


def run_stages(rule: StagedRule, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
    """Play a policy in stages; a stage that would begin after the deadline does not. Source: the rule's own file."""
    run = _Run(scenario, PeerFleet(scenario, rng, replicates), replicates)
    for stage in rule.stages(scenario.fleet.devices):
        if stage.size <= run.told:
            continue
        batch = run.tell(stage)
        if stage.size >= scenario.fleet.devices or not run.running.any():
            run.course.batch(run.at_s, batch)
            break
        run.decide(rule, stage, batch)
    return run.outcome()


class _Run:
    """The state of a run in stages, arrays of shape (replicates,)."""

    def __init__(self, scenario: Scenario, fleet: PeerFleet, replicates: int) -> None:
        self.scenario, self.fleet, self.course = scenario, fleet, Course(scenario)
        self.running = np.ones(replicates, dtype=np.bool_)
        self.at_s = np.zeros(replicates)
        self.stopped_s = np.full(replicates, np.inf)
        self.harmed: Ints = np.zeros(replicates, dtype=np.int64)
        self.before, self.told = nothing(replicates), 0

    def tell(self, stage: Stage) -> Seen:
        """Begin a stage: whoever of its devices has not been told."""
        self.at_s = np.maximum(self.at_s, stage.not_before_s)
        self.running &= self.at_s < self.scenario.rollout.rollout_deadline_s
        batch = self.fleet.expose(np.where(self.running, stage.size - self.told, 0), self.at_s)
        self.told = stage.size
        self.harmed = self.harmed + batch.harmed
        return batch

    def decide(self, rule: StagedRule, stage: Stage, batch: Seen) -> None:
        """Judge the stage by what is seen when the decision falls, be it after a fault or an absence.

        Three views: as observed, with what a fault hides; with all reports in; with all who were away back.
        """
        due_s = self.at_s + self.scenario.rollout.round_s
        whole, back_s = self.fleet.with_returned(batch)
        seen_s = (due_s, self.fleet.blind_until(due_s), np.maximum(due_s, back_s))
        views = (self.fleet.visible(batch, due_s), batch, whole)
        waits, halt = self.running.copy(), np.zeros_like(self.running)
        after = np.zeros(self.at_s.shape)
        for place, seen in enumerate(views):
            found = rule.judge(self.scenario, stage, seen, self.before + seen)
            falls_s = self.at_s + found.after_s
            if place:
                falls_s = np.maximum(falls_s, seen_s[place])
            taken = waits & (found.advance | found.halt)
            for later_s in seen_s[place + 1 :]:
                taken &= ~((later_s > due_s) & (falls_s >= later_s))
            after = np.where(taken, falls_s - self.at_s, after)
            halt |= taken & found.halt
            waits &= ~taken
        self.before = self.before + batch
        self._apply(batch, waits, halt, after)

    def _apply(self, batch: Seen, waits: Flags, halt: Flags, after: Floats) -> None:
        stop_s = self.at_s + after
        self.course.batch(self.at_s, batch, float(stop_s[0]) if halt[0] else math.inf)
        poll_s = self.scenario.rollout.poll_s
        early = halt & (after < poll_s)
        if early.any():
            kept = self.fleet.thinned(batch, after / poll_s)
            self.harmed = np.where(early, self.harmed - batch.harmed + kept, self.harmed)
        self.stopped_s = np.where(halt, stop_s, self.stopped_s)
        self.running &= ~waits & ~halt
        self.at_s = np.where(self.running, stop_s, self.at_s)

    def outcome(self) -> Runs:
        """Give the runs."""
        end = self.at_s + self.scenario.rollout.round_s
        return runs_of(self.scenario, self.fleet, self.course, self.harmed, self.running, end, self.stopped_s)
