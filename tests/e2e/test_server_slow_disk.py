"""A disk that stands still or is slow under a server at work: a real file system, stopped again and again."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.disks import Disk, disk_of
from tests.e2e.house import Scene, house_in, memory_kb, run
from tests.e2e.test_server_disk import one_server, well_behaved

pytestmark = [
    pytest.mark.room("control"),
    pytest.mark.room("log"),
    pytest.mark.room("intake"),
    pytest.mark.xdist_group("takeover"),
    pytest.mark.timeout(1800),
]


class Hanging:
    """Stops the disk until devices have been turned away so often, and lets it go on; `many` times."""

    def __init__(self, disk: Disk, refusals: int, many: int) -> None:
        self.disk, self.refusals, self.many = disk, refusals, many

    async def __call__(self, scene: Scene) -> None:
        statuses, before = scene.history.statuses, memory_kb(scene.house)
        for _ in range(self.many):
            await scene.acknowledged(2)
            assert not scene.over, "the rollout was over too soon"
            refused = statuses[503]
            await asyncio.to_thread(self.disk.freeze)
            acknowledged, exposed = len(scene.history.acknowledged), len(scene.history.leased)
            await scene.until(lambda: statuses[503] >= refused + self.refusals)  # noqa: B023
            assert len(scene.history.acknowledged) == acknowledged, "nobody can have made these durable"
            assert len(scene.history.leased) == exposed
            await asyncio.to_thread(self.disk.thaw)
            thawed = time.monotonic()
            await scene.acknowledged(1)
            print(f"\n{time.monotonic() - thawed:.1f} s from the disk going on to the next report")
        well_behaved(scene, before)


@pytest.mark.slow
def test_a_disk_that_hangs_leaves_nobody_waiting_and_loses_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with disk_of("ext4", 48) as disk, house_in(disk.path) as house:
        run(house, one_server(house), 60, request.config.getoption("--seed") or 1, Hanging(disk, 300, 3))


@pytest.mark.slow
@pytest.mark.parametrize(("stop_s", "go_s"), [(0.3, 0.05), (4.0, 0.5)], ids=["slow", "very slow"])
def test_a_slow_disk_makes_everything_slow_and_nothing_wrong(
    tmp_path: Path, stop_s: float, go_s: float, request: pytest.FixtureRequest
) -> None:
    with disk_of("ext4", 48) as disk, house_in(disk.path) as house:

        async def story(scene: Scene) -> None:
            before = memory_kb(scene.house)
            with disk.slow(stop_s, go_s):
                await scene.acknowledged(20)
                assert not scene.over, "the rollout was over too soon"
            well_behaved(scene, before)

        run(house, one_server(house), 60, request.config.getoption("--seed") or 1, story)
