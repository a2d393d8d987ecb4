"""A scenario's speed limit: what release keys will sign, so that a plan and a simulation show what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.core.assign import SHARE_ONE
from tidegate.core.errors import BadInput
from tidegate.core.model import SpeedLimit
from tidegate.sim.allowed import SECONDS, SHARE, optional

LASTS_S = 90 * 86_400


@dataclass(frozen=True, slots=True)
class SpeedStep:
    """`[[speed]]`: from `after_s` after the signing on, at most this share of the fleet may have begun."""

    after_s: float = optional(0.0, SECONDS)
    share: float = optional(1.0, SHARE)


def limit_of(steps: Sequence[SpeedStep], ceiling: float, clock_slack_s: float, logged_s: int) -> SpeedLimit | None:
    """Give the limit that is signed at `logged_s` (unix seconds), or None where a scenario has none.

    Raises:
        BadInput: for steps that do not rise.
    """
    if not steps:
        return None
    try:
        return SpeedLimit(
            steps=tuple((round(step.after_s), round(step.share * SHARE_ONE)) for step in steps),
            logged=logged_s,
            not_after=logged_s + LASTS_S,
            ceiling_2p32=round(ceiling * SHARE_ONE),
            clock_slack_s=round(clock_slack_s),
        )
    except ValueError:
        raise BadInput("speed: each step must come later than the one before, in whole seconds, and not fall") from None
