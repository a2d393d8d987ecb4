"""Who may spend the budget and alpha: one candidate through all its restarts, many in a month, severities, strata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tidegate.core.errors import Refused
from tidegate.core.looks import LookPlan, plan_looks
from tidegate.core.window import Count, RingCounts, certain_room, statistical_window

MONTH_S = 30 * 86_400
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Account:
    """The budget of one candidate digest, with its alpha and its evidence. Restarts and aborts inherit it.

    Attributes:
        candidate: digest of the release.
        max_harmed: devices that may be harmed by it, over all attempts together.
        confidence: 1 - alpha, over all attempts together.
        alpha_spent: alpha of the plans begun so far.
        exposed: devices ever given a treated lease for it, in earlier orders.
        confirmed: how many of those confirmed; the others may all be harmed.
        order: names the roster and salt of the attempt that is open; empty before the first.
        plan: the looks of that attempt.
        rings: evidence of that attempt.
    """

    candidate: str
    max_harmed: int
    confidence: float
    alpha_spent: float = 0.0
    exposed: int = 0
    confirmed: int = 0
    order: str = ""
    plan: LookPlan | None = None
    rings: tuple[RingCounts, ...] = ()

    def __post_init__(self) -> None:
        if self.max_harmed < 1 or not 0 < self.confidence < 1 or not 0 <= self.confirmed <= self.exposed:
            raise ValueError("an account needs max_harmed >= 1, confidence in (0, 1) and confirmed in 0..exposed")

    @property
    def alpha_left(self) -> float:
        """Alpha that a new order of exposure may still spend."""
        return max(0.0, 1.0 - self.confidence - self.alpha_spent)

    @property
    def max_harmed_left(self) -> int:
        """Devices that a new order of exposure may still harm: every earlier one without a confirmation is charged."""
        return max(0, self.max_harmed - (self.exposed - self.confirmed))

    def renewed(self, candidate: str, max_harmed: int, confidence: float) -> Account:
        """Take up the account again for a restart.

        Raises:
            Refused: for another digest (it needs an account of its own), or for more harm or less confidence than
                this candidate was given: a raised budget would be a fresh alpha.
        """
        if candidate != self.candidate:
            raise Refused("this budget belongs to another candidate; open one for the new digest")
        if max_harmed > self.max_harmed or confidence < self.confidence - _ROUNDING:
            raise Refused(
                f"this candidate was given max_harmed = {self.max_harmed} at confidence {self.confidence:g}; "
                "a restart may lower it, never raise it: release a new version for a new budget"
            )
        return replace(self, max_harmed=max_harmed, confidence=max(confidence, self.confidence))

    def begun(self, order: str, plan: LookPlan) -> Account:
        """Begin or continue an attempt.

        The same order with the same plan goes on with its evidence and costs nothing. Another order needs alpha of
        its own, and a budget within what the unconfirmed devices of earlier orders leave.

        Raises:
            Refused: if alpha or the budget does not suffice; the certain rule needs no alpha.
        """
        if order == self.order and plan == self.plan:
            return self
        if order == self.order:
            raise Refused("this order of exposure has its looks already; their sizes cannot change once it began")
        if plan.alpha > self.alpha_left * (1.0 + 1e-9):
            raise Refused(
                f"alpha is spent: {self.alpha_left:.3g} is left and the plan needs {plan.alpha:.3g}; "
                "continue the rollout it was spent on, or go by the certain rule"
            )
        if plan.max_harmed > self.max_harmed_left:
            raise Refused(
                f"{self.exposed - self.confirmed} earlier devices never confirmed: {self.max_harmed_left} of "
                f"max_harmed = {self.max_harmed} are left and the plan takes {plan.max_harmed}"
            )
        return replace(self, alpha_spent=self.alpha_spent + plan.alpha, order=order, plan=plan, rings=())

    def with_rings(self, rings: Sequence[RingCounts]) -> Account:
        """Keep the evidence of the open attempt."""
        return replace(self, rings=tuple(rings))

    def closed(self, exposed: int, confirmed: int) -> Account:
        """End the open order for good: its unconfirmed devices stay charged, its alpha stays spent.

        Args:
            exposed: treated leases of that order.
            confirmed: how many of them confirmed.
        """
        return replace(
            self, exposed=self.exposed + exposed, confirmed=self.confirmed + confirmed, order="", plan=None, rings=()
        )


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a candidate holds of its component's month: its whole budget while it runs, then what never confirmed."""

    candidate: str
    at_s: float
    max_harmed: int
    open: bool = True


@dataclass(frozen=True, slots=True)
class Rolling:
    """A component's `max_harmed_30d`, so that many small budgets do not add up to a large one unseen."""

    max_harmed_30d: int
    reservations: tuple[Reservation, ...] = ()

    def left(self, now_s: float) -> int:
        """Devices that may still be reserved. A rollout that runs counts however old it is."""
        held = sum(r.max_harmed for r in self.reservations if r.open or r.at_s > now_s - MONTH_S)
        return self.max_harmed_30d - held

    def reserved(self, now_s: float, candidate: str, max_harmed: int) -> Rolling:
        """Reserve a candidate's budget; a restart of the same candidate adds nothing, it inherits.

        Raises:
            Refused: if the month has less left.
        """
        mine = [r for r in self.reservations if r.candidate == candidate]
        held = max((r.max_harmed for r in mine), default=0)
        others = replace(self, reservations=tuple(r for r in self.reservations if r.candidate != candidate))
        wanted = max(held, max_harmed)
        if wanted > others.left(now_s):
            raise Refused(
                f"max_harmed_30d = {self.max_harmed_30d} has {max(0, others.left(now_s))} left; "
                f"this rollout asks for {wanted}: lower max_harmed or wait"
            )
        return replace(others, reservations=(*others.reservations, Reservation(candidate, now_s, wanted)))

    def settled(self, now_s: float, candidate: str, unconfirmed: int) -> Rolling:
        """End a rollout: give back what it did not use. Every exposed device that never confirmed stays charged."""
        kept = tuple(
            replace(r, at_s=now_s, max_harmed=min(r.max_harmed, unconfirmed), open=False)
            if r.candidate == candidate and r.open
            else r
            for r in self.reservations
        )
        return replace(self, reservations=kept)


def budget_parts(max_harmed: int, late_budget_share: float) -> tuple[int, int]:
    """Split B = B_main + B_late; each at least 1 device where there is a share. Raises ValueError if it cannot."""
    if late_budget_share == 0:
        return max_harmed, 0
    late = max(1, round(max_harmed * late_budget_share))
    if late >= max_harmed:
        raise ValueError(f"max_harmed = {max_harmed} is too small to keep a share for late devices")
    return max_harmed - late, late


def severity_plans(
    devices: int,
    max_harmed: int,
    max_silent: int,
    confidence: float,
    placebo_per_treated: float,
    q_silent: float,
    q_failed: float,
    q_gate: float,
    canary: int = 0,
) -> tuple[LookPlan, LookPlan]:
    """Plan looks that certify at most `max_silent` silent AND at most `max_harmed` harmed devices jointly.

    Half of alpha each; both read the same rings, whose sizes are those of the plan that is slower.

    Args:
        devices, confidence, placebo_per_treated, q_gate, canary: as `plan_looks`.
        max_harmed: budget for silent and reverted devices together.
        max_silent: smaller budget for silent ones alone.
        q_silent: background rate of silence alone.
        q_failed: background rate of silence and reverts together.

    Returns:
        (plan for silent, plan for silent or reverted); feasible only if both are.
    """
    if not 1 <= max_silent <= max_harmed:
        raise ValueError("max_silent must be 1 to max_harmed")
    half = 1.0 - (1.0 - confidence) / 2.0
    first = min(canary or max_silent, max_silent)
    silent = plan_looks(devices, max_silent, half, placebo_per_treated, q_silent, q_gate, first)
    failed = plan_looks(devices, max_harmed, half, placebo_per_treated, q_failed, q_gate, first)
    slow = min((silent, failed), key=lambda plan: (plan.sizes[-1], -plan.rings))

    def on_slow(plan: LookPlan) -> LookPlan:
        return (
            plan
            if plan is slow
            else replace(
                plan,
                sizes=slow.sizes,
                placebo=slow.placebo,
                tests=("exact",) * slow.rings,
                thetas=(0.0,) * slow.rings,
                feasible=slow.feasible,
                reason=slow.reason,
            )
        )

    return on_slow(silent), on_slow(failed)


def severity_window(
    plans: tuple[LookPlan, LookPlan],
    silent: Sequence[RingCounts],
    failed: Sequence[RingCounts],
    ends: Sequence[int] | None = None,
) -> Count:
    """The narrower of both statistical windows. In `silent` a reverted device counts as fine, in both arms.

    A pending treated lease counts as failed in both. Shapes and `ends` as `statistical_window`.
    """
    first, second = statistical_window(plans[0], silent, ends), statistical_window(plans[1], failed, ends)
    if isinstance(first, int) and isinstance(second, int):
        return min(first, second)
    return first * (first <= second) + second * (second < first)


def severity_room(exposed: int, confirmed: int, reverted: int, max_harmed: int, max_silent: int, canary: int) -> int:
    """Leases by the certain rule under both budgets: a reverted device is surely not silent."""
    return min(
        certain_room(exposed, confirmed, max_harmed, canary),
        certain_room(exposed, confirmed + reverted, max_silent, canary),
    )


def strata_budgets(
    strata: Sequence[int],
    max_harmed: int,
    confidence: float,
    placebo_per_treated: float = 4.0,
    q: float = 0.0,
    q_gate: float = 0.05,
    most_looks: int = 40,
) -> tuple[int, ...]:
    """Split a budget over strata with a promise each, so that the slowest needs as few rings as can be.

    alpha is split evenly; the search takes the smallest number of rings whose smallest budgets add up to at most B,
    and gives what is over in proportion. Never split in proportion to size: the small strata would take for ever.

    Args:
        strata: devices of each stratum.
        max_harmed: the budget of all strata together.
        confidence: that all promises hold together.
        placebo_per_treated, q, q_gate: as `plan_looks`.
        most_looks: rings to try.

    Returns:
        max_harmed per stratum, adding up to at most the budget.

    Raises:
        Refused: if no split is feasible.

    Source: "Strata, severity, small fleets, late devices" in the documentation of the promise.
    """
    each = 1.0 - (1.0 - confidence) / len(strata)

    def least(devices: int, rings: int) -> int:
        low, high = 0, max_harmed + 1
        while high - low > 1:
            middle = (low + high) // 2
            plan = plan_looks(devices, middle, each, placebo_per_treated, q, q_gate, most_looks=rings, robust=False)
            low, high = (low, middle) if plan.feasible else (middle, high)
        return high

    def needed(rings: int) -> tuple[int, ...]:
        return tuple(least(devices, rings) for devices in strata)

    if sum(needed(most_looks)) > max_harmed:
        raise Refused(f"max_harmed = {max_harmed} cannot be split over {len(strata)} strata with a promise each")
    low, high = 0, most_looks
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if sum(needed(middle)) <= max_harmed else (middle, high)
    found = needed(high)
    spare = max_harmed - sum(found)
    return tuple(need + spare * need // sum(found) for need in found)
