"""What a shadow rollout says: the background of this fleet, and the smallest budget that could be certified on it."""

from __future__ import annotations

from tidegate.core.looks import min_max_harmed
from tidegate.core.phases import Happening
from tidegate.core.rollout import Rollout
from tidegate.core.verdict import Figures, Verdict, VerdictKind

RULE_OF_THREE = 3.0
"""With no failure among n devices the rate is below 3 / n at 95 % confidence."""


def background(failed: int, devices: int) -> float:
    """Estimate the background rate from a shadow rollout; with no failures its upper bound at 95 % confidence.

    Args:
        failed: devices that were silent or reverted.
        devices: devices that had a lease.

    Source: the rule of three (Hanley and Lippman-Hand, 1983).
    """
    if devices == 0:
        return 1.0
    return failed / devices if failed else min(RULE_OF_THREE / devices, 1.0)


def measured(rollout: Rollout, figures: Figures) -> Verdict:
    """End a shadow rollout with what it measured."""
    budget = rollout.spec.budget
    rate = background(figures.placebo_failed, figures.placebo)
    least = min_max_harmed(
        rollout.devices, budget.confidence, budget.placebo_per_treated, min(rate, 0.5), budget.q_gate, budget.canary
    )
    about = f"{rate:.2g}" if figures.placebo_failed else f"below {rate:.2g}"
    sentence = (
        f"shadow: {figures.placebo_failed:,} of {figures.placebo:,} devices failed with nothing changed,"
        f" a background of {about} per observation time;"
        f" the smallest max_harmed at confidence {budget.confidence:g} is {least:,}"
    )
    return Verdict(VerdictKind.ADVANCE, Happening.COMPLETE, rollout.ring_open, sentence, figures)
