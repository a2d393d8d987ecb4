"""The agent against a real server over HTTP: good, placebo, sick and halted releases, leases and reports."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.core.device import State
from tidegate.core.model import PlanState
from tidegate.core.wire import encode

from .agent_device import CALM, HEALTHY, Device
from .agent_server import COMPONENT, World


@pytest.mark.parametrize("driver", ["files", "command"])
def test_good_update_is_confirmed_and_becomes_the_last_known_good(world: World, device: Device, driver: str) -> None:
    device.install()
    told = device.directory / "work" / "told"
    candidate = world.release(
        2, {"rules": "good 2", "sub/more": "x"}, driver=driver, probes=(HEALTHY,),
        activate=("cp", "{current}/rules", str(told)), soak_s=9,
    )  # fmt: skip
    world.publish(candidate)
    began = device.clock.boot_s()
    device.run(lambda: device.reported("confirmed", 2)() and device.state() is State.IDLE)
    assert device.installed() == device.good() == candidate.sha256
    assert told.read_text() == "good 2"
    assert device.clock.boot_s() - began >= 9
    report = world.reports[-1]
    assert report["kind"] == "confirmed" and report["probes"] and all(p["healthy"] for p in report["probes"])
    assert world.announced[-1]["installed"] and world.announced[-1]["plan_version"] == world.publisher.version
    assert device.status()["installed"] == candidate.sha256
    device.turns(2)
    assert "up to date" in device.status()["sentence"]
    assert [p.name for p in (device.directory / "slots").iterdir()] == [candidate.sha256[:16]]
    assert world.seqs == sorted(set(world.seqs))


def test_placebo_changes_nothing_and_reports_the_same_soak(world: World, device: Device) -> None:
    installed = device.install()
    world.arm = "placebo"
    world.publish(world.release(2, {"rules": "good 2"}, probes=(HEALTHY,), soak_s=9))
    began = device.clock.boot_s()
    device.run(device.reported("confirmed", 2))
    assert device.clock.boot_s() - began >= 9
    assert device.installed() == device.good() == installed
    assert device.files() == {"rules": "good 1"}
    # its turn for the treatment may come: it asks again, as a new attempt, and has the payload already
    world.leases.clear()
    world.arm = "treated"
    device.run(device.reported("confirmed", 3))
    assert device.files() == {"rules": "good 2"}
    assert world.announced[-1]["attempt"] == 2
    assert sum(path.startswith("payloads/") for path in world.asked) == 2


@pytest.mark.parametrize("why", [(503, {"detail": "busy"}), (401, {"detail": "revoked"})])
def test_how_a_lease_ended_arrives_before_the_next_one_is_asked_for(
    world: World, device: Device, why: tuple[int, dict[str, str]]
) -> None:
    device.install()
    arrived: list[int] = []
    world.arm = "placebo"
    world.publish(world.release(2, {"rules": "good 2"}))
    world.on_report = lambda report: why
    device.run(lambda: bool(device.agent.tools.outbox.waiting()))
    world.leases.clear()  # its turn for the treatment comes, before it has told how the last lease ended
    world.arm, before = "treated", len(world.announced)
    world.on_announce = lambda message: arrived.append(len({r["seq"] for r in world.reports}))
    for _ in range(6):
        device.clock.sleep(40)
        world.publisher.publish({COMPONENT: encode(world.plans[COMPONENT])}, world.now())
        device.turns(3)
    assert len(world.announced) == before
    world.on_report = lambda report: None
    device.run(device.reported("confirmed", 3))
    assert arrived[0] == 2, "the installation's report, and the placebo's"
    assert device.files() == {"rules": "good 2"}


def test_sick_placebo_says_so(world: World, device: Device) -> None:
    device.install()
    world.arm = "placebo"
    world.publish(world.release(2, {"rules": "good 2"}, soak_s=9))
    device.run(lambda: device.state() is State.WATCHING)
    (device.directory / "current" / "rules").unlink()  # the background: what runs breaks by itself
    device.run(device.reported("reverted"))
    assert "probe-0" in world.reports[-1]["note"]
    assert not (device.directory / "condemned").exists()


def test_sick_update_is_taken_back_condemned_and_never_tried_again(world: World, device: Device) -> None:
    installed = device.install()
    bad = world.release(2, {"rules": "r", "poison": "p"}, probes=(HEALTHY, CALM))
    world.publish(bad)
    device.run(lambda: device.reported("reverted")() and device.state() is State.IDLE)
    assert device.installed() == device.good() == installed
    assert device.files() == {"rules": "good 1"}
    assert "probe-1 failed" in world.reports[-1]["note"]
    announcements = len(world.announced)
    world.publish(bad, rollout="another")
    device.turns(5)
    device.restart().begin()
    device.turns(5)
    assert len(world.announced) == announcements
    assert device.installed() == installed
    assert "never tried again" in device.status()["sentence"]
    device.install(3)


def test_sick_first_install_leaves_the_component_absent(world: World, device: Device) -> None:
    world.publish(world.release(1, {"poison": "p"}, probes=(CALM,)))
    device.run(lambda: device.reported("reverted")() and device.state() is State.IDLE, begin=True)
    assert device.installed() is None and device.good() is None
    assert not (device.directory / "current").is_symlink()


def test_activation_that_fails_is_taken_back(world: World, device: Device) -> None:
    installed = device.install()
    world.publish(world.release(2, {"rules": "x"}, driver="command", activate=("false",)))
    device.run(lambda: device.reported("reverted")() and device.state() is State.IDLE)
    assert device.installed() == installed
    assert "exit code 1" in world.reports[-1]["note"]


def test_halt_during_the_soak_takes_the_release_back_at_once(world: World, device: Device) -> None:
    installed = device.install()
    candidate = world.release(2, {"rules": "good 2"}, soak_s=3000)
    world.publish(candidate)
    device.run(lambda: device.state() is State.PROBING)
    assert device.installed() == candidate.sha256
    world.publish(candidate, state=PlanState.HALTED)
    halted = device.clock.boot_s()
    device.run(device.reported("reverted"))
    assert device.clock.boot_s() - halted <= 5
    assert device.installed() == installed
    assert "halted" in world.reports[-1]["note"]


def test_halt_between_lease_and_apply_changes_nothing(world: World, device: Device) -> None:
    installed = device.install()
    candidate = world.release(2, {"rules": "good 2"})
    world.publish(candidate)

    def halt_then_lease(message: dict[str, Any]) -> None:
        world.publish(candidate, state=PlanState.HALTED)

    world.on_announce = halt_then_lease
    device.run(lambda: device.reported("reverted")() and device.state() is State.IDLE)
    assert device.installed() == device.good() == installed
    assert "before anything changed" in world.reports[-1]["note"]
    assert "PROBING" not in device.log.getvalue().split("r2", 1)[1]


@pytest.mark.parametrize("state", [PlanState.PAUSED, PlanState.HOLD, PlanState.CLOSED, PlanState.HALTED])
def test_a_plan_that_is_not_open_starts_nothing(world: World, device: Device, state: PlanState) -> None:
    installed = device.install()
    world.publish(world.release(2, {"rules": "good 2"}), state=state)
    device.turns(6)
    assert device.installed() == installed and len(world.announced) == 1
    assert "rollout r2" in device.status()["sentence"]


@pytest.mark.parametrize("state", [PlanState.PAUSED, PlanState.HOLD, PlanState.CLOSED])
def test_a_device_in_its_soak_goes_on_when_the_plan_stops(world: World, device: Device, state: PlanState) -> None:
    candidate = world.release(1, {"rules": "good 1"}, soak_s=100)
    world.publish(candidate)
    device.run(lambda: device.state() is State.PROBING, begin=True)
    world.publish(candidate, state=state)
    device.run(device.reported("confirmed"))
    assert device.good() == candidate.sha256


def test_a_device_out_of_range_waits(world: World, device: Device) -> None:
    world.publish(world.release(1, {"rules": "x"}), announce_rank="0" * 16)
    device.agent.begin()
    device.turns(5)
    assert world.announced == [] and "turn has not come" in device.status()["sentence"]
    assert not any(path.startswith("payloads/") for path in world.asked)


def test_not_yet_is_asked_again_when_the_server_said(world: World, device: Device) -> None:
    candidate = world.release(1, {"rules": "good 1"})
    world.publish(candidate)
    world.on_announce = lambda message: (200, {"retry_after_s": 40, "reason": "cap"})
    device.run(lambda: len(world.announced) == 1, begin=True)
    asked = device.clock.boot_s()
    assert "cap" in device.status()["sentence"]
    device.run(lambda: len(world.announced) == 2)
    assert 39 <= device.clock.boot_s() - asked <= 60
    assert device.installed() is None
    world.on_announce = lambda message: None
    device.run(device.reported("confirmed"))


def test_a_rollout_that_has_nothing_for_the_device_is_asked_once(world: World, device: Device) -> None:
    world.publish(world.release(1, {"rules": "x"}))
    world.on_announce = lambda message: (409, {"title": "Halted", "detail": "not in the roster"})
    device.agent.begin()
    device.turns(8)
    device.restart().begin()
    world.publisher.publish({COMPONENT: encode(world.plans[COMPONENT])}, world.now())
    device.turns(4)
    assert len(world.announced) == 1
    assert "not in the roster" in device.status()["sentence"]


def test_a_lost_lease_answer_is_asked_for_again(world: World, device: Device) -> None:
    world.publish(world.release(1, {"rules": "good 1"}))
    world.lose_answers = 3
    device.run(device.reported("confirmed"), begin=True)
    assert len({lease for lease, _ in world.kinds()}) == 1


def test_a_report_whose_answer_was_lost_is_sent_again_after_a_restart(world: World, device: Device) -> None:
    world.publish(world.release(1, {"rules": "good 1"}))
    device.run(lambda: device.state() is State.PROBING, begin=True)
    world.lose_answers = 2
    device.run(device.reported("confirmed"))
    assert len(device.agent.tools.outbox.waiting()) == 1, "without a 2xx it is kept"
    device.restart().begin()
    device.run(lambda: not device.agent.tools.outbox.waiting())
    assert len(world.reports) >= 2 and len(world.kinds()) == 1
    assert len({report["seq"] for report in world.reports}) == 1


def test_one_poisoned_report_does_not_hold_up_the_others(world: World, device: Device) -> None:
    world.on_report = lambda report: (400, {"detail": "no such lease"}) if report["lease_id"] == "gone" else None
    outbox = device.agent.tools.outbox
    for seq, lease in ((1, "gone"), (2, "l2"), (3, "l3")):
        outbox.put({"lease_id": lease, "kind": "confirmed", "seq": seq, "boot_s": 1, "probes": [], "note": ""})
    (outbox.directory / "00000000000000000004.json").write_text("{torn")
    device.agent.turn()
    assert [report["lease_id"] for report in world.reports] == ["l2", "l3"]
    assert outbox.waiting() == []
    assert len(list((outbox.directory / "refused").iterdir())) == 2
    assert "no such lease" in device.log.getvalue()


def test_reports_wait_while_the_server_refuses_the_credential(world: World, device: Device) -> None:
    outbox = device.agent.tools.outbox
    outbox.put({"lease_id": "l1", "kind": "confirmed", "seq": 1, "boot_s": 1, "probes": [], "note": ""})
    world.on_report = lambda report: (401, {"detail": "revoked"})
    device.agent.turn()
    assert len(outbox.waiting()) == 1 and "revoked" in device.log.getvalue()


@pytest.mark.parametrize("arm", ["treated", "placebo"])
def test_after_restart_starts_what_runs_anew_and_probes_once_more(world: World, device: Device, arm: str) -> None:
    device.install()
    world.arm = arm
    starts = device.directory / "work" / "starts"
    line = ("sh", "-c", f"echo start >> {starts}")
    candidate = world.release(
        2, {"rules": "good 2"}, driver="command", probes=(HEALTHY,), activate=line, soak_s=3, after_restart=True
    )
    world.publish(candidate)
    device.run(device.reported("confirmed", 2))
    if arm == "treated":
        assert starts.read_text() == "start\n" * 2, "once to activate, once after the soak"
        assert device.installed() == candidate.sha256


def test_a_release_that_cannot_start_again_after_its_soak_is_taken_back(world: World, device: Device) -> None:
    installed = device.install()
    once = device.directory / "work" / "once"
    line = ("sh", "-c", f"test ! -e {once} && touch {once}")
    sick = world.release(2, {"rules": "r"}, driver="command", probes=(HEALTHY,), activate=line, after_restart=True)
    world.publish(sick)
    device.run(device.reported("reverted", 1))
    assert device.installed() == installed
    assert "after its soak" in world.reports[-1]["note"]


def test_a_release_whose_rollout_ended_is_taken_back_but_not_condemned(world: World, device: Device) -> None:
    installed = device.install()
    candidate = world.release(2, {"rules": "good 2"}, probes=(HEALTHY,), soak_s=500)
    world.publish(candidate)
    device.run(lambda: device.state() is State.PROBING)
    world.publish(candidate, state=PlanState.HALTED)
    device.run(device.reported("reverted", 1))
    assert device.installed() == installed
    assert not device.machine.slots.condemned(candidate.sha256), "an aborted release may be good"
    world.publish(candidate, rollout="r3")
    device.run(lambda: device.state() is State.PROBING)
