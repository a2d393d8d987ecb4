"""A device that scans with a real clamd takes good databases, and goes back from those that find its own file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.test_drivers_contract import no_clamav

from .agent_device import Device, HandClock
from .agent_server import COMPONENT, World

if _lacks := no_clamav():
    pytest.skip(_lacks, allow_module_level=True)
pytestmark = pytest.mark.room("agent")


def signature(name: str, text: str) -> str:
    return f"{name}:0:*:{text.encode().hex()}\n"


def test_databases_are_rolled_out_and_taken_back(world: World, place: Path, clock: HandClock) -> None:
    (place / "sample").write_text("a harmless sample")
    (place / "own").write_text("a file of the device")
    settings = {"watch": str(place), "planted": "sample", "needs": "own"}
    device = Device(world, place / "home", clock, {COMPONENT: settings})
    good = world.release(1, {"own.ndb": signature("Planted.Sample", "harmless")}, driver="clamav", soak_s=2)
    world.publish(good)
    try:
        device.run(lambda: "r1" in device.confirmed(), begin=True)
        greedy = {"own.ndb": signature("Planted.Sample", "harmless") + signature("Too.Much", "of the device")}
        world.publish(world.release(2, greedy, driver="clamav", soak_s=2))
        device.run(device.reported("reverted"))
        note = next(report["note"] for report in world.reports if report["kind"] == "reverted")
        assert "Too.Much.UNOFFICIAL was found in own, which is the device's own" in note
        assert device.installed() == device.good() == good.sha256
        driver = device.agent.tools.drivers("clamav")
        runs = device.agent.tools.place(COMPONENT, device.machine.slots.manifest(good.sha256))
        assert all(result.healthy for result in driver.probe(runs))
        faulty = world.release(3, {"own.ndb": "no signature\n"}, driver="clamav", soak_s=2)
        world.publish(faulty)  # refused before a lease is asked for: nobody is harmed
        device.turns(5)
        assert "Malformed database" in device.status()["sentence"] and len(world.kinds()) == 2
    finally:
        device.agent.stop_components()
        device.agent.tools.server.close()
