"""Teleport managed updates: five canaries in each group, and groups that wait for nine tenths of the one before.

Source: https://goteleport.com/docs/reference/infrastructure-as-code/teleport-resources/auto-update-config (strategy
`halt-on-error`, `canary_count` capped at 5, example schedule dev 4:00, staging 14:00, prod 14:00 with `wait_hours:
24`) and `lib/autoupdate/rollout/strategy_haltonerror.go` (`doneThreshold = 0.9`): a group's canaries must all come
back on the new version before the rest of the group is updated; the next group waits until at least 90 % of the group
are connected and at least 90 % of those run the new version. Nothing is stopped for good: it waits for an operator.

Documented: the 90 % and the example's schedule. Chosen, because the operator must: 5 canaries in every group, the
most that there are; dev, staging and prod are 1 %, 9 % and 90 % of the fleet.
"""

from __future__ import annotations

import math

import numpy as np

from tidegate.sim.outcome import Runs
from tidegate.sim.peers.fleet import Seen
from tidegate.sim.peers.stages import Decision, Stage, at_the_end, run_stages
from tidegate.sim.scenario import Scenario

GROUPS = ((0.01, 0.0), (0.1, 10 * 3600.0), (1.0, 34 * 3600.0))
"""Cumulative share, and hours after the first group's window."""
CANARIES = 5
DONE_THRESHOLD = 0.9


class Teleport:
    name = "teleport"
    settings = (
        "5 canaries in each group (the most), groups to 1, 10, 100 % (chosen) after 0, 10, 34 h; 90 % done (default)"
    )

    def stages(self, devices: int) -> tuple[Stage, ...]:
        found: list[Stage] = []
        size = 0
        for share, start_s in GROUPS:
            group_end = math.ceil(devices * share - 1e-9)
            found.append(Stage(min(size + CANARIES, group_end), start_s, canary=True))
            found.append(Stage(group_end, start_s))
            size = group_end
        return tuple(found)

    def judge(self, scenario: Scenario, stage: Stage, batch: Seen, total: Seen) -> Decision:
        """Agents that are away are not connected when a group starts, and not counted in it."""
        there, present = batch.told - batch.away, batch.fine + batch.reverted
        if stage.canary:
            advance = batch.fine == there
        else:
            connected = present >= DONE_THRESHOLD * there
            advance = connected & (batch.fine >= DONE_THRESHOLD * present)
        return at_the_end(scenario, advance, np.zeros_like(advance))

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        return run_stages(self, scenario, rng, replicates)


POLICY = Teleport()
