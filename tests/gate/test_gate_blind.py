"""What the gate cannot see, the rollout must: a defect of some devices passes it, and stays in its budget."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.gate.cases import ACTIVATE, SETTINGS, Case, trial_of
from tests.server import COMPONENT, World

from tidegate.core.errors import TidegateError
from tidegate.drivers.port import Place, load_driver
from tidegate.gate.pipeline import run_checks
from tidegate.gate.port import load_checks
from tidegate.gate.trial import Edition

pytestmark = [
    pytest.mark.room("gate"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]
MAX_HARMED = 3
DEVICES = 16
ON_ARM = f'if [ "$2" = arm ]; then echo "illegal instruction" >&2; exit 132; fi\n{ACTIVATE}'
"""Fine on the gate's machine, and on none whose hardware is another."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world")
    yield made
    made.close()


def activates(edition: Edition, device_place: Path, hardware: str) -> bool:
    """Let a device's own driver activate the release, with what this device is."""
    work = device_place / "work"
    work.mkdir(parents=True)
    (device_place / "current").symlink_to(edition.content)
    place = Place(COMPONENT, device_place / "current", work, edition.manifest, {"hardware": hardware})
    try:
        load_driver("command").activate(place)
    except TidegateError:
        return False
    return True


def test_a_defect_of_some_devices_passes_the_gate_and_is_contained(world: World, tmp_path: Path) -> None:
    case = Case(activate=ON_ARM, words=("{hardware}",), settings=replace(SETTINGS, driver={"hardware": "x86"}))
    trial = trial_of(case, tmp_path / "gate")
    results = run_checks(trial, load_checks())
    assert {result.check: result.result for result in results} == {check.name: "PASSED" for check in load_checks()}

    devices = [(world.enrol(), "arm" if number % 2 else "x86") for number in range(DEVICES)]
    world.release(1)
    name = world.rollout(max_harmed=MAX_HARMED)
    harmed = 0
    shown: dict[str, Any] = {"phase": "open"}
    for turn in range(40):
        for number, (device, hardware) in enumerate(devices):
            reply = device.announce(name)
            if reply.status_code != 200 or "arm" not in reply.json():
                continue
            lease = reply.json()
            well = lease["arm"] == "placebo" or activates(trial.candidate, tmp_path / f"{number}-{turn}", hardware)
            harmed += not well
            device.report(lease["lease_id"], "confirmed" if well else "reverted")
        world.quiet()
        shown = world.operator(f"/api/v1/rollouts/{name}", method="GET").json()
        if shown["phase"] in ("halted", "closed"):
            break
    assert shown["phase"] == "halted", shown["sentence"]
    assert 1 <= harmed <= MAX_HARMED and shown["reverted"] == harmed
    assert shown["never_exposed"] >= DEVICES // 4
