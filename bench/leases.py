"""Lease decisions a second on one core: announcements decided and folded, with a thousand groups under caps."""

from __future__ import annotations

import time

from bench.rows import Row
from tidegate.control.devices import Announcement, Claim, Halted, announce
from tidegate.control.plans import plan_of
from tidegate.control.state import ServerState
from tidegate.core.admission import NotYet
from tidegate.core.assign import device_key
from tidegate.core.caps import Cap
from tidegate.core.course import next_due
from tidegate.core.model import Budget, Candidate
from tidegate.core.rollout import RolloutSpec
from tidegate.core.roster import Roster
from tidegate.core.verdict import Verdict
from tidegate.core.wire import plain
from tidegate.log.events import Act, Enrolled, PlanPublished, VerdictTaken

GROUPS, AT_MOST = 1000, 50
NOW_MS = 1_800_000_000_000


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Measure with 100,000 devices, or (`full`) 1 million; half of them find their group's cap used up."""
    del write
    devices = 1_000_000 if full else 100_000
    state, hashed_s = _fleet(devices)
    said = Announcement("r", 1, None, 1, 1)
    claims = [Claim(index, state.devices.device_id(index), 1) for index in range(min(devices, 100_000))]
    granted = refused = 0
    soonest_s = float("inf")
    started = time.process_time()
    for claim in claims:
        try:
            events, answer = announce(state, NOW_MS, claim, said)
        except Halted:  # pragma: no cover - nothing halts here
            raise AssertionError("nothing halts here") from None
        if isinstance(answer, NotYet):
            refused += 1
            soonest_s = min(soonest_s, answer.retry_after_s)
        else:
            granted += 1
            for event in events:
                state.apply(event)
    took_s = time.process_time() - started
    assert granted == min(len(claims), GROUPS * AT_MOST), granted
    return [
        Row(f"lease decisions, {devices:,} devices, {GROUPS:,} groups capped", len(claims) / took_s, "decisions/CPU s",
            "20,000/s", 20_000),
        Row("the same", len(claims) / took_s, "decisions/CPU s", "hashing the devices' ids", len(claims) / hashed_s),
        Row("refused for their cap: the soonest to ask again", soonest_s, "s", "observation time, 600 s", 600),
    ]  # fmt: skip


def _fleet(devices: int) -> tuple[ServerState, float]:
    """A rollout whose first ring holds everyone, under one cap; and what hashing as many ids costs."""
    state = ServerState()
    token = {"token_id": "t", "hash": "", "labels": {}, "uses": devices, "expires_ms": 0}
    state.apply(Act(at_ms=0, what="token_created", who="bench", why="", body=token))
    for index in range(devices):
        state.apply(
            Enrolled(
                at_ms=0,
                index=index,
                device_id=f"{index:032x}",
                public_key="",
                token_id="t",
                labels={"site": f"s{index % GROUPS}"},
                facts={},
            )
        )
    started = time.process_time()
    for index in range(min(devices, 100_000)):
        device_key(f"{index:032x}")
    hashed_s = time.process_time() - started
    spec = RolloutSpec(
        rollout="r",
        component="edr-rules",
        candidate=Candidate("releases/edr-rules/1.json", "a" * 64, 100, 1),
        replaces=("any", "absent"),
        order_salt="0123456789abcdef" * 2,
        arm_secret="5a" * 32,
        budget=Budget(max_harmed=devices, late_budget_share=0.0),
        planned_rings=1,
        roster=Roster(range(devices)),
        observe_s=600,
        soak_s=60,
        lease_ttl_s=600,
        caps=(Cap("site", AT_MOST),),
    )
    state.apply(
        Act(at_ms=NOW_MS, what="rollout_started", who="bench", why="", body={"rollout": "r", "spec": plain(spec)})
    )
    rollout = state.rollouts["r"]
    while (due := next_due(rollout, NOW_MS)) is not None:
        assert isinstance(due, Verdict), "no ring closes yet"
        state.apply(VerdictTaken(at_ms=NOW_MS, rollout="r", verdict=due))
    plan = {**plain(plan_of(rollout, NOW_MS // 1000)), "expires": 10**12}
    state.apply(PlanPublished(at_ms=NOW_MS, component="edr-rules", rollout="r", version=1, plan=plan))
    return state, hashed_s
