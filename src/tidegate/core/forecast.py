"""What a rollout will take before it starts: whether it can be done, how long, what waiting costs, the ways out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tidegate.core.looks import (
    MOST_LOOKS,
    LookPlan,
    plan_looks,
    time_limit_rings,
)
from tidegate.core.looks_budget import budget_parts
from tidegate.core.ways_out import WayOut, certain_rounds, least_budget, ways_within

LATE_HARM = (
    "Harm that shows within the observation time is bounded by max_harmed; if only a share s of the harmed show it "
    "by then, by about max_harmed / s; harm that shows later by what was exposed meanwhile, and by nothing else."
)


@dataclass(frozen=True, slots=True)
class Cap:
    """A group and its cap: at most `at_most` of its `devices` are exposed and not yet confirmed."""

    group: str
    devices: int
    at_most: int


@dataclass(frozen=True, slots=True)
class Wait:
    """How old the protection of some devices gets: they run what they have for `seconds` more, then the candidate."""

    who: str
    share: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """The answer of `tidegate plan`. Times in seconds from the start to the last device confirmed; None: never.

    Attributes:
        feasible: whether everyone is reached within the deadline, by the statistical rule or by the certain one.
        reason: one sentence.
        rule: "statistical" or "certain": what carries the rollout.
        rings: number of rings of a good update; None if not feasible.
        sizes: cumulative treated devices after each ring of the statistical rule, as far as it carries.
        placebo: placebo devices of each ring.
        time_limit_s: T*, the exact rule with no background.
        forecast_s: a good update, devices that are there when their turn comes.
        time_ratio: forecast_s / time_limit_s.
        late_s: the late devices, on the certain rule with their share; None if there are none, or it never ends.
        certain_s: the certain rule alone; None where background failures use up the budget before the end.
        min_max_harmed: the smallest feasible budget.
        ways_out: three for an infeasible rollout, else empty.
        protection: the price of waiting, by ring and by capped group.
        mean_wait_s: mean age of protection over all devices, those that are late left out.
        late_harm: what is promised about harm that comes late.
    """

    feasible: bool
    reason: str
    rule: str
    rings: int | None
    sizes: tuple[int, ...]
    placebo: tuple[int, ...]
    time_limit_s: float
    forecast_s: float | None
    time_ratio: float | None
    late_s: float | None
    certain_s: float | None
    min_max_harmed: int
    ways_out: tuple[WayOut, ...]
    protection: tuple[Wait, ...]
    mean_wait_s: float | None
    late_harm: str = LATE_HARM

    def to_dict(self) -> dict[str, Any]:
        """Give plain values, ready for JSON."""
        return asdict(self)


def forecast(
    devices: int,
    max_harmed: int,
    confidence: float = 0.999,
    placebo_per_treated: float = 4.0,
    q: float = 0.0,
    q_gate: float = 0.05,
    canary: int = 0,
    observe_s: float = 600.0,
    *,
    poll_s: float = 0.0,
    late_share: float = 0.0,
    late_return_s: float = 0.0,
    late_budget_share: float = 0.2,
    rollout_deadline_s: float = 86_400.0,
    caps: Sequence[Cap] = (),
) -> Forecast:
    """Forecast the rollout of a good update.

    Args:
        devices, max_harmed, confidence, placebo_per_treated, q, q_gate, canary: as `plan_looks`; q is the background
            rate of all failures, silent and reverted.
        observe_s: observation time D.
        poll_s: how often devices ask; adds to every ring.
        late_share: share of devices that are away when their turn comes.
        late_return_s: when they come back.
        late_budget_share: share of max_harmed kept for them; counts only if there are any.
        rollout_deadline_s: longest time that it may take to count as feasible, devices that are late left out.
        caps: groups with a cap; each takes at least devices / at_most observation times.

    Returns:
        The forecast; the same arguments always give the same.

    Raises:
        ValueError: naming what is out of range.
    """
    main, late = budget_parts(max_harmed, late_budget_share if late_share > 0 else 0.0)
    ring_s = observe_s + poll_s
    first = min(canary or max_harmed, main)
    allowed = math.floor(rollout_deadline_s / ring_s + 1e-9)
    looks = max(1, min(MOST_LOOKS, allowed))
    terms = (confidence, placebo_per_treated, q, q_gate)
    plan = plan_looks(devices, main, *terms, first, attendance=1.0 - late_share, most_looks=looks)
    certain = certain_rounds(devices, main, first, q)
    certain_s = None if certain is None else certain * ring_s
    in_time = certain_s is not None and certain_s <= rollout_deadline_s
    least = least_budget(devices, *terms, canary, rollout_deadline_s / ring_s, looks)
    rings = plan.rings if plan.feasible else certain if in_time else None
    least = least if rings is None else min(least, max_harmed)
    if plan.feasible and certain is not None:
        rings = min(plan.rings, certain)
    slowest = max((math.ceil(cap.devices / cap.at_most) for cap in caps), default=0)
    late_for = None if rings is None or max(rings, slowest) <= allowed else max(rings, slowest) * ring_s
    rings = None if late_for else rings
    forecast_s = None if rings is None else max(rings, slowest) * ring_s
    limit_s = time_limit_rings(devices, max_harmed, confidence, canary) * ring_s
    protection = _protection(plan, rings, ring_s, caps)
    carried = "statistical" if plan.feasible and rings == plan.rings else "certain"
    return Forecast(
        feasible=rings is not None,
        reason=_reason(plan, carried, rings, certain_s, rollout_deadline_s, late_for, looks),
        rule=carried,
        rings=rings,
        sizes=plan.sizes,
        placebo=plan.placebo,
        time_limit_s=limit_s,
        forecast_s=forecast_s,
        time_ratio=None if forecast_s is None else forecast_s / limit_s,
        late_s=_late_s(devices, late_share, late, q, late_return_s, ring_s),
        certain_s=certain_s,
        min_max_harmed=least,
        ways_out=ways_within(plan, confidence, least, looks, late_for) if rings is None else (),
        protection=protection,
        mean_wait_s=sum(w.share * w.seconds for w in protection if w.who.startswith("ring")) if rings else None,
    )


def _late_s(
    devices: int, late_share: float, budget: int, q: float, late_return_s: float, ring_s: float
) -> float | None:
    count = round(devices * late_share)
    if count == 0 or budget == 0:
        return None
    rounds = certain_rounds(count, budget, budget, q)
    return None if rounds is None else late_return_s + rounds * ring_s


def _protection(plan: LookPlan, rings: int | None, ring_s: float, caps: Sequence[Cap]) -> tuple[Wait, ...]:
    if rings is None:
        return ()
    groups = tuple(
        Wait(
            f"group {cap.group}", cap.devices / plan.devices, max(0, math.ceil(cap.devices / cap.at_most) - 1) * ring_s
        )
        for cap in caps
    )
    if plan.feasible and rings == plan.rings:
        own = tuple(Wait(f"ring {k + 1}", plan.treated(k) / plan.devices, k * ring_s) for k in range(plan.rings))
        return own + groups
    tenth = tuple(Wait(f"ring {rings * (k + 1) // 10}", 0.1, rings * (k + 0.5) / 10 * ring_s) for k in range(10))
    return tenth + groups


def _reason(
    plan: LookPlan,
    carried: str,
    rings: int | None,
    certain_s: float | None,
    deadline_s: float,
    late_for: float | None,
    looks: int,
) -> str:
    """One sentence; `late_for` is the time that a rollout would take which is right but for its deadline."""
    if late_for:
        return f"it takes {late_for:.0f} s, more than the deadline of {deadline_s:.0f} s"
    if carried == "statistical":
        return plan.reason
    if rings is not None:
        return f"the certain rule alone reaches all {plan.devices} devices in {rings} observation times"
    time = f" and there is time for {looks} at most" if looks < MOST_LOOKS and not plan.feasible else ""
    if certain_s is None:
        return f"{plan.reason}{time}; the certain rule alone never ends, because background failures use up the budget"
    alone = f"the certain rule alone takes {certain_s:.0f} s, more than the deadline of {deadline_s:.0f} s"
    return f"{plan.reason}{time}; {alone}"
