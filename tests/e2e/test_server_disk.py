"""A disk that is full, hangs or is slow under a server at work: real file systems, filled and stopped under load."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import httpx
import pytest
from tests.disks import Disk, disk_of
from tests.e2e.house import House, Scene, house_in, memory_kb, run
from tests.stores import NODES, NatsCluster, PostgresqlServer, make_store

pytestmark = [
    pytest.mark.room("control"),
    pytest.mark.room("log"),
    pytest.mark.room("intake"),
    pytest.mark.xdist_group("takeover"),
    pytest.mark.timeout(1800),
]
MOST_GROWTH_KB = 150_000


class Filling:
    """Fills the disk to the last byte, lets devices be turned away so often, and gives the room back; `many` times."""

    says = "free disk space"

    def __init__(self, disk: Disk, refusals: int, many: int) -> None:
        self.disk, self.refusals, self.many = disk, refusals, many

    async def __call__(self, scene: Scene) -> None:
        statuses, before = scene.history.statuses, memory_kb(scene.house)
        for _ in range(self.many):
            await scene.acknowledged(2)
            assert not scene.over, "the rollout was over too soon"
            refused = statuses[503]
            await asyncio.to_thread(self.disk.fill)
            await scene.until(lambda: scene.over or statuses[503] >= refused + self.refusals)  # noqa: B023
            assert not scene.over, "the rollout was over too soon"
            await asyncio.to_thread(said_by_the_server, scene.house, self.says)
            acknowledged = len(scene.history.acknowledged)
            await scene.until(lambda: statuses[503] >= refused + 2 * self.refusals)  # noqa: B023
            assert len(scene.history.acknowledged) == acknowledged, "nobody can have made these durable"
            await asyncio.to_thread(self.give_back)
            freed = time.monotonic()
            await scene.acknowledged(1)
            print(f"\n{time.monotonic() - freed:.1f} s from room on the disk to the next report")
        well_behaved(scene, before)

    def give_back(self) -> None:
        self.disk.free()


def said_by_the_server(house: House, says: str) -> None:
    """An operator is told what is wrong, and when to come again."""
    with contextlib.closing(house.office()) as office:
        ready = office.get("/readyz")
        assert ready.status_code == 503
        assert says in ready.text
        asked = office.post("/api/v1/tokens", json={"who": "ada", "why": "x", "labels": {}, "uses": 1, "expires_s": 9})
        assert (asked.status_code, int(asked.headers["retry-after"]) > 0) == (503, True), asked.text
        assert office.get("/healthz").status_code == 200


def well_behaved(scene: Scene, before: list[int]) -> None:
    """Nobody was left without an answer, and no process has grown by what waited."""
    statuses = scene.history.statuses
    assert statuses.keys() <= {200, 409, 503}, dict(statuses)
    slowest = max(wait_s for wait_s, _ in scene.history.waits)
    print(f"answers after {slowest:.1f} s at most; statuses {dict(statuses)}")
    grown = max(now - then for now, then in zip(memory_kb(scene.house), before, strict=True))
    assert grown < MOST_GROWTH_KB, f"a process has grown by {grown} kB"
    assert all(process.poll() is None for process in scene.house.processes), "a process has ended"


def one_server(house: House) -> list[int]:
    """A server in one process, on the disk with all that it has; give the devices' port."""
    house.controllers.append(house.serve("controller", "--devices", "127.0.0.1:0", "--operators", "127.0.0.1:0"))
    house.office().close()
    return [httpx.URL(house.home.read_address()["devices"]).port or 0]


def test_a_full_disk_stops_everything_and_loses_nothing(pytestconfig: pytest.Config) -> None:
    with disk_of("tmpfs", 24) as disk, house_in(disk.path) as house:
        run(house, one_server(house), 24, Filling(disk, 20, 1), pytestconfig)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_that_is_full_again_and_again(kind: str, pytestconfig: pytest.Config) -> None:
    with disk_of(kind, 48) as disk, house_in(disk.path) as house:
        run(house, one_server(house), 80, Filling(disk, 300, 5), pytestconfig)


class StoreFilling(Filling):
    """Fills the disk of the store under the log; PostgreSQL may end on it, and is started again once there is room."""

    def __init__(self, disk: Disk, refusals: int, many: int, store: PostgresqlServer) -> None:
        super().__init__(disk, refusals, many)
        self.store = store
        self.says = "the log"  # takes nothing, or cannot be reached: PostgreSQL does either

    def give_back(self) -> None:
        super().give_back()
        if self.store.process.poll() is not None:
            print("\nPostgreSQL had ended")
            self.store.start()


@pytest.mark.slow
def test_a_full_disk_of_postgresql_stops_everything_and_loses_nothing(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(disk_of("tmpfs", 160))
        store = make_store("postgresql", places=[disk.path / "pg"])
        stack.callback(store.close)
        assert isinstance(store, PostgresqlServer)
        house = stack.enter_context(house_in(tmp_path, store))
        house.controller()
        house.office().close()
        run(house, house.collectors(2), 240, StoreFilling(disk, 200, 2, store), pytestconfig)


@pytest.mark.slow
def test_a_full_disk_of_one_node_of_nats_stops_nothing(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    with contextlib.ExitStack() as stack:
        disks = [stack.enter_context(disk_of("tmpfs", 64)) for _ in range(NODES)]
        store = make_store("nats", places=[disk.path / "js" for disk in disks])
        stack.callback(store.close)
        assert isinstance(store, NatsCluster)
        house = stack.enter_context(house_in(tmp_path, store))
        house.controller()
        house.office().close()

        async def story(scene: Scene) -> None:
            for number, disk in enumerate(disks[:2]):
                await scene.acknowledged(3)
                await asyncio.to_thread(disk.fill)
                filled = time.monotonic()
                await scene.acknowledged(10)
                print(f"\n{time.monotonic() - filled:.1f} s with a full node until ten more reports")
                assert not scene.over, "the rollout was over too soon"
                disk.free()
                await asyncio.to_thread(restart, number)

        def restart(number: int) -> None:
            store.kill(number)
            store.start(number)
            house.until(lambda: all(map(store.healthy, range(NODES))))

        run(house, house.collectors(2), 100, story, pytestconfig)
