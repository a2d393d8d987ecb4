"""A rollout behind a signed speed limit, on a running server: no ring before its time, and status says what for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.server import AT_ONCE, Device, World

from tidegate.core.assign import SHARE_ONE
from tidegate.core.model import PlanState
from tidegate.core.speed import speed_permits
from tidegate.log.events import Act

FIFTH, THREE_FIFTHS = SHARE_ONE // 5, 3 * SHARE_ONE // 5
Fleet = dict[int, Device]
LIMIT = replace(AT_ONCE, steps=((0, FIFTH), (90, THREE_FIFTHS), (200, SHARE_ONE)), clock_slack_s=120)


def begin(world: World, speed: Any, devices: int = 5, **changes: Any) -> tuple[str, Fleet]:
    fleet = {device.index: device for device in (world.enrol() for _ in range(devices))}
    draft = world.draft(1)
    assert world.submit(draft, world.sign(draft, speed)).status_code == 201
    return world.rollout(**changes), fleet


def view(world: World, name: str) -> dict[str, Any]:
    found: dict[str, Any] = world.operator(f"/api/v1/rollouts/{name}", method="GET").json()
    return found


def work(world: World, name: str, fleet: Fleet) -> None:
    """All devices that their own limit and the plan let begin ask, apply and confirm."""
    rollout = world.controller.state.rollouts[name]
    assert rollout.speed is not None
    for position, index in enumerate(rollout.spec.roster):
        rank = rollout.rings.rank_of(position)
        reached = rollout.ring_open and rank <= rollout.rings.drawn[-1].announce_rank
        permitted = speed_permits(rollout.speed, rank, int(world.clock()), 0).permitted
        if reached and permitted and not rollout.evidence.treated_lease[position]:
            device = fleet[index]
            answer = device.announce(name)
            if answer.status_code == 200 and "lease_id" in answer.json():
                device.report(answer.json()["lease_id"])
    world.quiet()


def test_five_devices_and_a_slack_longer_than_the_observation_time(world: World) -> None:
    name, fleet = begin(world, LIMIT)
    rollout = world.controller.state.rollouts[name]
    found = view(world, name)
    assert found["ring"] == 0
    assert found["phase"] == "hold"
    assert "ring 1 waits: the speed limit allows" in found["sentence"]
    until_s = found["speed"]["waits"]["until_s"]
    assert until_s > world.clock()
    line = f'tidegate_rollout_limit_opens_timestamp_seconds{{component="edr-rules",rollout="{name}"}}'
    figures = world.operators.get("/metrics").text
    assert float(figures.partition(line)[2].split()[0]) == until_s
    for _ in range(150):
        world.pass_s(3)
        work(world, name, fleet)
        assert not rollout.overdue, "nobody is late who was told to wait"
        if rollout.phase is PlanState.CLOSED:
            break
    assert rollout.phase is PlanState.CLOSED
    assert view(world, name)["confirmed"] == 5


def test_the_ceiling_is_waited_at_until_a_promotion_lifts_it(world: World) -> None:
    name, fleet = begin(world, replace(AT_ONCE, ceiling_2p32=SHARE_ONE // 2), 12)
    rollout = world.controller.state.rollouts[name]
    for _ in range(60):
        work(world, name, fleet)
        world.pass_s(3)
    found = view(world, name)
    assert 0 < found["confirmed"] < 12
    assert found["phase"] == "hold"
    waits = found["speed"]["waits"]
    assert waits["until_s"] is None
    assert SHARE_ONE // 2 < waits["promote_2p32"] <= SHARE_ONE
    assert f"a promotion to {round(100 * waits['promote_2p32'] / SHARE_ONE)} %" in found["sentence"]
    assert not rollout.overdue
    digest, component = rollout.spec.candidate.sha256, rollout.spec.component
    body = {"component": component, "digest": digest, "seq": 1, "ceiling_2p32": SHARE_ONE}
    world.ask(lambda _, now_ms: ([Act(at_ms=now_ms, what="release_promoted", who="ada", why="", body=body)], None))
    for _ in range(60):
        work(world, name, fleet)
        world.pass_s(3)
    assert rollout.phase is PlanState.CLOSED
    assert not rollout.overdue
