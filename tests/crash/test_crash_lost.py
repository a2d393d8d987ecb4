"""Power is lost on a real file system: what had not been synced is gone, and the device is whole all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import cuts, lost
from .stage import Stage

pytestmark = [pytest.mark.room("agent"), pytest.mark.xdist_group("crash")]


@pytest.fixture(autouse=True, scope="module")
def able() -> None:
    if lacks := lost.missing():
        pytest.skip(lacks)


def _lose(stage: Stage, home: Path, name: str, count: int, seed: int, drop: str = "") -> list[str]:
    way = stage.ways[name]
    disk = lost.Disk(stage.place / f"disk-{name}-{count}-{len(drop)}-{seed}", way)
    deaths = cuts.kills(cuts.cuts_of(stage, way, home))
    usable = [cut for cut in deaths if not drop or cut.fault.name != "openat"]  # modules are read by openat, too
    failures: list[str] = []
    for fault in [*(cut.fault for cut in cuts.sample(usable, count, seed)), None]:
        try:
            lost.cut(stage, disk, fault, drop=drop)
        except AssertionError as error:
            failures.append(str(error))
    return failures


@pytest.mark.parametrize("name", ["install", "revert"])
def test_lost_writes_at_a_few_calls(stage: Stage, home: Path, name: str, seed: int) -> None:
    assert _lose(stage, home, name, 2, seed) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name", ["install", "revert", "placebo", "first", "first-revert", "halted", "guard", "taken-back"]
)
def test_lost_writes(stage: Stage, home: Path, name: str, seed: int) -> None:
    assert _lose(stage, home, name, 40, seed) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("site", ["every file", "sync_file<_extract", "sync_file<write_durably<write"])
def test_a_missing_fsync_loses_data(stage: Stage, home: Path, site: str, seed: int) -> None:
    """The test of the test: without the fsync the same cuts fail."""
    # whoever calls sync() on this machine meanwhile saves what was to be lost: then once more
    assert any(_lose(stage, home, "install", 15, seed + again, drop=site) for again in range(3))
