"""Device by device in arrays: agrees with the counts in distribution, in little time and memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from tidegate.sim.columns import Order
from tidegate.sim.outcome import Runs
from tidegate.sim.port import load_policy
from tidegate.sim.scenario import Scenario, scenario_of

LEAST_P = 1e-3


def small(p: float = 0.004, **more: Any) -> Scenario:
    tables: dict[str, Any] = {"background": {"silent_rate": 5e-3}, **more}
    tables["fleet"] = {"devices": 5000}
    tables["defect"] = {"harm_rate": p, **more.get("defect", {})}
    tables["rollout"] = {"max_harmed": 60, "rollout_deadline_s": 20_000, **more.get("rollout", {})}
    return scenario_of(tables)


def run(scenario: Scenario, fidelity: str, replicates: int, seed: int) -> Runs:
    return load_policy(scenario.rollout.policy, fidelity).run(scenario, np.random.default_rng(seed), replicates)


def agreement(one: Runs, other: Runs) -> float:
    """The smaller p-value of two tests: harmed devices by Kolmogorov and Smirnov, verdicts by chi square."""
    verdicts = np.array([[np.count_nonzero(runs.verdict == ending) for ending in range(3)] for runs in (one, other)])
    verdicts = verdicts[:, verdicts.sum(axis=0) > 0]
    alike: Any = chi2_contingency(verdicts) if verdicts.shape[1] > 1 else None
    harmed: Any = ks_2samp(one.harmed, other.harmed)
    return min(float(harmed.pvalue), float(alike.pvalue) if alike else 1.0)


CASES: dict[str, dict[str, Any]] = {
    "silent": {"p": 0.01},
    "reverted": {"defect": {"outcome": "reverted", "delay_s": 60}, "background": {"reverted_rate": 1e-4}},
    "late": {"late": {"share": 0.3, "return_s": 3000, "harm_rate": 0.01}},
    "outage": {"fault": [{"share": 0.4, "start_s": 300, "duration_s": 2000}]},
    "partition": {"fault": [{"kind": "partition", "share": 0.4, "start_s": 300, "duration_s": 2000}]},
    "site": {"fault": [{"kind": "site_down", "share": 0.2, "start_s": 300, "duration_s": 400}]},
    "liars": {"fault": [{"kind": "byzantine", "share": 0.3}]},
    "caps": {"cap": [{"group_devices": 100, "at_most": 10}]},
}


@pytest.mark.parametrize("case", ["silent", "late", "partition"])
def test_columns_and_counts_agree_in_distribution(case: str) -> None:
    scenario = small(**CASES[case])
    assert agreement(run(scenario, "counts", 2000, 1), run(scenario, "columns", 60, 2)) > LEAST_P


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_columns_and_counts_agree_with_more_power(case: str) -> None:
    scenario = small(**CASES[case])
    assert agreement(run(scenario, "counts", 20_000, 1), run(scenario, "columns", 1500, 2)) > LEAST_P


def test_a_wrong_fidelity_would_be_seen() -> None:
    scenario = small(**CASES["silent"])
    wrong = replace(scenario, defect=replace(scenario.defect, harm_rate=0.013))
    assert agreement(run(scenario, "counts", 2000, 1), run(wrong, "columns", 120, 2)) < LEAST_P


def test_the_order_is_that_of_the_ranks_however_it_is_taken() -> None:
    rng = np.random.default_rng(3)
    ranks = rng.integers(0, 2**64, 3_000_000, dtype=np.uint64)
    order = Order(ranks, None)
    first = order.take(1000)
    assert set(first) == set(np.argsort(ranks)[:1000])
    order.put_back(first[:400])
    assert set(order.take(400)) == set(first[:400]), "placebo devices head the next ring"
    second = order.take(1_500_000)
    assert ranks[second].min() > ranks[first].max()
    rest = order.take(3_000_000 - 1_501_000)
    assert ranks[rest].min() > ranks[second].max()


def test_a_replicate_of_8_500_000_devices_is_small() -> None:
    scenario = scenario_of(
        {"fleet": {"devices": 8_500_000}, "defect": {"harm_rate": 0}, "rollout": {"max_harmed": 850}}
    )
    run(small(), "columns", 1, 1)  # imports and first tables are no part of it
    tracemalloc.start()
    run(scenario, "columns", 1, 1)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    result = run(scenario, "columns", 1, 2)
    assert result.coverage_s[0] == 4 * 600.0
    assert most < 1.2e9
