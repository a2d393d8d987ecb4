"""The fleet that a peer's policy exposes, by counts: what each batch does, and what of it the peer gets to see."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from tidegate.sim.draws import draw_population, hypergeometric
from tidegate.sim.faults import effects_of
from tidegate.sim.outcome import Floats, Ints
from tidegate.sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Seen:
    """A batch of devices, counts of shape (replicates,); fine + reverted + silent + away = told.

    Attributes:
        told: devices that were told to take the candidate.
        harmed: how many of those that took it at once are harmed by it; no peer sees this.
        fine: healthy for the whole observation time, as far as the server is told.
        reverted: took it back and said so: a failed installation in the peers' words.
        silent: no word within the observation time.
        away: not there when told; they take it when they are back.
    """

    told: Ints
    harmed: Ints
    fine: Ints
    reverted: Ints
    silent: Ints
    away: Ints

    def __add__(self, other: Seen) -> Seen:
        return Seen(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Seen)))


def nothing(replicates: int) -> Seen:
    """Nobody told yet."""
    return Seen(*(np.zeros(replicates, dtype=np.int64) for _ in range(6)))


class PeerFleet:
    """What is left of the fleet in each replicate; `expose` draws the next devices in random order."""

    def __init__(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> None:
        self._scenario, self._rng, self._effects = scenario, rng, effects_of(scenario)
        drawn = draw_population(rng, scenario, replicates)
        self._here = [drawn.harmed_present, drawn.present - drawn.harmed_present]
        self._late = [drawn.harmed_late, drawn.late - drawn.harmed_late]
        self._deferred: list[tuple[float, Ints, Ints]] = []
        self._newest = 0

    def expose(self, wanted: Ints, at_s: Floats) -> Seen:
        """Tell so many more devices, shape (replicates,), at times of the same shape; never more than are left."""
        told = np.minimum(wanted, sum(self._here) + sum(self._late))
        self._newest = len(self._deferred)
        from_late = hypergeometric(self._rng, sum(self._late), sum(self._here), told)
        harmed, late_harmed = self._take(self._here, told - from_late), self._take(self._late, from_late)
        came, harmed = self._defer(told - from_late, harmed, self._absent(at_s))
        if self._scenario.late is not None:
            return_s = self._scenario.late.return_s
            back, late_harmed = self._defer(from_late, late_harmed, [(return_s, at_s < return_s, 1.0)])
            came, harmed = came + back, harmed + late_harmed
        return self._outcomes(told, harmed, came - harmed, at_s)

    def with_returned(self, batch: Seen) -> tuple[Seen, float]:
        """Give the batch told last as it is seen when all of it are back, and when the last has been observed."""
        whole, back_s = batch, 0.0
        for return_s, harmed, count in self._deferred[self._newest :]:
            if not count.any():
                continue
            came = self._outcomes(count, harmed, count - harmed, np.full(count.shape, return_s))
            whole = Seen(
                whole.told,
                whole.harmed,
                whole.fine + came.fine,
                whole.reverted + came.reverted,
                whole.silent + came.silent,
                whole.away - count,
            )
            back_s = max(back_s, return_s + self._scenario.rollout.round_s)
        return whole, back_s

    def returned(self, stopped_s: Floats) -> tuple[Ints, Floats]:
        """Say who came back and took the candidate before the rollout was stopped: (harmed, when the last came)."""
        harmed, last = np.zeros(stopped_s.shape, dtype=np.int64), np.zeros(stopped_s.shape)
        for return_s, of_them, count in self._deferred:
            came = stopped_s > return_s
            harmed = harmed + np.where(came, of_them, 0)
            last = np.where(came & (count > 0), np.maximum(last, return_s), last)
        return harmed, last

    def visible(self, seen: Seen, at_s: Floats) -> Seen:
        """Hide the reports that a fault keeps from arriving at that time: their senders look silent."""
        for delay in self._effects.delays:
            share = np.where((at_s >= delay.start_s) & (at_s < delay.end_s), delay.share, 0.0)
            fine, reverted = (self._rng.binomial(n, share) for n in (seen.fine, seen.reverted))
            silent = seen.silent + fine + reverted
            seen = Seen(seen.told, seen.harmed, seen.fine - fine, seen.reverted - reverted, silent, seen.away)
        return seen

    def blind_until(self, at_s: Floats) -> Floats:
        """Say when reports that are missing at that time will have come: `at_s` itself where no fault is under way."""
        until = at_s.copy()
        for delay in self._effects.delays:
            until = np.where((until >= delay.start_s) & (until < delay.end_s), delay.arrive_s, until)
        return until

    def background_failures(self, devices: int, at_s: Floats) -> Ints:
        """Draw how many of so many untouched devices look failed at that time, faults included."""
        failed = self._rng.binomial(devices, np.full(at_s.shape, self._scenario.background.rate))
        for delay in self._effects.delays:
            share = np.where((at_s >= delay.start_s) & (at_s < delay.end_s), delay.share, 0.0)
            failed = failed + self._rng.binomial(devices - failed, share)
        return failed

    def thinned(self, seen: Seen, share: Floats) -> Ints:
        """Count the harmed of the first `share` of a batch, for a stop before all of it had asked."""
        came = seen.told - seen.away
        kept = np.ceil(came * np.clip(share, 0.0, 1.0)).astype(np.int64)
        return hypergeometric(self._rng, seen.harmed, came - seen.harmed, kept)

    def _take(self, pool: list[Ints], count: Ints) -> Ints:
        harmed = hypergeometric(self._rng, pool[0], pool[1], count)
        pool[0] = pool[0] - harmed
        pool[1] = pool[1] - (count - harmed)
        return harmed

    def _absent(self, at_s: Floats) -> list[tuple[float, np.ndarray, float]]:
        absences = self._effects.absences
        return [(one.end_s, (at_s >= one.start_s) & (at_s < one.end_s), one.share) for one in absences]

    def _defer(self, count: Ints, harmed: Ints, absences: list[tuple[float, np.ndarray, float]]) -> tuple[Ints, Ints]:
        """Put off those who cannot ask now; give who is there and how many of them the candidate harms."""
        for return_s, within, share in absences:
            away = self._rng.binomial(count, np.where(within, share, 0.0))
            of_them = hypergeometric(self._rng, harmed, count - harmed, away)
            self._deferred.append((return_s, of_them, away))
            count, harmed = count - away, harmed - of_them
        return count, harmed

    def _outcomes(self, told: Ints, harmed: Ints, healthy: Ints, at_s: Floats) -> Seen:
        background, defect, draw = self._scenario.background, self._scenario.defect, self._rng.binomial
        away = told - harmed - healthy
        shown = harmed
        if defect.delay_s > self._scenario.rollout.observe_s:
            healthy, shown = healthy + harmed, np.zeros_like(harmed)
        silent = draw(healthy, background.silent_rate)
        reverted = draw(healthy - silent, background.reverted_rate / (1.0 - background.silent_rate))
        own = shown if defect.outcome == "silent" else draw(shown, background.silent_rate)
        silent, reverted = silent + own, reverted + shown - own
        fine = told - away - silent - reverted
        if self._effects.lies:
            healthy_lie, sick_lie = (self._effects.lie_share(kind, at_s) for kind in ("healthy", "sick"))
            quiet, loud, sick = draw(silent, healthy_lie), draw(reverted, healthy_lie), draw(fine, sick_lie)
            silent, reverted, fine = silent - quiet, reverted - loud + sick, fine + quiet + loud - sick
        return Seen(told, harmed, fine, reverted, silent, away)
