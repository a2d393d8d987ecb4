"""The agent stops in every state, right after its journal was written and right before the next time: it converges."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tidegate.agent.journal import Journal
from tidegate.agent.machine import CALM as CALM_STATES
from tidegate.core.device import RESUME, State
from tidegate.core.model import PlanState

from .agent_device import CALM, HEALTHY, Device, HandClock
from .agent_server import World


class PowerCut(BaseException):
    """The process ends here; only files are left."""


@pytest.fixture
def device(world: World, place: Path, clock: HandClock) -> Iterator[Device]:
    """With release 1 as its last known good."""
    made = Device(world, place / "home", clock)
    world.publish(world.release(1, {"rules": "good 1"}, probes=(HEALTHY,), soak_s=1))
    made.run(lambda: "r1" in made.confirmed(), begin=True)
    yield made
    made.agent.tools.server.close()


def cut(monkeypatch: pytest.MonkeyPatch, state: str, when: str) -> None:
    """Cut the power once: as soon as the journal says `state`, or when that state's effects are done but not said."""
    write = Journal.write
    armed = [True]

    def writing(journal: Journal, **changes: Any) -> Any:
        leaving = journal.record.state == state and changes.get("state", state) != state
        if when == "before the next" and armed and leaving:
            armed.clear()
            raise PowerCut
        record = write(journal, **changes)
        if when == "after" and armed and changes.get("state") == state:
            armed.clear()
            raise PowerCut
        return record

    monkeypatch.setattr(Journal, "write", writing)


WAYS = [("good", s) for s in ("FETCHING", "READY", "ANNOUNCED", "APPLYING", "PROBING", "CONFIRMED")]
WAYS += [("sick", s) for s in ("APPLYING", "PROBING", "REVERTING", "REVERTED")]
WAYS += [("placebo", s) for s in ("SHAMMING", "WATCHING", "WATCHED")]
WAYS += [("halted", s) for s in ("REVERTING", "REVERTED")]


def test_every_state_is_cut() -> None:
    assert {state for _, state in WAYS} | {"IDLE"} == {state.name for state in RESUME}


@pytest.mark.parametrize(("when", "reboot"), [("after", True), ("before the next", False)])
@pytest.mark.parametrize(("way", "state"), WAYS)
def test_power_cut(
    world: World, device: Device, monkeypatch: pytest.MonkeyPatch, way: str, state: str, when: str, reboot: bool
) -> None:
    installed = device.installed()
    files = {"rules": "r2", "poison": "p"} if way == "sick" else {"rules": "r2"}
    candidate = world.release(2, files, probes=(HEALTHY, CALM), soak_s=2 if way != "halted" else 500)
    world.arm = "placebo" if way == "placebo" else "treated"
    world.publish(candidate)
    if way == "halted":
        device.run(lambda: device.state() is State.PROBING)
        world.publish(candidate, state=PlanState.HALTED)
    cut(monkeypatch, state, when)
    with pytest.raises(PowerCut):
        device.run(lambda: False, turns=30)
    if reboot:
        device.clock.boot_id, device.clock.passed_s, device.clock.began = "boot-2", 5.0, device.clock.wall()
    kind = "confirmed" if way in ("good", "placebo") else "reverted"
    if way == "placebo":  # its next turn is not part of this test
        later = 200, {"retry_after_s": 5000, "reason": "window"}
        world.on_announce = lambda message: later if device.reported("confirmed", 2)() else None
    device.restart().begin()
    device.run(lambda: [lease for lease, k in world.kinds() if lease.startswith("r2") and k == kind] != [])
    device.run(lambda: device.state() in CALM_STATES, turns=5)

    mine = [(lease, k) for lease, k in world.kinds() if lease.startswith("r2")]
    assert len(mine) == 1, "one lease, one outcome"
    assert len({report["seq"] for report in world.reports if report["lease_id"] == mine[0][0]}) == 1
    if way == "good":
        assert device.installed() == device.good() == candidate.sha256
    else:
        assert device.installed() == device.good() == installed
    assert device.machine.slots.condemned(candidate.sha256) == (kind == "reverted" and way != "halted")
    assert device.machine.slots.guard_state().get("armed") is not True
    assert world.seqs == sorted(set(world.seqs)), "no number of a credential is used twice"


@pytest.mark.parametrize("damage", [b"", b"{", b'{"v": 1, "record": {"state": "IDLE"}, "sha256": "x"}', b"\xff" * 300])
@pytest.mark.parametrize("state", [State.PROBING, State.READY])
def test_damaged_journal_goes_back_to_what_the_slots_say(
    world: World, device: Device, damage: bytes, state: State
) -> None:
    installed = device.installed()
    candidate = world.release(2, {"rules": "r2"}, soak_s=500)
    world.publish(candidate, spread_s=10_000 if state is State.READY else 0)
    device.run(lambda: device.state() is state)
    device.machine.journal.path.write_bytes(damage)
    device.restart().begin()
    assert "damaged" in device.log.getvalue() and (device.directory / "journal.damaged").read_bytes() == damage
    assert device.good() == installed
    if state is State.PROBING:  # it ran unconfirmed: it goes back, and says so under the lease that the guard kept
        device.run(lambda: ("r2:1:1", "reverted") in world.kinds(), turns=5)
        assert device.installed() == installed and device.machine.slots.condemned(candidate.sha256)
    else:
        assert device.installed() == installed
        device.run(lambda: device.state() is State.READY)


def test_damaged_journal_and_guard_never_lose_the_last_known_good(world: World, device: Device) -> None:
    installed = device.installed()
    world.publish(world.release(2, {"rules": "r2"}, soak_s=500))
    device.run(lambda: device.state() is State.PROBING)
    device.machine.journal.path.write_bytes(b"")
    (device.directory / "guard.json").write_bytes(b"")
    world.on_announce = lambda message: (409, {"detail": "over"})
    device.restart().begin()
    device.run(lambda: device.installed() == installed, turns=3)
    assert device.good() == installed and device.files() == {"rules": "good 1"}


def test_guard_took_the_release_back_while_the_agent_was_away(world: World, device: Device) -> None:
    installed = device.installed()
    candidate = world.release(2, {"rules": "r2"}, soak_s=500)
    world.publish(candidate)
    device.run(lambda: device.state() is State.PROBING)
    place = device.agent.tools.place("edr-rules", None)
    seen = [
        subprocess.run([*place.launcher, "cat", f"{place.current}/rules"], capture_output=True, text=True).stdout
        for _ in range(4)
    ]
    assert seen == ["r2", "r2", "good 1", "good 1"], "two starts are allowed, the third heals"
    device.restart().begin()
    device.run(device.reported("reverted"))
    assert "the guard took" in world.reports[-1]["note"]
    assert device.installed() == device.good() == installed
    assert not (device.directory / "note.json").exists()
    device.run(lambda: "never tried again" in device.status()["sentence"], turns=5)
