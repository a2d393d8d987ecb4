"""AWS IoT Jobs: a rising rate, aborted when the failed share of the executed is too large.

Source: https://docs.aws.amazon.com/iot/latest/developerguide/job-configurations-api.html and
.../jobs-configurations-details.html (rollout, abort and timeout configuration): `baseRatePerMinute` devices a minute,
times `incrementFactor` at each `numberOfSucceededThings`, at most `maximumPerMinute`; the job is cancelled when at
least `thresholdPercentage` of the completed executions failed and at least `minNumberOfExecutedThings` have been
executed; an execution without an answer is TIMED_OUT after `inProgressTimeoutInMinutes`, and is then final.

Documented: base 50, factor 2, 1,000 things and at most 1,000 a minute are the guide's example (1,000 is also the most
that there is). Chosen, because the operator must, and as cautious as anything in the guides: the rate rises with
successes and not with notifications; failure type ALL, so that silence counts; abort at 5 % of at least 100 (the
example of https://docs.aws.amazon.com/greengrass/v2/developerguide/create-deployments.html; the Jobs guide's own
example, 20 % failed and 50 % timed out, is weaker); time-out after one observation time; in small fleets 1 % of the
fleet a minute, and a tenth of it in place of the 100 and the 1,000.
"""

from __future__ import annotations

import numpy as np

from tidegate.sim.outcome import Flags, Floats, Ints, Runs
from tidegate.sim.peers.fleet import Seen
from tidegate.sim.peers.stream import run_stream
from tidegate.sim.scenario import Scenario

BASE_PER_MINUTE = 50.0
INCREMENT_FACTOR = 2.0
SUCCEEDED_THINGS = 1_000
MOST_PER_MINUTE = 1_000.0
LEAST_EXECUTED = 100
ABORT_PERCENTAGE = 5.0


class AwsIotJobs:
    name = "aws-iot"
    settings = "50 a minute, doubled each 1,000 successes, at most 1,000; abort at 5 % of at least 100, silence counts"
    grain_s = 60.0

    def rate(self, scenario: Scenario, at_s: float, told: Ints, seen: Seen, step_s: float) -> Floats:
        devices = scenario.fleet.devices
        doublings = np.minimum(seen.fine // max(1, min(SUCCEEDED_THINGS, devices // 10)), 60)
        base = min(BASE_PER_MINUTE, max(1.0, devices // 100))
        per_minute = np.minimum(base * INCREMENT_FACTOR**doublings, MOST_PER_MINUTE)
        return per_minute * step_s / 60.0

    def stops(self, scenario: Scenario, at_s: float, told: Ints, seen: Seen) -> Flags:
        failed = seen.reverted + seen.silent
        completed = failed + seen.fine
        least = max(1, min(LEAST_EXECUTED, scenario.fleet.devices // 10))
        return (completed >= least) & (failed * 100.0 >= ABORT_PERCENTAGE * completed)

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        return run_stream(self, scenario, rng, replicates)


POLICY = AwsIotJobs()
