"""Collectors, controllers and the stream on networks of their own: a cable is pulled under load, and put back."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from tests.e2e.house import Scene, house_in, memory_kb, run
from tests.e2e.net import Net, net_of

pytestmark = [
    pytest.mark.room("control"),
    pytest.mark.room("intake"),
    pytest.mark.xdist_group("takeover"),
    pytest.mark.timeout(1800),
]
MOST_GROWTH_KB = 150_000


class Cut:
    """Cuts a machine off until devices have been turned away so often, then heals it; `many` times."""

    def __init__(self, net: Net, machine: str, how: str, *, refusals: int = 20, many: int = 1) -> None:
        self.net, self.machine, self.how, self.refusals, self.many = net, machine, how, refusals, many

    async def __call__(self, scene: Scene) -> None:
        statuses, before = scene.history.statuses, memory_kb(scene.house)
        for _ in range(self.many):
            await scene.acknowledged(3)
            assert not scene.over, "the rollout was over too soon"
            refused = statuses[503]
            self.net.cut(self.machine, self.how)
            await scene.until(lambda: statuses[503] >= refused + self.refusals)  # noqa: B023
            acknowledged, exposed = len(scene.history.acknowledged), len(scene.history.leased)
            await scene.until(lambda: statuses[503] >= refused + 2 * self.refusals)  # noqa: B023
            assert len(scene.history.acknowledged) == acknowledged, "nobody can have made these durable"
            assert len(scene.history.leased) == exposed
            self.net.heal(self.machine)
            healed = time.monotonic()
            await scene.acknowledged(1)
            print(f"\n{self.machine} {self.how}: {time.monotonic() - healed:.1f} s from healing to the next report")
        answered = [wait_s for wait_s, status in scene.history.waits if status == 503]
        print(f"503 after {max(answered):.1f} s at most; statuses {dict(statuses)}")
        assert statuses[0] == 0, "a device was left without an answer"
        grown = max(now - then for now, then in zip(memory_kb(scene.house), before, strict=True))
        assert grown < MOST_GROWTH_KB, f"a process has grown by {grown} kB"


@pytest.mark.slow
@pytest.mark.parametrize("store", ["nats", "postgresql"])
@pytest.mark.parametrize("how", ["silent", "down"])
@pytest.mark.parametrize("machine", ["collector", "store"])
def test_a_partition_loses_and_exposes_nothing(
    tmp_path: Path, machine: str, how: str, store: str, pytestconfig: pytest.Config
) -> None:
    with net_of("collector", "controller", "store") as net, house_in(tmp_path, store, net) as house:
        house.controller()
        house.at("controller", house.office).close()
        house.standby()
        run(house, house.collectors(2), 60, Cut(net, machine, how, many=2), pytestconfig)


class CutOff:
    """Cuts off the machine of the active controller alone: another one takes over, and the first must find that out."""

    def __init__(self, net: Net, how: str) -> None:
        self.net, self.how = net, how

    async def __call__(self, scene: Scene) -> None:
        await scene.acknowledged(3)
        self.net.cut("controller", self.how)
        cut_at, known = time.monotonic(), scene.house.home.address.read_bytes()
        await scene.until(lambda: scene.house.home.address.read_bytes() != known)
        await scene.acknowledged(3)
        print(f"\ncut off, {self.how}: {time.monotonic() - cut_at:.1f} s until three more reports")
        assert not scene.over, "the rollout was over too soon"
        self.net.heal("controller")
        assert await asyncio.to_thread(scene.house.controllers[0].wait, 120) != 0, "it must end: it was replaced"


@pytest.mark.slow
@pytest.mark.parametrize("store", ["nats", "postgresql"])
def test_a_controller_that_is_cut_off_is_replaced_and_grants_nothing_when_it_is_back(
    tmp_path: Path, store: str, pytestconfig: pytest.Config
) -> None:
    with net_of("collector", "controller", "second", "store") as net, house_in(tmp_path, store, net) as house:
        house.controller()
        house.at("controller", house.office).close()
        house.standby(machine="second")
        run(house, house.collectors(2), 60, CutOff(net, "silent"), pytestconfig)
