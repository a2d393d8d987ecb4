"""Instant push: everyone at once, as security content was pushed on 19 July 2024.

Source: CrowdStrike, "External Technical Root Cause Analysis - Channel File 291" (August 2024): content was delivered
to all sensors without a staged rollout; it was withdrawn after 78 minutes. Nothing to choose: each device takes the
update when it next asks, within `poll_s`, and no rule stops it.
"""

from __future__ import annotations

import numpy as np

from tidegate.sim.outcome import Runs
from tidegate.sim.peers.fleet import Seen
from tidegate.sim.peers.stages import Decision, Stage, at_the_end, run_stages
from tidegate.sim.scenario import Scenario


class Instant:
    name = "instant"
    settings = "everyone at once; no rule"

    def stages(self, devices: int) -> tuple[Stage, ...]:
        return (Stage(devices),)

    def judge(self, scenario: Scenario, stage: Stage, batch: Seen, total: Seen) -> Decision:
        everyone = np.ones(batch.told.shape, dtype=np.bool_)
        return at_the_end(scenario, everyone, ~everyone)

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        return run_stages(self, scenario, rng, replicates)


POLICY = Instant()
