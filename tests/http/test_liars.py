"""A few liars halt a rollout: the operator sees what they share, sets them aside, and goes on without them."""

from __future__ import annotations

from tests.server import Device, World

from tidegate.log.events import Labelled


def test_liars_are_seen_by_what_they_share_and_set_aside_with_one_act(world: World) -> None:
    fleet = {device.index: device for device in (world.enrol() for _ in range(32))}
    world.release(1)
    name = world.rollout(max_harmed=12, placebo_per_treated=1.0)
    rollout = world.controller.state.rollouts[name]
    ring = [rollout.spec.roster[p] for p in range(32) if rollout.rings.treated[p] == 1]
    leases = {index: fleet[index].announce(name).json()["lease_id"] for index in ring}
    liars = ring[:3]
    world.ask(
        lambda _, now_ms: (
            [Labelled(at_ms=now_ms, index=index, labels={"site": "lab"}, who="ada", why="") for index in liars],
            None,
        )
    )
    for index in ring[3:]:
        fleet[index].report(leases[index])
    for index in liars:
        fleet[index].report(leases[index], "reverted", note="so they say")
    world.quiet()
    found = world.operator(f"/api/v1/rollouts/{name}", method="GET").json()
    assert found["phase"] == "halted"
    (cluster,) = (each for each in found["clusters"] if each["group"] == "site=lab")
    assert (cluster["failed"], cluster["of_failed"], cluster["exposed"]) == (3, 3, 3)
    shown = world.operator(f"/api/v1/devices/{liars[0]}", method="GET").json()
    assert shown["took_back"] == {"rollout": name, "note": "so they say"}
    done = world.operator("/api/v1/devices/quarantine", group="site=lab", why="they lie").json()
    assert len(done["quarantined"]) == 3
    found = world.operator(f"/api/v1/rollouts/{name}", method="GET").json()
    assert found["set_aside"] == 3
    assert found["clusters"] == []
    again = world.rollout(max_harmed=12, placebo_per_treated=1.0)
    _run(world, again, fleet)
    found = world.operator(f"/api/v1/rollouts/{again}", method="GET").json()
    assert (found["phase"], found["confirmed"], found["devices"]) == ("closed", 20, 20)
    assert found["budget"]["max_harmed"] == 9, "whom the liars were counts as harmed until it is known better"


def _run(world: World, name: str, fleet: dict[int, Device]) -> None:
    rollout = world.controller.state.rollouts[name]
    for _ in range(60):
        for position, index in enumerate(rollout.spec.roster):
            if rollout.evidence.treated_lease[position]:
                continue
            answer = fleet[index].announce(name)
            if answer.status_code == 200 and "lease_id" in answer.json():
                fleet[index].report(answer.json()["lease_id"])
        world.pass_s(2)
        if world.controller.state.rollouts[name].ended_ms:
            return
