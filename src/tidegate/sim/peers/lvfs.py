"""LVFS (firmware): everyone who asks, until enough reports say that it failed.

Source: https://lvfs.readthedocs.io/en/latest/news.html ("Automatically demote firmware with more than 5 failures and
a success rate of <70%") and https://github.com/fwupd/lvfs-website: `Firmware.is_failure`, defaults
`default_failure_minimum = 5`, `default_failure_percentage = 70`; fwupd asks for metadata twice a day
(`fwupd-refresh.timer`).

Documented defaults: both thresholds. Chosen: devices ask evenly over 12 hours (or `poll_s` if that is longer). In its
favour: every device sends its report, at once. One that falls silent sends none.
"""

from __future__ import annotations

import numpy as np

from tidegate.sim.outcome import Flags, Floats, Ints, Runs
from tidegate.sim.peers.fleet import Seen
from tidegate.sim.peers.stream import run_stream
from tidegate.sim.scenario import Scenario

LEAST_FAILURES = 5
SUCCESS_PERCENTAGE = 70
ASKING_S = 43_200.0


class Lvfs:
    name = "lvfs"
    settings = (
        "everyone within 12 h; withdrawn at 5 failure reports and under 70 % success (defaults); silence is no report"
    )
    grain_s = 60.0

    def rate(self, scenario: Scenario, at_s: float, told: Ints, seen: Seen, step_s: float) -> Floats:
        per_s = scenario.fleet.devices / max(ASKING_S, scenario.rollout.poll_s)
        return np.full(told.shape, per_s * step_s)

    def stops(self, scenario: Scenario, at_s: float, told: Ints, seen: Seen) -> Flags:
        reports = np.maximum(seen.fine + seen.reverted, 1)
        return (seen.reverted >= LEAST_FAILURES) & (seen.fine * 100 // reports < SUCCESS_PERCENTAGE)

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        return run_stream(self, scenario, rng, replicates)


POLICY = Lvfs()
