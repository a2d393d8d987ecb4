"""A confirmed release that the disk has damaged is put right, and cut off at any call it is whole one start later."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.agent.slots import slot_name

from . import checks, cuts, order, trace
from .stage import Stage, Way
from .trace import Fault

pytestmark = [pytest.mark.room("agent"), pytest.mark.xdist_group("crash")]
LOST = ("rules", "lib/more", ".files.json", ".manifest.json")
"""All of these are emptied at once, or gone."""


@pytest.fixture(scope="module")
def spoiled(stage: Stage) -> Iterator[tuple[Way, Path]]:
    """A home whose confirmed release has lost half of itself."""
    way, made = stage.ways["install"], stage.place / "spoiled"
    stage.begin(way, made)
    stage.revive(made)
    slot = made / "components/edr-rules/slots" / slot_name(way.candidate.sha256)
    for name in LOST:
        (slot / name).write_text("")
    (slot / "lib/deep/er").unlink()
    yield way, made


def _begin(stage: Stage, spoiled: tuple[Way, Path], home: Path) -> Way:
    way, made = spoiled
    stage.begin(way, home)
    shutil.rmtree(home)
    shutil.copytree(made, home, symlinks=True)
    return way


def test_it_is_put_right_and_on_disk_before_it_counts(stage: Stage, spoiled: tuple[Way, Path], home: Path) -> None:
    way = _begin(stage, spoiled, home)
    ran = trace.run_agent(home, stage.aside, record=True)
    assert ran.code == 0 and '"mended"' in ran.said, ran.said
    checks.whole(home, way, slot_name(way.candidate.sha256))
    assert order.faults(ran.calls, home) == []
    assert stage.world.announced == [], "nothing was installed: what ran was put right"


def _cuts(stage: Stage, spoiled: tuple[Way, Path], home: Path) -> list[Fault]:
    _begin(stage, spoiled, home)
    ran = trace.run_agent(home, stage.aside, record=True)
    calls = [call for call in ran.calls if call.main and call.changes(home)]
    return [Fault(call.name, call.nth, what) for call in calls for what in ("KILL", "EIO", "ENOSPC")]


def _cut(stage: Stage, spoiled: tuple[Way, Path], home: Path, fault: Fault) -> None:
    way = _begin(stage, spoiled, home)
    new = slot_name(way.candidate.sha256)
    ran = trace.run_agent(home, stage.aside, fault, within_s=60.0 if fault.what == "KILL" else cuts.FAULT_WITHIN_S)
    assert checks.pointer(home, "current") == checks.pointer(home, "good") == new, f"{fault}: {ran.said[-800:]}"
    again = trace.run_agent(home, stage.aside)
    assert again.code == 0, f"{fault}: {again.said[-1500:]}"
    checks.whole(home, way, new)
    left = [path.name for path in (home / "components/edr-rules/slots").iterdir() if path.name != new]
    assert not left, f"{fault}: left behind {left}"


def test_a_sample_of_cuts(stage: Stage, spoiled: tuple[Way, Path], home: Path, seed: int) -> None:
    for fault in random.Random(seed).sample(_cuts(stage, spoiled, home), 8):
        _cut(stage, spoiled, home, fault)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_cuts(stage: Stage, spoiled: tuple[Way, Path], home: Path) -> None:
    every = _cuts(stage, spoiled, home)
    assert len(every) > 100
    for fault in every:
        _cut(stage, spoiled, home, fault)
