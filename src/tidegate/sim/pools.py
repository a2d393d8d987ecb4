"""A fleet by counts: pools of devices that the candidate harms or not, all replicates at once, up to a billion each."""

from __future__ import annotations

import numpy as np

from tidegate.sim.batch import Arrivals, Leases, Outcome, opening
from tidegate.sim.capped import Caps
from tidegate.sim.draws import draw_population, hypergeometric
from tidegate.sim.outcome import Floats, Ints
from tidegate.sim.scenario import Scenario


class Pools:
    """Pools have shape (2, replicates): devices that the candidate does not harm, and those that it does.

    Attendance is taken at its mean, to the device; all else is drawn exactly.
    """

    def __init__(self, scenario: Scenario, arrivals: Arrivals, rng: np.random.Generator, replicates: int) -> None:
        self.scenario, self.arrivals, self.rng = scenario, arrivals, rng
        population = draw_population(rng, scenario, replicates)
        harmed, harmed_late = population.harmed_present, population.harmed_late
        self.present = np.stack([population.present - harmed, harmed])
        self.late = np.stack([population.late - harmed_late, harmed_late])
        self.away = np.full(replicates, population.late, dtype=np.int64)
        self.harmless = population.harmed == 0
        self.caps = [Caps(scenario) for _ in range(replicates)] if scenario.caps else []
        self._pool = self.present

    @property
    def late_left(self) -> Ints:
        return self.late.sum(axis=0)

    def attend(self, who: Ints, at_s: Floats, size: Ints, placebo: Ints, left: Ints) -> Leases:
        share_away = self.away[who] / left
        away = np.rint(size * share_away).astype(np.int64)
        missed = self.arrivals.missed(size - away, at_s)
        lost = hypergeometric(self.rng, self.present[1, who], self.present[0, who], missed)
        gone = np.stack([missed - lost, lost])
        self.present[:, who] -= gone
        self.late[:, who] += gone
        self.away[who] -= away
        beside = placebo - np.rint(placebo * share_away).astype(np.int64)
        beside -= self.arrivals.missed(beside, at_s)
        treated, rounds = self._dealt(who, size - away - missed, left)
        terms = self.scenario.rollout
        self._pool = self.present
        return Leases(
            at_s=at_s,
            treated=treated,
            placebo=beside,
            absent=away + missed,
            gone=missed > 0,
            short=treated < size - away - missed,
            lasts_s=terms.poll_s + (rounds - 1).astype(np.float64) * terms.observe_s,
        )

    def attend_late(self, who: Ints, at_s: Floats, size: Ints) -> Leases:
        self._pool = self.late
        none, no = np.zeros_like(size), np.zeros(len(who), dtype=np.bool_)
        return Leases(at_s, size, none, none, no, no, np.full(len(who), self.scenario.rollout.poll_s))

    def play(self, who: Ints, leases: Leases) -> Outcome:
        scenario, rng, effects = self.scenario, self.rng, self.arrivals.effects
        due_s = leases.at_s + leases.lasts_s + scenario.rollout.observe_s
        harmed = hypergeometric(rng, self._pool[1, who], self._pool[0, who], leases.treated)
        self._pool[:, who] -= np.stack([leases.treated - harmed, harmed])
        visible = np.zeros_like(harmed)
        if scenario.defect.delay_s <= scenario.rollout.observe_s:
            visible = harmed - rng.binomial(harmed, effects.lie_share("healthy", leases.at_s))
        other = leases.treated - visible
        silent, reverted = self._background(other)
        sick = rng.binomial(other - silent - reverted, effects.lie_share("sick", leases.at_s))
        placebo_silent, placebo_reverted = self._background(leases.placebo)
        placebo_fine = leases.placebo - placebo_silent - placebo_reverted
        fine = self.arrivals.split(rng, other - silent - reverted - sick, leases.at_s, due_s)
        placebo_fine = self.arrivals.split(rng, placebo_fine, leases.at_s, due_s)
        frozen, frozen_s = opening(scenario, self.arrivals, leases, placebo_fine, placebo_silent, due_s)
        shown = visible if scenario.defect.outcome == "reverted" else 0
        return Outcome(harmed, reverted + sick + shown, due_s, fine, placebo_fine, placebo_silent, frozen, frozen_s)

    def _background(self, devices: Ints) -> tuple[Ints, Ints]:
        silent, reverted = self.scenario.background.silent_rate, self.scenario.background.reverted_rate
        none = np.zeros_like(devices)
        quiet = self.rng.binomial(devices, silent) if silent > 0 else none
        return quiet, self.rng.binomial(devices - quiet, reverted / (1.0 - silent)) if reverted > 0 else none

    def _dealt(self, who: Ints, treated: Ints, left: Ints) -> tuple[Ints, Ints]:
        """Take a batch through the caps: how many get their lease, in how many observation times."""
        leased, rounds = treated.copy(), np.ones(len(treated), dtype=np.int64)
        if not self.caps:
            return leased, rounds
        shows = self.scenario.defect.delay_s <= self.scenario.rollout.observe_s
        for place, one in enumerate(who):
            harmed = self.present[1, one] / max(1, int(self.present[:, one].sum())) if shows else 0.0
            fails = 1.0 - (1.0 - self.scenario.background.rate) * (1.0 - harmed)
            dealt = self.caps[one].deal(self.rng, int(treated[place]), int(left[place]), float(fails))
            leased[place], rounds[place] = dealt.leased, dealt.rounds
        return leased, rounds
