"""Eclipse hawkBit: deployment groups that start one another; an error threshold stops them.

Source: https://eclipse.dev/hawkbit/concepts/rollout-management ("Cascading Deployment Group Execution"), and its
`RolloutGroupConditionBuilder.withDefaults`, `ThresholdRolloutGroupSuccessCondition` and
`ThresholdRolloutGroupErrorCondition`: the next group starts when finished / group >= success threshold; the rollout
pauses when errors / group > error threshold. Only actions in status ERROR are errors: a device that fell silent is
RUNNING for ever, neither finished nor an error.

Documented defaults: success threshold 50 %, error threshold 50 %. Chosen, because the operator must: the groups, 1 %,
10 %, 50 % and 100 % of the fleet. (The form of the web interface begins with one group, 100 % and 10 %: one group is
an instant push, and with a 100 % success threshold a single silent device stops a good update for ever.)
"""

from __future__ import annotations

import numpy as np

from tidegate.sim.outcome import Runs
from tidegate.sim.peers.fleet import Seen
from tidegate.sim.peers.stages import Decision, Stage, run_stages, stages_of
from tidegate.sim.scenario import Scenario

GROUPS = (0.01, 0.1, 0.5, 1.0)
SUCCESS_THRESHOLD = 0.5
ERROR_THRESHOLD = 0.5


class HawkBit:
    name = "hawkbit"
    settings = "groups to 1, 10, 50, 100 % (chosen); success and error thresholds 50 % (default); silent is running"

    def stages(self, devices: int) -> tuple[Stage, ...]:
        return stages_of(devices, GROUPS)

    def judge(self, scenario: Scenario, stage: Stage, batch: Seen, total: Seen) -> Decision:
        """Conditions are looked at all the time: the decision falls when the share that is needed has reported."""
        group = np.maximum(batch.told, 1)
        halt = batch.reverted / group > ERROR_THRESHOLD
        advance = (batch.fine / group >= SUCCESS_THRESHOLD) & ~halt
        counted = np.maximum(np.where(halt, batch.reverted, batch.fine), 1)
        needed = np.minimum(np.where(halt, ERROR_THRESHOLD, SUCCESS_THRESHOLD) * group / counted, 1.0)
        terms = scenario.rollout
        return Decision(advance, halt, needed * terms.poll_s + terms.observe_s)

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        return run_stages(self, scenario, rng, replicates)


POLICY = HawkBit()
