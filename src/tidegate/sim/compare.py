"""Plays one scenario under every policy and many defects, or several scenarios as they are written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tidegate.sim.outcome import Ending, Runs, summarise
from tidegate.sim.port import OWN, load_policy
from tidegate.sim.scenario import POLICIES, Scenario

HARM_RATES = (1.0, 0.1, 0.01, 1e-3, 1e-4)
COMPARED = tuple(name for name in POLICIES if name != "naive")
"""All but the rule that is broken on purpose."""
OWN_SETTINGS = {
    "tidegate": "the scenario's budget, canary and observation time",
    "certain": "Tidegate's certain rule alone, with the same budget",
    "naive": "each ring its own fresh budget: broken on purpose",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One policy: what it did for each harm rate, and for a good update.

    Attributes:
        policy: its name.
        settings: how it was set, for the footnote.
        harmful: its runs by harm rate, in the order of `HARM_RATES`.
        good: its runs for an update that harms nobody.
    """

    policy: str
    settings: str
    harmful: tuple[Runs, ...]
    good: Runs

    @property
    def hours_to_everyone(self) -> float | None:
        """Median over the runs of a good update that reached everyone; None if none did."""
        done = self.good.coverage_s[self.good.verdict == Ending.COMPLETED]
        return float(np.quantile(done, 0.5)) / 3600.0 if len(done) else None


def compare_policies(
    scenario: Scenario, policies: Sequence[str] = COMPARED, told: Callable[[str], None] = lambda name: None
) -> tuple[Line, ...]:
    """Play a scenario under each policy for every harm rate and for a good update, by counts.

    The fleet, its background, faults and late devices, and the times are the scenario's; its policy and harm rate are
    not used. Peers know no deadline, so theirs is lifted: how long they take is part of the answer.

    Args:
        scenario: what to play, `scenario.replicates` times each, from `scenario.seed`.
        policies: names, as in `rollout.policy`.
        told: called with each policy's name before it is played.

    Raises:
        BadInput: for a policy that there is not, or that cannot play the scenario.
    """
    lines: list[Line] = []
    for name in policies:
        told(name)
        policy = load_policy(name)
        deadline_s = scenario.rollout.rollout_deadline_s if name in OWN else math.inf
        terms = replace(scenario.rollout, policy=name, rollout_deadline_s=deadline_s)
        runs = [
            policy.run(
                replace(_with_harm(scenario, rate), rollout=terms),
                np.random.default_rng([scenario.seed, place]),
                scenario.replicates,
            )
            for place, rate in enumerate((*HARM_RATES, 0.0))
        ]
        settings = OWN_SETTINGS.get(name) or str(getattr(policy, "settings", ""))
        lines.append(Line(name, settings, tuple(runs[:-1]), runs[-1]))
    return tuple(lines)


def play_scenarios(scenarios: Sequence[Scenario]) -> tuple[tuple[Scenario, Runs, dict[str, Any]], ...]:
    """Play scenarios as they are written, by counts; give each with its runs and its summary.

    Raises:
        BadInput: if one cannot be played.
    """
    found: list[tuple[Scenario, Runs, dict[str, Any]]] = []
    for scenario in scenarios:
        began = time.perf_counter()
        policy = load_policy(scenario.rollout.policy)
        runs = policy.run(scenario, np.random.default_rng(scenario.seed), scenario.replicates)
        found.append((scenario, runs, summarise(scenario, runs, time.perf_counter() - began)))
    return tuple(found)


def as_dict(scenario: Scenario, lines: Sequence[Line], wall_s: float) -> dict[str, Any]:
    """Give a comparison as plain values, ready for JSON."""
    return {
        "scenario": scenario.name,
        "devices": scenario.fleet.devices,
        "max_harmed": scenario.rollout.max_harmed,
        "replicates": scenario.replicates,
        "policies": [_line_dict(scenario, line) for line in lines],
        "wall_s": round(wall_s, 3),
    }


def _line_dict(scenario: Scenario, line: Line) -> dict[str, Any]:
    kept = ("harmed", "exceeded", "verdicts")
    harmful = [summarise(scenario, runs) for runs in line.harmful]
    good = summarise(scenario, line.good)
    return {
        "policy": line.policy,
        "settings": line.settings,
        "harmful": [
            {"harm_rate": rate, **{key: one[key] for key in kept}}
            for rate, one in zip(HARM_RATES, harmful, strict=True)
        ],
        "good": {
            "verdicts": good["verdicts"],
            "false_halts": good["false_halts"],
            "coverage_s": good["coverage_s"],
            "hours_to_everyone": line.hours_to_everyone,
        },
    }


def _with_harm(scenario: Scenario, rate: float) -> Scenario:
    late = scenario.late if scenario.late is None or rate > 0 else replace(scenario.late, harm_rate=0.0)
    return replace(scenario, defect=replace(scenario.defect, harm_rate=rate), late=late)
