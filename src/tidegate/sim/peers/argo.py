"""Argo Rollouts: fixed canary steps, each with a pause and an analysis of the success rate.

Source: https://argoproj.github.io/argo-rollouts/features/canary and .../features/analysis/ (steps `setWeight`,
`pause`, `analysis`; the guide's template `success-rate` with `successCondition: result[0] >= 0.95`): a failed
analysis aborts the rollout and sets the weight back to zero.

Documented default: none for the weights; 0.95 is the guide's template. Chosen, because the operator must: weights of
1, 5, 25, 50 and 100 %, more careful than the guide's 20, 40, 60, 80, and an analysis inside each step after a pause
of one observation time, so that it reads settled outcomes. The success rate is that of all devices on the new
version; a silent device counts against it. Kubernetes would also wait for every pod to be ready; devices are not
rescheduled, so that is left out: with it a good update would never finish on a fleet where anything falls silent.
"""

from __future__ import annotations

import numpy as np

from tidegate.sim.outcome import Runs
from tidegate.sim.peers.fleet import Seen
from tidegate.sim.peers.stages import Decision, Stage, at_the_end, run_stages, stages_of
from tidegate.sim.scenario import Scenario

WEIGHTS = (0.01, 0.05, 0.25, 0.5, 1.0)
SUCCESS_RATE = 0.95


class Argo:
    name = "argo"
    settings = "weights 1, 5, 25, 50, 100 % (chosen); success rate at least 95 % after each (the guide's template)"

    def stages(self, devices: int) -> tuple[Stage, ...]:
        return stages_of(devices, WEIGHTS)

    def judge(self, scenario: Scenario, stage: Stage, batch: Seen, total: Seen) -> Decision:
        finished = np.maximum(total.fine + total.reverted + total.silent, 1)
        advance = total.fine / finished >= SUCCESS_RATE
        return at_the_end(scenario, advance, ~advance)

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        return run_stages(self, scenario, rng, replicates)


POLICY = Argo()
