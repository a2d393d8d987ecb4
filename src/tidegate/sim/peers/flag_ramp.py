"""Feature-flag style: a fixed ramp with a sequential test of treated against control, as in GrowthBook Safe Rollouts.

Source: https://docs.growthbook.io/features/safe-rollouts (an A/B test of rollout against control in equal parts; ramp
10, 25, 50, 75, 100 % over the first quarter of the monitoring duration; guardrails tested one-sided and sequentially,
with the threshold at zero; automatic rollback at the first significant harm; inconclusive at the end: ship) and
https://docs.growthbook.io/statistics/sequential (asymptotic confidence sequence, alpha 5 %, tuning parameter 5,000;
eq. 9 of Waudby-Smith et al., "Time-uniform central limit theory", one-sided by doubling alpha). LaunchDarkly's
guarded rollouts are of the same kind: https://launchdarkly.com/docs/home/releases/regression-detection.

Documented defaults: ramp, split, alpha, tuning parameter. Chosen, because the operator must: monitoring for one day,
the least; the guardrail is the share of devices without a confirmation within `observe_s`, so silence is seen; the
test is read whenever a ramp step has been observed. When the day is over the other half gets the candidate.
"""

from __future__ import annotations

import math

import numpy as np

from tidegate.sim.outcome import Flags, Floats, Ints, Runs
from tidegate.sim.peers.course import Course, runs_of
from tidegate.sim.peers.fleet import PeerFleet, Seen, nothing
from tidegate.sim.scenario import Scenario

RAMP = (0.1, 0.25, 0.5, 0.75, 1.0)
TREATED = 0.5
MONITORING_S = 86_400.0
STEP_S = MONITORING_S * 0.25 / len(RAMP)
ALPHA = 0.05
TUNING = 5_000.0


class FlagRamp:
    name = "flag-ramp"
    settings = "10, 25, 50, 75, 100 % over 6 h, half of it control; one-sided sequential test at 5 %; ships after a day"

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        """Play the ramp: exposures and readings of the test in the order of their times."""
        fleet, course, terms = PeerFleet(scenario, rng, replicates), Course(scenario), scenario.rollout
        running = np.ones(replicates, dtype=np.bool_)
        stopped = np.full(replicates, np.inf)
        harmed: Ints = np.zeros(replicates, dtype=np.int64)
        control, control_failed = 0, np.zeros(replicates, dtype=np.int64)
        seen, batches = nothing(replicates), dict[int, tuple[float, Seen]]()
        for at, reading, step in _agenda(terms.round_s):
            when = np.full(replicates, at)
            if not reading:
                active = running & (at < terms.rollout_deadline_s)
                size = treated_devices(scenario.fleet.devices, step) - treated_devices(scenario.fleet.devices, step - 1)
                batch = fleet.expose(np.where(active, size, 0), when)
                harmed = harmed + batch.harmed
                course.batch(when, batch)
                batches[step] = (at, batch)
                continue
            seen = seen + fleet.visible(batches[step][1], when)
            beside = control_devices(scenario.fleet.devices, step) - control
            control += beside
            control_failed = control_failed + fleet.background_failures(beside, when)
            read = running & (at < terms.rollout_deadline_s)
            failed = seen.reverted + seen.silent
            now = read & regresses(failed, seen.told - seen.away, control_failed, np.full(replicates, control))
            stopped = np.where(now, at, stopped)
            running &= ~now
        done = np.isinf(stopped) & (terms.rollout_deadline_s > MONITORING_S)
        end = np.full(replicates, MONITORING_S + terms.round_s)
        return runs_of(scenario, fleet, course, harmed, done, end, stopped)


def covered_devices(devices: int, step: int) -> int:
    """Count the devices in the trial at a step of the ramp, both halves."""
    return math.ceil(devices * RAMP[step] - 1e-9)


def treated_devices(devices: int, step: int) -> int:
    """Count those that have the candidate by a step of the ramp; the step after the last ships it to the rest."""
    if step < 0:
        return 0
    return devices if step >= len(RAMP) else math.ceil(covered_devices(devices, step) * TREATED)


def control_devices(devices: int, step: int) -> int:
    """Count the devices beside them."""
    return covered_devices(devices, step) - treated_devices(devices, step)


def regresses(failed: Ints, treated: Ints, control_failed: Ints, control: Ints) -> Flags:
    """Say whether the lower end of the one-sided confidence sequence of the difference in shares is above zero."""
    n_t, n_c = np.maximum(treated, 1), np.maximum(control, 1)
    p_t, p_c = failed / n_t, control_failed / n_c
    variance = p_t * (1.0 - p_t) / n_t + p_c * (1.0 - p_c) / n_c
    return np.asarray(((p_t - p_c) > half_width(variance, treated + control)) & (treated > 0) & (control > 0))


def half_width(variance: Floats, devices: Ints) -> Floats:
    """Half the width of the confidence sequence at 2 * ALPHA; `variance` is that of the difference."""
    two_sided = 2.0 * ALPHA
    rho_2 = (-2.0 * math.log(two_sided) + math.log(-2.0 * math.log(two_sided) + 1.0)) / TUNING
    n = np.maximum(devices.astype(np.float64), 1.0)
    grown = n * rho_2 + 1.0
    return np.sqrt(variance * n * 2.0 * grown / (n * n * rho_2) * np.log(np.sqrt(grown) / two_sided))


def _agenda(round_s: float) -> list[tuple[float, bool, int]]:
    """What happens when: (time, whether the test is read, step). At equal times the test is read first."""
    starts = [step * STEP_S for step in range(len(RAMP))]
    ship = (MONITORING_S, False, len(RAMP))
    readings = [(at + round_s, True, step) for step, at in enumerate(starts) if at + round_s <= MONITORING_S]
    return sorted(
        [*((at, False, step) for step, at in enumerate(starts)), *readings, ship], key=lambda e: (e[0], not e[1])
    )


POLICY = FlagRamp()
