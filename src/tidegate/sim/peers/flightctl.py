"""Flight Control: batches in sequence; each needs a share of successes, and devices time out.

Source: https://github.com/flightctl/flightctl, `docs/user/using/managing-fleets.md` ("Defining a Device Selection
Strategy") and `internal/rollout/device_selection` (`DefaultSuccessThreshold = 90`, `DefaultUpdateTimeout = 24 *
time.Hour`, `SuccessPercentage = Successful * 100 / Total`, in whole numbers): a batch is complete when every device
has succeeded, failed or timed out; the next one starts by itself only if the success percentage is at least the
threshold.

Documented defaults: success threshold 90 %, time-out 24 hours. Chosen, because the operator must: the sequence of the
guide's own words, "first 1%, then 10%, then the rest". The last batch is implicit, and nothing follows it. A batch in
which a device fell silent lasts the whole time-out.
"""

from __future__ import annotations

import numpy as np

from tidegate.sim.outcome import Runs
from tidegate.sim.peers.fleet import Seen
from tidegate.sim.peers.stages import Decision, Stage, run_stages, stages_of
from tidegate.sim.scenario import Scenario

SEQUENCE = (0.01, 0.1, 1.0)
SUCCESS_THRESHOLD = 90
UPDATE_TIMEOUT_S = 86_400.0


class FlightControl:
    name = "flightctl"
    settings = "batches to 1, 10, 100 % (chosen, after the guide); 90 % success, time-out 24 h (defaults)"

    def stages(self, devices: int) -> tuple[Stage, ...]:
        return stages_of(devices, SEQUENCE)

    def judge(self, scenario: Scenario, stage: Stage, batch: Seen, total: Seen) -> Decision:
        advance = batch.fine * 100 // np.maximum(batch.told, 1) >= SUCCESS_THRESHOLD
        round_s = scenario.rollout.round_s
        lasts = np.where(batch.silent + batch.away > 0, max(UPDATE_TIMEOUT_S, round_s), round_s)
        return Decision(advance, ~advance, lasts)

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        return run_stages(self, scenario, rng, replicates)


POLICY = FlightControl()
