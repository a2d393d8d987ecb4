"""Kayenta (Spinnaker, Netflix): a canary and a baseline of equal size, judged by a Mann-Whitney test; then everyone.

Source: https://spinnaker.io/docs/guides/user/canary/judge/ and .../best-practices/ ("compare canary against
baseline", at least 50 points of time series a metric), and `MannWhitneyClassifier` of
https://github.com/spinnaker/kayenta (tolerance 0.25 of the Hodges-Lehmann estimate; the judge asks for 98 %
confidence; a metric that is High scores nothing): a metric fails if the lower end of the confidence interval of the
shift is above a quarter of the shift.

Documented defaults: tolerance, confidence, what counts as a failure. Chosen, because the operator must: canary and
baseline of 1 % each, (two devices a point in small fleets) updated evenly over an hour, one point a minute; one
metric, the share of that minute's devices that failed (silence is seen); a failure ends it.
"""

from __future__ import annotations

import math

import numpy as np

from tidegate.core.looks_special import normal_quantile
from tidegate.sim.outcome import Flags, Floats, Ints, Runs
from tidegate.sim.peers.course import Course, runs_of
from tidegate.sim.peers.fleet import PeerFleet
from tidegate.sim.scenario import Scenario

CANARY_SHARE = 0.01
LIFETIME_S = 3600.0
POINTS = 60
TOLERANCE = 0.25
CONFIDENCE = 0.98


class Kayenta:
    name = "kayenta"
    settings = (
        "canary and baseline of 1 % (chosen) for an hour; Mann-Whitney at 98 %, tolerance 0.25 (defaults); then all"
    )

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        """Play the canary minute by minute, judge it, and tell everyone else if it passes."""
        fleet, course, terms = PeerFleet(scenario, rng, replicates), Course(scenario), scenario.rollout
        size = canary_size(scenario.fleet.devices)
        points = min(POINTS, size)
        canary, baseline = np.zeros((replicates, points)), np.zeros((replicates, points))
        harmed: Ints = np.zeros(replicates, dtype=np.int64)
        for point in range(points):
            at = np.full(replicates, point * LIFETIME_S / points)
            told = size * (point + 1) // points - size * point // points
            batch = fleet.expose(np.full(replicates, told), at)
            seen = fleet.visible(batch, at + terms.round_s)
            course.batch(at, batch)
            harmed = harmed + batch.harmed
            came = np.maximum(seen.told - seen.away, 1)
            canary[:, point] = (seen.reverted + seen.silent) / came
            baseline[:, point] = fleet.background_failures(told, at + terms.round_s) / told
        high = is_high(canary, baseline)
        judged_s = LIFETIME_S + terms.round_s
        go = ~high & (judged_s < terms.rollout_deadline_s)
        at = np.full(replicates, judged_s)
        rest = fleet.expose(np.where(go, scenario.fleet.devices, 0), at)
        course.batch(at, rest)
        stopped, end = np.where(high, judged_s, np.inf), np.full(replicates, judged_s + terms.round_s)
        return runs_of(scenario, fleet, course, harmed + rest.harmed, go, end, stopped)


def canary_size(devices: int) -> int:
    """Count the canary's devices: a share of the fleet, but two a point as far as a quarter of the fleet goes."""
    return max(1, min(max(math.ceil(devices * CANARY_SHARE), 2 * POINTS), devices // 4))


def is_high(canary: Floats, baseline: Floats) -> Flags:
    """Say whether the canary's points are higher, arrays of shape (replicates, points); result (replicates,)."""
    shifts = np.sort((canary[:, :, None] - baseline[:, None, :]).reshape(len(canary), -1), axis=1)
    m, n = canary.shape[1], baseline.shape[1]
    z = normal_quantile(1.0 - (1.0 - CONFIDENCE) / 2.0)
    low = max(0, math.floor(m * n / 2.0 - z * math.sqrt(m * n * (m + n + 1) / 12.0)) - 1)
    estimate = np.median(shifts, axis=1)
    higher = canary.mean(axis=1) >= baseline.mean(axis=1)
    return np.asarray((shifts[:, low] > TOLERANCE * np.abs(estimate)) & higher)


POLICY = Kayenta()
