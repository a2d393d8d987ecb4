"""Checkpoints all the time, by children of a controller that talks to a real store: killed, and without room."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest
from tests.disks import disk_of
from tests.e2e.house import House, Scene, house_in, run
from tests.e2e.test_server_takeover import Killing

from tidegate.control.beside import can_fork

pytestmark = [
    pytest.mark.room("control"),
    pytest.mark.xdist_group("takeover"),
    pytest.mark.timeout(1800),
    pytest.mark.slow,
    pytest.mark.skipif(not can_fork(), reason="needs fork and prctl"),
]
STORES = ["", "postgresql", "nats"]
EACH = ("--checkpoint-every", "1")


def children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(word) for word in (task / "children").read_text().split()]
    return found


def checkpoints(house: House) -> list[str]:
    return sorted(path.name for path in house.home.checkpoints.glob("*.checkpoint"))


class KillingParents(Killing):
    """Kills the controller while a child of its is at work, if one is."""

    def __init__(self, kills: int) -> None:
        super().__init__(kills, *EACH)
        self.together = 0

    def strike(self, house: House) -> None:
        pid = house.controllers[0].pid
        orphans: list[int] = []
        for _ in range(2000):
            if orphans := children(pid):
                break
        self.together += bool(orphans)
        super().strike(house)
        house.until(lambda: not any(map(alive, orphans)))


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


@pytest.mark.parametrize("store", STORES)
def test_whoever_is_killed_while_it_writes_checkpoints_loses_nothing(
    tmp_path: Path, store: str, pytestconfig: pytest.Config
) -> None:
    with house_in(tmp_path, store) as house:
        house.controller(*EACH)
        house.office().close()
        house.standby(*EACH)
        killing = KillingParents(5)
        run(house, house.collectors(2), 64, killing, pytestconfig)
        assert checkpoints(house)
        assert killing.together, "no child was ever at work"


class KillingChildren:
    """Kills each child that writes a checkpoint, as soon as it is seen; the controller goes on."""

    def __init__(self) -> None:
        self.killed = 0

    async def __call__(self, scene: Scene) -> None:
        controller = scene.house.controllers[0]
        while not scene.over:
            for pid in children(controller.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.killed += 1
            await asyncio.sleep(0)
            assert controller.poll() is None, scene.house.said()


@pytest.mark.parametrize("store", STORES)
def test_a_child_that_is_killed_takes_nothing_with_it(tmp_path: Path, store: str, pytestconfig: pytest.Config) -> None:
    """Not its parent's connections either: what it holds of them it has closed, and never spoken over."""
    with house_in(tmp_path, store) as house:
        house.controller(*EACH)
        house.office().close()
        killing = KillingChildren()
        run(house, house.collectors(2), 60, killing, pytestconfig)
        assert killing.killed > 3
        said = (house.path / "servers.log").read_text()
        assert "append failed" not in said, said[-3000:]


@pytest.mark.parametrize("store", STORES)
def test_a_child_without_room_is_told_of_and_no_more(tmp_path: Path, store: str, pytestconfig: pytest.Config) -> None:
    with disk_of("tmpfs", 1) as disk, house_in(tmp_path, store) as house:
        disk.fill()
        house.home.checkpoints.symlink_to(disk.path, target_is_directory=True)
        house.controller(*EACH)
        house.office().close()

        async def watch(scene: Scene) -> None:
            while not scene.over:
                await asyncio.sleep(0.05)
                assert house.controllers[0].poll() is None, house.said()

        run(house, house.collectors(2), 200, watch, pytestconfig)
        said = (house.path / "servers.log").read_text()
        assert "no checkpoint could be written" in said
        assert "append failed" not in said, said[-3000:]
