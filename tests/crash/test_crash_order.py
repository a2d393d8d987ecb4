"""What the agent publishes is on disk first, in the order of its calls; and each fsync that is left out is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import order, trace
from .stage import Stage

pytestmark = [pytest.mark.room("agent"), pytest.mark.xdist_group("crash")]

NOT_OF_ONE_RUN = {"sync_dir<__init__"}
"""They make durable what an earlier process, killed, had only named: the order of one run cannot show that."""
NOTHING_HANGS_ON_IT = {"sync_dir<drop_note"}
"""Where there was no note to drop; the way `taken-back` has one."""


@pytest.mark.parametrize(
    "name", ["install", "revert", "placebo", "first", "first-revert", "halted", "guard", "taken-back"]
)
def test_everything_is_on_disk_before_it_counts(stage: Stage, home: Path, name: str) -> None:
    way = stage.ways[name]
    stage.begin(way, home)
    ran = stage.send(way, home, record=True)
    assert ran.code == 0 and len([call for call in ran.calls if call.changes(home)]) > 15
    assert order.faults(ran.calls, home) == []


@pytest.mark.parametrize("site", ["sync_file<_extract", "sync_directory<point<flip", "sync_dir<write_durably<put"])
def test_a_missing_fsync_is_noticed(stage: Stage, home: Path, site: str) -> None:
    assert _without(stage, home, "install", site)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["install", "revert", "first", "first-revert", "halted", "taken-back"])
def test_each_missing_fsync_is_noticed(stage: Stage, home: Path, name: str) -> None:
    way, seen = stage.ways[name], stage.aside / "sites"
    seen.write_text("")
    stage.begin(way, home)
    assert trace.run(trace.agent(home), stage.aside, drop=f"list:{seen}").code == 0
    sites = set(seen.read_text().split())
    assert len(sites) >= 8
    unnoticed = {site for site in sites if not _without(stage, home, name, site)}
    allowed = NOT_OF_ONE_RUN | (set() if name == "taken-back" else NOTHING_HANGS_ON_IT)
    assert unnoticed <= allowed, unnoticed


def _without(stage: Stage, home: Path, name: str, site: str) -> list[str]:
    way = stage.ways[name]
    stage.begin(way, home)
    ran = trace.run(trace.agent(home), stage.aside, drop=site, record=True)
    return order.faults(ran.calls, home)
