"""The plan that devices should read now, made from a rollout's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tidegate.control.state import ServerState
from tidegate.core.assign import arm_commit, rank_text, ring_arm_salt
from tidegate.core.model import Plan, PlanState
from tidegate.core.rollout import Rollout
from tidegate.core.wire import plain

PLAN_LIFETIME_S = 900
RENEW_S = 300
"""A plan that has less than this left is signed anew, so that a busy moment never lets it lapse."""


class PlanPublisher(Protocol):
    """What the controller needs of the repository: sign plans and put them where devices read."""

    def publish(self, plans: Mapping[str, bytes], now: int) -> int: ...

    def refresh(self, now: int) -> int | None: ...

    def catch_up(self) -> None: ...

    @property
    def next_version(self) -> int: ...


def plan_of(rollout: Rollout, now_s: int) -> Plan:
    """Make the plan of a rollout, issued at `now_s` (Unix seconds)."""
    spec, ring = rollout.spec, rollout.ring_open
    announce = rollout.rings.drawn[ring - 1].announce_rank if ring else 0
    late_open = bool(rollout.overdue)
    begun = ring > 0 or bool(spec.scouts)
    return Plan(
        rollout=spec.rollout,
        component=spec.component,
        ring=ring,
        state=rollout.phase if begun else PlanState.HOLD,
        candidate=spec.candidate,
        replaces=spec.replaces,
        announce_rank=rank_text(announce),
        late_open=late_open,
        arm_commit=arm_commit(ring_arm_salt(bytes.fromhex(spec.arm_secret), spec.rollout, ring)),
        observe_s=spec.observe_s,
        lease_ttl_s=spec.lease_ttl_s,
        spread_s=rollout.spread_s(ring),
        issued=now_s,
        expires=now_s + PLAN_LIFETIME_S,
        scouts=tuple(rank_text(rollout.rings.rank_of(scout)) for scout in spec.scouts),
    )


def says_the_same(published: dict[str, Any] | None, plan: Plan) -> bool:
    """Say whether a published plan tells devices the same, whenever it was issued."""
    if published is None:
        return False
    fresh = plain(plan)
    return all(published.get(name) == value for name, value in fresh.items() if name not in ("issued", "expires"))


def plans_due(state: ServerState, now_s: int) -> tuple[dict[str, Plan], bool]:
    """Make the plans that should stand now, and say whether those that stand will not do."""
    plans: dict[str, Plan] = {}
    stale = False
    for component in dict.fromkeys(rollout.spec.component for rollout in state.rollouts.values()):
        rollout = state.newest_rollout(component)
        if rollout is None:
            continue
        plan = plans[component] = plan_of(rollout, now_s)
        published = state.published.get(component)
        if published is None or not says_the_same(published.plan, plan) or published.plan["expires"] - now_s <= RENEW_S:
            stale = True
    return plans, stale
