"""What a rollout will take before it starts: whether it can be done, how long, what waiting costs, the ways out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tidegate.core.looks import (
    LookPlan,
    can_plan,
    certain_ring_count,
    min_max_harmed,
    plan_looks,
    time_limit_rings,
)
from tidegate.core.looks_budget import budget_parts
from tidegate.core.looks_design import MARGIN

LATE_HARM = (
    "Harm that shows within the observation time is bounded by max_harmed; if only a share s of the harmed show it "
    "by then, by about max_harmed / s; harm that shows later by what was exposed meanwhile, and by nothing else."
)
_MOST_PLACEBO = 64.0


@dataclass(frozen=True, slots=True)
class Cap:
    """A group and its cap: at most `at_most` of its `devices` are exposed and not yet confirmed."""

    group: str
    devices: int
    at_most: int


@dataclass(frozen=True, slots=True)
class WayOut:
    """One change that would make an infeasible rollout feasible.

    Attributes:
        kind: "max_harmed", "placebo_per_treated" or "silent_rate".
        value: the least change that does; None if no value of this one alone does.
        sentence: for a person.
    """

    kind: str
    value: float | None
    sentence: str


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
        feasible: whether everyone is reached, by the statistical rule or, within the deadline, by the certain one.
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
        rollout_deadline_s: longest time that the certain rule may take for the rollout to count as feasible.
        caps: groups with a cap; each takes at least devices / at_most observation times.

    Returns:
        The forecast; the same arguments always give the same.

    Raises:
        ValueError: naming what is out of range.
    """
    main, late = budget_parts(max_harmed, late_budget_share if late_share > 0 else 0.0)
    ring_s = observe_s + poll_s
    first = min(canary or max_harmed, main)
    plan = plan_looks(devices, main, confidence, placebo_per_treated, q, q_gate, first, attendance=1.0 - late_share)
    certain = certain_rounds(devices, main, first, q)
    certain_s = None if certain is None else certain * ring_s
    in_time = certain_s is not None and certain_s <= rollout_deadline_s
    least = _least(devices, confidence, placebo_per_treated, q, q_gate, canary, rollout_deadline_s / ring_s)
    rings = plan.rings if plan.feasible else certain if in_time else None
    least = least if rings is None else min(least, max_harmed)
    if plan.feasible and certain is not None:
        rings = min(plan.rings, certain)
    slowest = max((math.ceil(cap.devices / cap.at_most) for cap in caps), default=0)
    forecast_s = None if rings is None else max(rings, slowest) * ring_s
    limit_s = time_limit_rings(devices, max_harmed, confidence, canary) * ring_s
    protection = _protection(plan, rings, ring_s, caps)
    carried = "statistical" if plan.feasible and rings == plan.rings else "certain"
    return Forecast(
        feasible=rings is not None,
        reason=_reason(plan, carried, rings, certain_s, rollout_deadline_s),
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
        ways_out=() if rings is not None else ways_out(plan, confidence, least),
        protection=protection,
        mean_wait_s=sum(w.share * w.seconds for w in protection if w.who.startswith("ring")) if rings else None,
    )


def certain_rounds(devices: int, max_harmed: int, canary: int, q: float) -> int | None:
    """Count the observation times that the certain rule alone takes, or None if background uses up the budget.

    A device that falls silent by itself never confirms and stays charged, so room shrinks to B - q n after n devices;
    the rounds are the integral of dn / (B - q n) = ln(B / (B - q N)) / q. It ends before the roster where
    q N, with some bad luck, reaches B.
    """
    rounds = certain_ring_count(devices, max_harmed, canary)
    if q == 0:
        return rounds
    lost = q * devices
    if lost + MARGIN * math.sqrt(lost) >= max_harmed and devices > max_harmed:
        return None
    if devices <= max_harmed:
        return rounds
    slower = -math.log1p(-lost / max_harmed) / q - devices / max_harmed
    return rounds + math.ceil(slower - 1e-9)


def ways_out(plan: LookPlan, confidence: float, least: int) -> tuple[WayOut, ...]:
    """Find the three changes that would do, each alone: a larger budget, more placebo devices, a quieter outcome.

    Args:
        plan: an infeasible plan.
        confidence: 1 - alpha.
        least: the smallest feasible max_harmed.
    """

    def feasible(placebo: float, q: float) -> bool:
        return can_plan(plan.devices, plan.max_harmed, confidence, placebo, q, plan.q_gate, plan.canary)

    found = [WayOut("max_harmed", float(least), f"raise max_harmed to {least}")]
    placebo = plan.placebo_per_treated
    more = placebo
    while more < _MOST_PLACEBO and not feasible(more, plan.q):
        more = max(1.0, more * 2.0)
    if feasible(more, plan.q):
        value = math.ceil(_least_real(lambda p: feasible(p, plan.q), placebo, more))
        found.append(WayOut("placebo_per_treated", float(value), f"run {value} placebo devices per treated one"))
    else:
        found.append(WayOut("placebo_per_treated", None, "no number of placebo devices alone would do"))
    quiet = 1e-9
    if plan.q > quiet and feasible(placebo, quiet):
        log_q = _least_real(lambda s: feasible(placebo, math.exp(-s)), -math.log(plan.q), -math.log(quiet))
        value = float(f"{math.exp(-log_q):.2g}")
        value = value if feasible(placebo, value) else value * 0.97
        found.append(
            WayOut("silent_rate", value, f"choose an outcome that fails by itself at most {value:.2g} per device")
        )
    else:
        found.append(WayOut("silent_rate", None, "no quieter outcome alone would do: the budget is too small"))
    return tuple(found)


def _least(
    devices: int, confidence: float, placebo: float, q: float, q_gate: float, canary: int, most_rounds: float
) -> int:
    """The smallest budget that is feasible by either rule."""

    def in_time(budget: int) -> bool:
        rounds = certain_rounds(devices, budget, min(canary or budget, budget), q)
        return rounds is not None and rounds <= most_rounds

    statistical = min_max_harmed(devices, confidence, placebo, q, q_gate, canary)
    if not in_time(statistical):
        return statistical
    low, high = 0, statistical
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if in_time(middle) else (middle, high)
    return high


def _least_real(feasible: Callable[[float], bool], low: float, high: float) -> float:
    for _ in range(10):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if feasible(middle) else (middle, high)
    return high


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


def _reason(plan: LookPlan, carried: str, rings: int | None, certain_s: float | None, deadline_s: float) -> str:
    if carried == "statistical":
        return plan.reason
    if rings is not None:
        return f"the certain rule alone reaches all {plan.devices} devices in {rings} observation times"
    if certain_s is None:
        return f"{plan.reason}; the certain rule alone never ends, because background failures use up the budget"
    return (
        f"{plan.reason}; the certain rule alone takes {certain_s:.0f} s, more than the deadline of {deadline_s:.0f} s"
    )
