"""Plans that cannot be put in their place: on record once, tried again as they are, and nothing forgotten meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.pens import Watched
from tests.server import COMPONENT, OTHER, HandClock, Plant
from tests.unit.test_control_controller import BY, note, released, running, same, settled, standing_plan, under_way

from tidegate.control import acts
from tidegate.control.controller import Controller
from tidegate.control.standing import PUBLISH_AGAIN_S
from tidegate.core.wire import canonical
from tidegate.log.events import PlanPublished
from tidegate.trust.publisher import Publisher

pytestmark = pytest.mark.room("control")
STEP_S = PUBLISH_AGAIN_S + 1


class Site:
    """A control plane whose repository takes files, or does not."""

    def __init__(self, directory: Path) -> None:
        self.plant = Plant(directory)
        self.refuses: Callable[[Path], bool] = lambda path: False
        self.tries = 0
        self.publisher = Publisher(self.plant.home.repository, self.plant.home.keys, pen=Watched(self._write))
        self.controller = Controller(self.plant.log, self.publisher, self.plant.clock)

    def _write(self, path: Path, data: bytes) -> None:
        if self.refuses(path):
            self.tries += 1
            raise OSError(28, "No space left on device")

    def records(self) -> list[PlanPublished]:
        return [event for _, event in self.plant.log.read() if isinstance(event, PlanPublished)]

    async def later(self, seconds: float) -> None:
        """Let time pass, and the next tick come."""
        clock = self.plant.clock
        assert isinstance(clock, HandClock)
        before = self.tries
        clock.ahead_s += seconds
        await self.until(lambda: self.tries > before or not self.refuses(Path("timestamp.json")))
        await settled(self.controller)

    async def until(self, true: Callable[[], Any]) -> None:
        async def wait() -> None:
            while not true():
                await asyncio.sleep(0.01)

        await asyncio.wait_for(wait(), 60)

    async def pause(self) -> None:
        """Have something to publish: the plan of a rollout that pauses."""
        name = self.controller.state.active[COMPONENT]
        await self.controller.ask(lambda s, now: acts.steer_rollout(s, now, BY, rollout=name, verb="pause"))

    async def resume(self) -> None:
        name = self.controller.state.active[COMPONENT]
        await self.controller.ask(lambda s, now: acts.steer_rollout(s, now, BY, rollout=name, verb="resume"))


@contextlib.asynccontextmanager
async def refusing(site: Site, refuses: Callable[[Path], bool] = lambda path: True) -> AsyncIterator[int]:
    """A rollout is under way and pauses, and the repository takes no plan that says so; gives the records before."""
    async with running(site.controller):
        await under_way(site.plant, site.controller, 4, observe_s=5000)
        before = len(site.records())
        site.refuses = refuses
        await site.pause()
        await site.until(lambda: site.tries)
        yield before


@pytest.mark.parametrize("name", ["", "plans.json"], ids=["no file", "not the one that takes the number"])
def test_a_full_repository_disk_puts_one_plan_on_record_and_that_one_stands_at_last(tmp_path: Path, name: str) -> None:
    site = Site(tmp_path)

    async def scene() -> None:
        async with refusing(site, lambda path: path.name.endswith(name)) as before:
            for _ in range(8):
                await site.later(STEP_S)
            assert site.tries >= 9
            assert len(site.records()) == before + 1
            site.refuses = lambda path: False
            await site.later(STEP_S)
            await site.until(lambda: not site.controller.trouble)
            record = site.records()[-1]
            assert len(site.records()) == before + 1
            assert record.version == site.publisher.version
            assert canonical(record.plan) == _plan_file(site).read_bytes()
            assert site.controller.state.published[COMPONENT].version == record.version
        same(site.controller, site.plant.log)

    asyncio.run(scene())


def test_a_plan_that_says_something_else_is_put_on_record_as_well(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def scene() -> None:
        async with refusing(site) as before:
            await site.resume()
            await site.later(STEP_S)
            assert [event.plan["state"] for event in site.records()[before:]] == ["paused", "open"]
            await site.later(STEP_S)
            assert len(site.records()) == before + 2
        assert site.controller.state.published[COMPONENT].plan["state"] == "open"

    asyncio.run(scene())


def test_a_plan_that_could_not_stand_in_its_time_is_made_anew(tmp_path: Path) -> None:
    """Ten minutes of a full disk: what is on record would lapse soon after it stood."""
    site = Site(tmp_path)

    async def scene() -> None:
        async with refusing(site) as before:
            await site.later(700)
            assert len(site.records()) == before + 2
            assert site.records()[-1].plan["expires"] > site.records()[-2].plan["expires"]

    asyncio.run(scene())


@pytest.mark.parametrize("name", ["timestamp.json", "snapshot.json"])
def test_a_number_that_stands_in_a_file_is_not_used_for_anything_else(tmp_path: Path, name: str) -> None:
    """The edition was begun; the next try has the next number, and that is on record before it stands."""
    site = Site(tmp_path)

    async def scene() -> None:
        async with refusing(site, lambda path: path.name.endswith(name)):
            begun = site.publisher.next_version - 1
            assert site.records()[-1].version == begun
            site.refuses = lambda path: False
            await site.later(STEP_S)
            await site.until(lambda: not site.controller.trouble)
            assert site.records()[-1].version == site.publisher.version == begun + 1
            assert standing_plan(site.plant).state.value == "paused"

    asyncio.run(scene())


def test_it_is_not_ready_while_a_plan_does_not_stand_whatever_else_goes_well(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def scene() -> None:
        async with refusing(site):
            await site.controller.ask(note(1))
            assert "plans could not be published" in site.controller.why_not_ready
            site.refuses = lambda path: False
            await site.later(STEP_S)
            await site.until(lambda: not site.controller.why_not_ready)

    asyncio.run(scene())


def test_a_release_that_comes_during_a_publication_is_published_next(tmp_path: Path) -> None:
    """What is written at that moment may have been put together before it."""
    site = Site(tmp_path)
    writing, go = threading.Event(), threading.Event()

    def hold(path: Path) -> bool:
        if path.name == "timestamp.json":
            writing.set()
            assert go.wait(60)
        return False

    async def scene() -> None:
        async with running(site.controller):
            await under_way(site.plant, site.controller, 4, observe_s=5000)
            site.refuses = hold
            await site.pause()
            await asyncio.to_thread(writing.wait, 60)
            edition = site.publisher.next_version - 1
            site.controller.publish_soon()
            site.refuses = lambda path: False
            go.set()
            await site.until(lambda: site.publisher.version == edition + 1)

    asyncio.run(scene())


def test_after_a_start_what_was_only_on_record_is_made_anew(tmp_path: Path) -> None:
    """Power lost between the record and the file: the next one knows no publication of its own, and trusts none."""
    site = Site(tmp_path)

    async def first() -> None:
        async with refusing(site):
            await site.controller.ask(released(site.plant, OTHER))

    asyncio.run(first())
    only_on_record = site.records()[-1]
    again = Controller(site.plant.log, Publisher(site.plant.home.repository, site.plant.home.keys), site.plant.clock)

    async def second() -> None:
        async with running(again):
            await settled(again)
            await site.until(lambda: standing_plan(site.plant).state.value == "paused")
            await settled(again)
        same(again, site.plant.log)

    asyncio.run(second())
    record = site.records()[-1]
    assert record is not only_on_record
    assert canonical(record.plan) == _plan_file(site).read_bytes()


def _plan_file(site: Site) -> Path:
    plans = site.plant.home.repository / "targets" / "plans"
    return max(plans.glob(f"*.{COMPONENT}.json"), key=lambda path: path.stat().st_mtime_ns)
