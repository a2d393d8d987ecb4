"""The course of a rollout by counts: batches, looks, halting, late devices, each replicate on its own clock."""

from __future__ import annotations

import math

import numpy as np

from tidegate.core.bounds import ODDS_RATIOS, halts, log_both, log_count_channel, log_odds
from tidegate.core.looks import LookPlan
from tidegate.core.model import Budget
from tidegate.sim.batch import Arrivals, Leases, Outcome
from tidegate.sim.faults import effects_of
from tidegate.sim.outcome import Ending, Flags, Floats, Ints, Recorder, Runs
from tidegate.sim.rule import FleetMaker, Rule
from tidegate.sim.scenario import Scenario

SIGNALLED_BOUND = Budget(max_harmed=1).signalled_bound
SPREAD_MOMENTS = 32
"""Moments at which a batch whose leases are spread over the devices' poll is looked at for harm."""
DRAWN = tuple(sorted({*np.geomspace(1e-3, 1.0, 19).tolist(), *np.linspace(0.0, 1.0, 21)[1:].tolist()}))
"""Moments, as shares of the time that granting takes, at which the first replicate's exposure is kept: early ones for
log scales."""


class Play:
    """All replicates of one scenario under one rule. Arrays have shape (replicates,) unless said otherwise.

    A *planned ring* is one of the looks' sizes. If the look before it has passed it is opened as a whole; if not, the
    certain rule goes on towards its end, batch by batch, and the look there is taken on the ring as a whole: sizes of
    looks never depend on outcomes. Members that are away when their turn comes are late, and run beside on the rule's
    `late_room`. A ring that no gate ever opens ends the statistical rule for its replicate.
    """

    def __init__(
        self,
        scenario: Scenario,
        rng: np.random.Generator,
        replicates: int,
        rule: Rule,
        budgets: tuple[int, int],
        looks: LookPlan | None,
        fleet: FleetMaker,
    ) -> None:
        self.scenario, self.rule, self.looks = scenario, rule, looks
        self.budget, self.late_budget = budgets
        self.first_ring = min(scenario.rollout.canary or self.budget, self.budget)
        self.sizes = looks.sizes if looks else ()
        self.arrivals = Arrivals(scenario, effects_of(scenario))
        self.fleet = fleet(scenario, self.arrivals, rng, replicates)
        self.recorder = Recorder()
        self.shows_s = min(scenario.defect.delay_s, scenario.rollout.observe_s)

        def zeros(*shape: int) -> Ints:
            return np.zeros((*shape, replicates), dtype=np.int64)

        self.exposed, self.confirmed, self.harmed, self.reverted = zeros(), zeros(), zeros(), zeros()
        self.late_exposed, self.late_confirmed, self.late_waiting = zeros(), zeros(), zeros()
        self.heads, self.in_proportion = zeros(), np.ones(replicates, dtype=np.bool_)
        self.odds: Floats = np.zeros((len(ODDS_RATIOS), replicates))
        self.members, self.stage, self.rings, self.last = zeros(), zeros(), zeros(len(self.sizes) + 1, 4), zeros(4)
        self.pending = zeros(2, len(self.arrivals.times_s))
        self.at_s, self.late_at_s, self.late_free_s = np.zeros(replicates), np.full(replicates, np.inf), zeros() * 1.0
        self.back_s = np.full(replicates, scenario.late.return_s if scenario.late else 0.0)
        self.stop_s, self.last_s = np.full(replicates, scenario.rollout.rollout_deadline_s), zeros() * 1.0
        self.halted, self.blind, self.blocked = (np.zeros(replicates, dtype=np.bool_) for _ in range(3))
        self.whole = np.full(replicates, looks is not None)

    def run(self) -> Runs:
        """Play to the end."""
        self._record(0.0, 0)
        while True:
            acts = np.minimum(self.at_s, self.late_at_s) < self.stop_s
            if not acts.any():
                return self._runs()
            main = self.at_s <= self.late_at_s
            for mine, step in ((main, self._main), (~main, self._late)):
                who = np.flatnonzero(acts & mine)
                if len(who):
                    step(who)

    def _runs(self) -> Runs:
        everyone = (self.members == self.scenario.fleet.devices) & ~self.blocked
        everyone &= (self.fleet.late_left == 0) & (self.last_s <= self.scenario.rollout.rollout_deadline_s)
        verdict = np.where(self.halted, Ending.HALTED, np.where(everyone, Ending.COMPLETED, Ending.HELD))
        return Runs(
            harmed=self.harmed,
            verdict=verdict.astype(np.int8),
            coverage_s=np.where(verdict == Ending.COMPLETED, self.last_s, np.nan),
            false_halt=self.halted & self.fleet.harmless,
            series=self.recorder.series(),
        )

    def _main(self, who: Ints) -> None:
        """Grant one batch to devices in the order of exposure, and follow it until it is frozen."""
        self._collect(0, who, self.at_s[who], self.confirmed)
        ends = np.asarray([*self.sizes, self.scenario.fleet.devices], dtype=np.int64)[self.stage[who]]
        remaining = ends - self.members[who]
        size = np.where(self.whole[who], remaining, np.minimum(self.rule.room(self, who), remaining))
        self._await(0, who[size <= 0], self.at_s)
        who, size, ends = who[size > 0], size[size > 0], ends[size > 0]
        if not len(who):
            return
        now = self.at_s[who]
        left = self.scenario.fleet.devices - self.members[who]
        placebo = self.heads[who] = self._placebo(who, size, left)
        leases = self.fleet.attend(who, now, size, placebo, left)
        outcome = self.fleet.play(who, leases)
        self.members[who] += size
        self.blocked[who] |= leases.short
        self._harm(who, leases, outcome, self.exposed)
        self._settle(0, who, outcome, self.confirmed)
        self._freeze(who, leases, outcome, ends)
        self._due_late(who, leases.absent, leases.gone)

    def _placebo(self, who: Ints, size: Ints, left: Ints) -> Ints:
        """Placebo devices of a batch, as `core.rings` has them: those of the batch before come along.

        Wanted is its share of the planned ring's; where none are planned, as many as are left. In the order of
        exposure, before anyone is found to be away.
        """
        alone = np.zeros(len(who), dtype=np.bool_)
        wanted = np.floor(size * self.scenario.rollout.placebo_per_treated + 1e-9)
        if self.looks is not None:
            looks = self.looks
            planned = np.asarray([looks.placebo[k] / looks.treated(k) for k in range(looks.rings)] + [0.0])
            stage = self.stage[who]
            wanted = np.where(planned[stage] > 0, np.rint(size * planned[stage]), wanted)
            alone = size == np.asarray([*map(looks.treated, range(looks.rings)), -1])[stage]
        self.in_proportion[who] = alone | (wanted >= self.heads[who] - size)
        return np.minimum(np.maximum(wanted, self.heads[who] - size), left - size).astype(np.int64)

    def _late(self, who: Ints) -> None:
        """Grant one batch to late devices."""
        self._collect(1, who, self.late_at_s[who], self.late_confirmed)
        size = np.minimum(self.rule.late_room(self, who), self.late_waiting[who])
        self._await(1, who[size <= 0], self.late_at_s)
        who, size = who[size > 0], size[size > 0]
        if not len(who):
            return
        leases = self.fleet.attend_late(who, self.late_at_s[who], size)
        outcome = self.fleet.play(who, leases)
        self.late_waiting[who] -= size
        self._harm(who, leases, outcome, self.late_exposed)
        self._settle(1, who, outcome, self.late_confirmed)
        self.late_at_s[who] = self.late_free_s[who] = self._until(outcome)

    def _harm(self, who: Ints, leases: Leases, outcome: Outcome, exposed: Ints) -> None:
        """Count the exposed, the harmed and the reverted of a batch, and halt where reverts say so.

        Leases that are spread over the devices' poll stop when a halt comes in between.
        """
        poll_s = self.scenario.rollout.poll_s
        parts = [1.0]
        if poll_s > 0 and self.rule.halting and np.any(outcome.reverted):
            parts = list(np.arange(1, SPREAD_MOMENTS + 1) / SPREAD_MOMENTS)
        before = np.stack([exposed[who], self.harmed[who], self.reverted[who]])
        if who[0] == 0:
            self._record(float(leases.at_s[0]), int(before[0, 0] + leases.treated[0]))
        base = (self.exposed[0] + self.late_exposed[0], self.confirmed[0] + self.late_confirmed[0], self.harmed[0])
        for part in parts:
            go = ~self.halted[who]
            told = 1.0 if len(parts) == 1 else min(1.0, max(0.0, part - self.shows_s / poll_s))
            exposed[who[go]] = (before[0] + np.ceil(leases.treated * part).astype(np.int64))[go]
            self.harmed[who[go]] = (before[1] + np.rint(outcome.harmed * part).astype(np.int64))[go]
            self.reverted[who[go]] = (before[2] + np.floor(outcome.reverted * told).astype(np.int64))[go]
            if len(parts) > 1:
                self._halt(who[go], (leases.at_s + part * poll_s)[go])
        go = ~self.halted[who]
        self.reverted[who[go]] = (before[2] + outcome.reverted)[go]
        self._halt(who, leases.at_s + leases.lasts_s + self.shows_s)
        if who[0] == 0:
            self._record_spread(leases, outcome, *map(int, base))

    def _settle(self, row: int, who: Ints, outcome: Outcome, confirmed: Ints) -> None:
        """Count the confirmations that have come, keep the others for when they come."""
        until = self._until(outcome)
        exposed = self.exposed if row == 0 else self.late_exposed
        confirmed[who] = np.minimum(confirmed[who] + self.arrivals.arrived(outcome.fine, until), exposed[who])
        later = self.arrivals.times_s[:, None] > until[None, :]
        self.pending[row][:, who] += outcome.fine[:, 1:].T * later
        came = np.where(outcome.fine[:, 1:] > 0, self.arrivals.times_s[None, :], 0.0).max(axis=1, initial=0.0)
        self.last_s[who] = np.maximum(self.last_s[who], np.maximum(outcome.due_s, came))
        if who[0] == 0:
            self._record(float(until[0]), int(self.exposed[0] + self.late_exposed[0]))

    def _until(self, outcome: Outcome) -> Floats:
        return outcome.frozen_s if self.rule.waits else outcome.due_s

    def _freeze(self, who: Ints, leases: Leases, outcome: Outcome, ends: Ints) -> None:
        """Add a batch to its ring, and take the look where the ring is complete.

        Halting weighs each batch. Where a ring comes in several batches, the placebo of one that has more of it than
        planned is dropped, as `core.looks_exact.shared_kappa` does with rings; a ring in one batch is left to that.
        """
        failed = leases.treated - self.arrivals.arrived(outcome.fine, outcome.frozen_s)
        beside = leases.placebo - self.arrivals.arrived(outcome.placebo_fine, outcome.frozen_s)
        counts = np.stack([leases.treated, leases.placebo, failed, beside])
        self.last[:, who] = counts
        if self.rule.halting:
            self.odds[:, who] += np.where(outcome.frozen, log_odds(*counts[:, :, None])[:, :, 0], 0.0)
        counts[[1, 3]] *= self.in_proportion[who]
        self.rings[self.stage[who], :, who] += (counts * outcome.frozen).T
        self.blind[who] |= ~outcome.frozen
        self._halt(who, outcome.frozen_s)
        self.at_s[who] = np.where(self.members[who] == self.scenario.fleet.devices, np.inf, self._until(outcome))
        self.at_s[who[self.blocked[who]]] = np.inf
        self.whole[who] = False
        full = who[(self.members[who] == ends) & (self.stage[who] < len(self.sizes))]
        reached = self.stage[full]
        for stage in np.unique(reached):
            here = full[reached == stage]
            self.stage[here] += 1
            seeing = here[~self.blind[here]]
            if len(seeing):
                self.whole[seeing] = self.rule.passes(self, seeing, int(stage))

    def _due_late(self, who: Ints, count: Ints, missed: Flags) -> None:
        """Devices without a lease when their ring closes are late; they come when they are back."""
        self.late_waiting[who] += count
        gone = max((absence.end_s for absence in self.arrivals.effects.absences), default=0.0)
        self.back_s[who] = np.where(missed, np.maximum(self.back_s[who], gone), self.back_s[who])
        ready = who[(self.late_waiting[who] > 0) & np.isinf(self.late_at_s[who])]
        closed = np.where(np.isinf(self.at_s[ready]), self.last_s[ready], self.at_s[ready])
        self.late_at_s[ready] = np.maximum(np.maximum(closed, self.back_s[ready]), self.late_free_s[ready])

    def _collect(self, row: int, who: Ints, now: Floats, confirmed: Ints) -> None:
        come = self.arrivals.times_s[:, None] <= now[None, :]
        waiting = self.pending[row][:, who]
        confirmed[who] += (waiting * come).sum(axis=0)
        self.pending[row][:, who] = waiting * ~come

    def _await(self, row: int, who: Ints, at_s: Floats) -> None:
        """Wait for the next confirmation that can free a place; for ever if none is due."""
        waiting = self.pending[row][:, who] > 0
        times = np.where(waiting, self.arrivals.times_s[:, None], np.inf).min(axis=0, initial=np.inf)
        if row == 0:
            other = np.where(self.late_free_s[who] > at_s[who], self.late_free_s[who], np.inf)
            times = np.minimum(times, other)
        at_s[who] = times

    def _halt(self, who: Ints, at_s: Floats) -> None:
        """End the rollouts whose evidence says harm: the shipped three channels, with nobody signalling.

        Taken after the last revert of a batch and when it is frozen. In between evidence cannot rise: reverts come one
        by one on the same number of exposed devices, and both arms are read from frozen rings alone. So these looks
        stand for one after every report.
        """
        if not self.rule.halting or not len(who):
            return
        exposed = self.exposed[who] + self.late_exposed[who]
        reverted = log_count_channel(exposed, self.reverted[who], self.scenario.rollout.reverted_bound)
        two = log_both(self.odds[:, who], reverted)
        signals = log_count_channel(exposed, 0, SIGNALLED_BOUND)
        evidence = np.logaddexp(math.log(2 / 3) + two, math.log(1 / 3) + signals)
        stops = halts(evidence, self.scenario.rollout.false_halt) & (at_s < self.stop_s[who])
        self.halted[who[stops]] = True
        self.stop_s[who[stops]] = at_s[stops]
        if stops[0] and who[0] == 0:
            self._record(float(at_s[0]), 0)

    def _record_spread(self, leases: Leases, outcome: Outcome, exposed: int, confirmed: int, harmed: int) -> None:
        """Keep how the first replicate's batch grows until all of it has its leases, or a halt: for pictures alone."""
        lasts_s, start_s = float(leases.lasts_s[0]), float(leases.at_s[0])
        treated, more = int(leases.treated[0]), int(outcome.harmed[0])
        for part in DRAWN if lasts_s > 0 else (1.0,):
            when = start_s + part * lasts_s
            if when < self.stop_s[0]:
                now = (exposed + math.ceil(treated * part), confirmed, harmed + round(more * part))
                self.recorder.add(when, *now, exposed + treated)

    def _record(self, at_s: float, window: int) -> None:
        """Keep a point of the first replicate; the window is shut by a halt."""
        exposed, confirmed = self.exposed[0] + self.late_exposed[0], self.confirmed[0] + self.late_confirmed[0]
        self.recorder.add(at_s, exposed, confirmed, self.harmed[0], window)
