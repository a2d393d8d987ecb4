"""Each file of a home damaged, one by one: the device recovers or stays on the known good, and says what it found."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from tidegate.agent.slots import slot_name

from . import checks, damage, trace
from .stage import Stage, Way

pytestmark = [pytest.mark.room("agent"), pytest.mark.xdist_group("crash")]
BY_HANDS = ("agent.json", "identity.json", "root.json")
"""What enrolment wrote: only it can write them again."""
FOUND = ("damaged", "journal_recovered")


@pytest.fixture(scope="module")
def installed(stage: Stage) -> tuple[Way, Path]:
    """A home with two releases behind it."""
    way, made = stage.ways["install"], stage.place / "installed"
    stage.begin(way, made)
    stage.revive(made)
    return way, made


def _damaged(stage: Stage, way: Way, base: Path, home: Path, harm: damage.Damage) -> None:
    """Damage a file, start the agent, and look: current and good name a release, and it was said what is wrong."""
    stage.begin(way, home)
    shutil.rmtree(home)
    shutil.copytree(base, home, symlinks=True)
    damage.do(harm, home, stage.ways["install"].before)
    on_trial = way.name == "guard"
    ran = trace.run_agent(home, stage.aside, within_s=2.0 if on_trial else 60.0)
    lines = [json.loads(line) for line in ran.said.splitlines() if line.startswith("{")]
    found = [line["sentence"] for line in lines if line["event"] in FOUND]
    old, new = slot_name(way.old_digest or ""), slot_name(way.candidate.sha256)
    current, good = checks.pointer(home, "current"), checks.pointer(home, "good")
    assert good == (old if on_trial else new), f"{harm}: good names {good}"
    assert current in (old, new), f"{harm}: current names {current}"
    if harm.file in BY_HANDS:
        assert ran.code == 2 and harm.file in ran.said and "Traceback" not in ran.said, f"{harm}: {ran.said}"
        assert harm.file in json.loads((home / "status.json").read_text())["ended"]
        return
    assert "Traceback" not in ran.said and "fault: " not in ran.said, f"{harm}: {ran.said[-1500:]}"
    assert ran.code == 0 or on_trial, f"{harm}: {ran.said[-1500:]}"
    if not on_trial:
        checks.whole(home, way, new)  # whatever it was, it has been put right
    checks.refuses(stage, home, stage.oldest)
    kinds = {(report["lease_id"], report["kind"]) for report in stage.world.reports}
    assert len(kinds) <= 1, f"{harm}: two outcomes"
    if harm.harm in ("emptied", "truncated"):
        assert found, f"{harm}: nothing was said of it: {ran.said[-1500:]}"
        assert set(found) <= set(json.loads((home / "status.json").read_text())["found"])
    if on_trial and f"slots/{new}/" in harm.file and not (harm.harm == "missing" and harm.file.endswith(".files.json")):
        assert current == old and found, f"{harm}: a damaged release stays on trial"


def _all(stage: Stage, base: Path) -> list[damage.Damage]:
    return damage.damages_of(base, stage.ways["install"].before)


def test_some_files_damaged(stage: Stage, installed: tuple[Way, Path], home: Path, seed: int) -> None:
    way, base = installed
    every = _all(stage, base)
    for harm in random.Random(seed).sample(every, 12):
        _damaged(stage, way, base, home, harm)


def test_an_older_journal_does_not_keep_what_is_not_confirmed(stage: Stage, home: Path) -> None:
    way = stage.ways["guard"]
    _damaged(stage, way, way.before, home, damage.Damage("components/edr-rules/journal.json", "older"))
    assert checks.pointer(home, "current") == slot_name(way.old_digest or "")
    assert stage.world.kinds() == [("r4:1:1", "reverted")] or len(stage.world.kinds()) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("on_trial", [False, True])
def test_each_file_damaged(stage: Stage, installed: tuple[Way, Path], home: Path, on_trial: bool) -> None:
    way, base = (stage.ways["guard"], stage.ways["guard"].before) if on_trial else installed
    every = _all(stage, base)
    assert len(every) >= 60
    for harm in every:
        _damaged(stage, way, base, home, harm)
