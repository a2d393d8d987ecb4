"""Ubuntu's phased updates: a tenth more every six hours, stopped by crash reports that are new.

Source: B. Murray, "Phasing of Stable Release Updates" (2013, http://www.murraytwins.com/blog/?p=127), and without the
figures https://documentation.ubuntu.com/server/explanation/software/about-apt-upgrade-and-phased-updates: the
percentage begins at 10 %; a job runs every 6 hours and, if there is no regression, adds 10 %; a regression is a crash
about the new version that was not reported about the previous one, and stops the phasing.

Nothing to choose. In its favour: every machine that reverts sends its crash report at once, and one report of the new
crash is enough; background reverts are crashes that were known before. A machine that falls silent sends no report.
The second check, on the rate of all crashes, has no published threshold and is left out.
"""

from __future__ import annotations

import numpy as np

from tidegate.sim.outcome import Runs
from tidegate.sim.peers.fleet import Seen
from tidegate.sim.peers.stages import Decision, Stage, run_stages, stages_of
from tidegate.sim.scenario import Scenario

STEP = 10
PERIOD_S = 6 * 3600.0


class Phased:
    name = "phased"
    settings = "10 % more every 6 h (published); a new crash report stops it; silent machines send none"

    def stages(self, devices: int) -> tuple[Stage, ...]:
        return stages_of(devices, tuple(percent / 100 for percent in range(STEP, 101, STEP)))

    def judge(self, scenario: Scenario, stage: Stage, batch: Seen, total: Seen) -> Decision:
        """New crashes are those of harmed devices that reported; the job looks at them every six hours."""
        defect, terms = scenario.defect, scenario.rollout
        shows = defect.outcome == "reverted" and defect.delay_s <= terms.observe_s
        crashes = np.minimum(total.harmed, total.reverted) if shows else np.zeros_like(total.harmed)
        halt = crashes > 0
        checks = np.ceil(max(terms.round_s, PERIOD_S) / PERIOD_S)
        after = np.where(halt, checks, 1.0) * PERIOD_S
        return Decision(~halt, halt, after)

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        return run_stages(self, scenario, rng, replicates)


POLICY = Phased()
