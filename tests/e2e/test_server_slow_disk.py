"""A disk that stands still or is slow under a server at work: a real file system, stopped again and again."""

from __future__ import annotations

import asyncio
import time

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
        before = memory_kb(scene.house)
        for _ in range(self.many):
            await scene.acknowledged(2)
            assert not scene.over, "the rollout was over too soon"
            await asyncio.to_thread(self.disk.freeze)
            try:
                await self._while_it_hangs(scene)
            finally:  # a process that waits for a disk cannot even be killed
                await asyncio.to_thread(self.disk.thaw)
            thawed = time.monotonic()
            await scene.acknowledged(1)
            print(f"\n{time.monotonic() - thawed:.1f} s from the disk going on to the next report")
        well_behaved(scene, before)

    async def _while_it_hangs(self, scene: Scene) -> None:
        history = scene.history
        refused = history.statuses[503]
        await scene.until(lambda: history.statuses[503] >= refused + self.refusals)
        told = len(history.acknowledged), len(history.leased)
        await scene.until(lambda: history.statuses[503] >= refused + 2 * self.refusals)
        assert (len(history.acknowledged), len(history.leased)) == told, "nobody can have made these durable"


@pytest.mark.slow
def test_a_disk_that_hangs_leaves_nobody_waiting_and_loses_nothing(
    pytestconfig: pytest.Config,
) -> None:
    with disk_of("ext4", 48) as disk, house_in(disk.path) as house:
        run(house, one_server(house), 60, Hanging(disk, 300, 3), pytestconfig)


@pytest.mark.slow
@pytest.mark.parametrize(("stop_s", "go_s"), [(0.3, 0.05), (4.0, 0.5)], ids=["slow", "very slow"])
def test_a_slow_disk_makes_everything_slow_and_nothing_wrong(
    stop_s: float, go_s: float, pytestconfig: pytest.Config
) -> None:
    with disk_of("ext4", 48) as disk, house_in(disk.path) as house:

        async def story(scene: Scene) -> None:
            before = memory_kb(scene.house)
            with disk.slow(stop_s, go_s):
                await scene.acknowledged(20)
                assert not scene.over, "the rollout was over too soon"
            well_behaved(scene, before)

        run(house, one_server(house), 60, story, pytestconfig)
