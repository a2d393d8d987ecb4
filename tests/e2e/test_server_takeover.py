"""Collectors, a controller and its standby as processes: killed under load, nothing told is lost or doubled."""

from __future__ import annotations

import asyncio
import re
import signal
import time
from pathlib import Path

import pytest
from tests.e2e.house import House, Scene, Terms, house_in, run
from tests.stores import NODES, NatsCluster, PostgresqlServer

pytestmark = [
    pytest.mark.room("control"),
    pytest.mark.room("intake"),
    pytest.mark.xdist_group("takeover"),
    pytest.mark.timeout(1800),
]
FEW, MANY = 5, 50
BEHIND = 2000
"""Events that may come between a standby's last look and the kill."""
STATISTICAL = Terms(max_harmed=60, canary=16, cap=60, certain=False, confidence=0.999)


class Killing:
    """Kills the active controller at random moments, a standby ready each time; `gaps` are the seconds until the next
    acknowledged report."""

    def __init__(self, kills: int, *words: str) -> None:
        self.kills, self.words = kills, words
        self.gaps: list[float] = []

    async def __call__(self, scene: Scene) -> None:
        house = scene.house
        for number in range(self.kills):
            await scene.acknowledged(scene.chance.randrange(1, 4))
            if scene.over:
                break
            await asyncio.sleep(scene.chance.random() * 0.05)
            stood, killed_at = house.home.address.read_bytes(), time.monotonic()
            self.strike(house)
            await scene.until(lambda: house.home.address.read_bytes() != stood)  # noqa: B023  before come older answers
            await scene.acknowledged(1)
            self.gaps.append(time.monotonic() - killed_at)
            if number < self.kills - 1:
                scene.go.clear()  # a standby takes its time to start; the rollout must not be over meanwhile
                await asyncio.to_thread(house.standby, *self.words)
                scene.go.set()
        assert len(self.gaps) == self.kills, "the rollout was over too soon"
        print(f"\n{self.kills} kills, from the kill to the next acknowledged report: {rounded(self.gaps)} s")

    def strike(self, house: House) -> None:
        process = house.controllers.pop(0)
        process.kill()
        process.wait()


def rounded(gaps: list[float]) -> list[float]:
    return [round(gap, 2) for gap in gaps]


def killed_under_load(house: House, kills: int, config: pytest.Config, terms: Terms | None = None) -> None:
    house.controller()
    house.office().close()
    house.standby()
    ports = house.collectors(2 if kills > FEW or house.store else 1)
    run(house, ports, 12 * kills + (340 if terms else 4), Killing(kills), config, terms)


def test_whoever_is_killed_under_load_nothing_is_lost_or_doubled(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    with house_in(tmp_path) as house:
        killed_under_load(house, FEW, pytestconfig)


@pytest.mark.slow
def test_many_kills(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """As many as `--kills` says, at the moments of `--seed`."""
    with house_in(tmp_path) as house:
        killed_under_load(house, pytestconfig.getoption("--kills") or MANY, pytestconfig)


@pytest.mark.slow
def test_kills_while_the_statistical_rule_opens_large_rings(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    with house_in(tmp_path) as house:
        killed_under_load(house, FEW, pytestconfig, STATISTICAL)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["postgresql", "nats"])
def test_a_standby_takes_over_on_every_store(tmp_path: Path, store: str, pytestconfig: pytest.Config) -> None:
    with house_in(tmp_path, store) as house:
        killed_under_load(house, FEW, pytestconfig)
        said = (house.path / "servers.log").read_text()
    read = re.findall(r"Takes over after event (\d+), of which it has read (\d+)\.", said)
    assert len(read) == FEW, "each standby has followed the log"
    assert all(int(seen) >= int(last) - BEHIND for last, seen in read), read


class Pausing(Killing):
    """Stops the active controller instead (SIGSTOP), and wakes it when another has taken over."""

    def __init__(self, kills: int) -> None:
        super().__init__(kills)
        self.paused: list[int] = []

    def strike(self, house: House) -> None:
        for process in house.controllers[:-2]:  # those of before: they have found out, and have ended
            process.send_signal(signal.SIGCONT)
            assert process.wait(60) != 0
        house.controllers[-2].send_signal(signal.SIGSTOP)

    async def __call__(self, scene: Scene) -> None:
        await super().__call__(scene)
        for process in scene.house.controllers[:-1]:
            process.send_signal(signal.SIGCONT)
            assert await asyncio.to_thread(process.wait, 60) != 0, "a controller that was replaced must end"
        said = (scene.house.path / "servers.log").read_text()
        # Whichever fence it meets first as it wakes: the log's, or the plans'.
        fenced = said.count("another writer has taken it over") + said.count("was signed by another controller")
        assert fenced >= self.kills


@pytest.mark.slow
@pytest.mark.parametrize("store", ["postgresql", "nats"])
def test_a_controller_that_was_paused_grants_nothing_when_it_wakes(
    tmp_path: Path, store: str, pytestconfig: pytest.Config
) -> None:
    with house_in(tmp_path, store) as house:
        house.controller()
        house.office().close()
        house.standby()
        run(house, house.collectors(2), 60, Pausing(2), pytestconfig)


class StoreKilling:
    """Kills the store under the log at random moments: PostgreSQL's primary, or one node after the other of NATS."""

    def __init__(self, kills: int) -> None:
        self.kills = kills

    async def __call__(self, scene: Scene) -> None:
        gaps: list[float] = []
        for number in range(self.kills):
            await scene.acknowledged(scene.chance.randrange(1, 4))
            if scene.over:
                break
            killed_at = time.monotonic()
            await asyncio.to_thread(self.strike, scene.house, number)
            await scene.acknowledged(1)
            gaps.append(time.monotonic() - killed_at)
        assert len(gaps) == self.kills, "the rollout was over too soon"
        print(f"\n{self.kills} kills of the store, until the next acknowledged report: {rounded(gaps)} s")

    def strike(self, house: House, number: int) -> None:
        store = house.store
        if isinstance(store, PostgresqlServer):
            store.kill()
            store.start()
        elif isinstance(store, NatsCluster):
            node = number % NODES
            house.until(lambda: all(map(store.healthy, range(NODES))))  # two of three hold what is acknowledged
            store.kill(node)
            time.sleep(1)
            store.start(node)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["postgresql", "nats"])
def test_a_store_that_is_killed_under_load_loses_nothing(
    tmp_path: Path, store: str, pytestconfig: pytest.Config
) -> None:
    with house_in(tmp_path, store) as house:
        house.controller()
        house.office().close()
        house.standby()
        run(house, house.collectors(2), 100, StoreKilling(NODES), pytestconfig)
