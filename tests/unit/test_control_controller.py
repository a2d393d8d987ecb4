"""The controller: one order, answers only when durable, nothing of what failed, and plans that are on record first."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import threading
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.pens import Watched
from tests.server import COMPONENT, OTHER, HandClock, Plant
from tests.snapshots import difference, snapshot

from tidegate.control import acts, appending, batch_fold, devices
from tidegate.control import controller as controller_module
from tidegate.control.acts import Who
from tidegate.control.batch_fold import fold_batches
from tidegate.control.controller import Controller
from tidegate.control.starting import StartRequest, start_rollout
from tidegate.control.state import ServerState, fold
from tidegate.control.views import status_view
from tidegate.core.admission import NotYet
from tidegate.core.errors import Refused, TidegateError
from tidegate.core.model import Plan
from tidegate.core.wire import decode as decode_value
from tidegate.log.events import Act, Event, PlanPublished
from tidegate.log.port import Fenced, LogError, Overloaded
from tidegate.log.sqlite import SqliteLog
from tidegate.trust.publisher import Publisher

BY = Who("ada", "test")
NUMBERS = itertools.count()


class Slow(SqliteLog):
    """A log whose disk takes its time: an append waits until it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.gate = threading.Event()
        self.gate.set()

    def append(self, events: Sequence[Event]) -> int:
        assert self.gate.wait(90)
        return super().append(events)


def slowed(plant: Plant) -> tuple[Slow, Controller]:
    """Put a log that takes its time in place of the plant's."""
    plant.log.close()
    log = Slow(plant.home.log)
    return log, Controller(log, plant.publisher, plant.clock)


def fill_disk(log: SqliteLog, full: bool) -> None:
    """Let SQLite itself say that there is no room, by the greatest size that the file may have."""
    with log._lock:  # pyright: ignore[reportPrivateUsage]
        database = log._db  # pyright: ignore[reportPrivateUsage]
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count = {pages if full else 1 << 30}")


def act(number: int, size: int = 10) -> Act:
    return Act(at_ms=number, what="note", who="ada", why="x" * size, body={"number": number})


@contextlib.asynccontextmanager
async def running(controller: Controller) -> AsyncIterator[asyncio.Task[None]]:
    work = asyncio.create_task(controller.run())
    try:
        yield work
    finally:
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def settled(controller: Controller) -> None:
    for _ in range(3):
        await controller.ask(lambda state, now_ms: ([], None))


def note(number: int, size: int = 10) -> Any:
    return lambda state, now_ms: ([act(number, size)], number)


def same(controller: Controller, log: SqliteLog) -> None:
    """The living state is what a replay of the log gives, to the last bit, and looks the same."""
    replayed = fold(event for _, event in log.read())
    assert not difference(snapshot(replayed), snapshot(fold_batches(log.read_batches())))
    assert not difference(snapshot(controller.state), snapshot(replayed))
    now_ms = controller.now_ms()
    assert status_view(controller.state, now_ms, "") == status_view(replayed, now_ms, "")


def test_questions_that_come_at_once_are_answered_in_the_order_of_the_log(tmp_path: Path) -> None:
    plant = Plant(tmp_path)

    async def scene() -> list[int]:
        async with running(plant.controller):
            return await asyncio.gather(*(plant.controller.ask(note(number)) for number in range(1500)))

    assert asyncio.run(scene()) == list(range(1500))
    found = [event.body["number"] for _, event in plant.log.read() if isinstance(event, Act) and event.what == "note"]
    assert found == list(range(1500))


def test_a_decision_sees_all_that_were_decided_before_it(tmp_path: Path) -> None:
    plant = Plant(tmp_path)

    def count(state: ServerState, now_ms: int) -> tuple[list[Event], int]:
        return [act(now_ms)], len(state.acts)

    async def scene() -> list[int]:
        async with running(plant.controller):
            return await asyncio.gather(*(plant.controller.ask(count) for _ in range(100)))

    assert asyncio.run(scene()) == list(range(100))


def test_what_is_due_is_looked_for_soon_after_reports_and_at_once_after_all_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, looks = Plant(tmp_path), list[float]()
    whole = controller_module.fold_due

    def look(state: ServerState, now_ms: int) -> list[Event]:
        looks.append(time.monotonic())
        return whole(state, now_ms)

    monkeypatch.setattr(controller_module, "fold_due", look)
    monkeypatch.setattr(controller_module, "TICK_S", 60.0)

    async def scene() -> None:
        async with running(plant.controller):
            await settled(plant.controller)
            before = len(looks)
            for number in range(20):  # one batch after the other, which takes no longer than one look may wait
                await plant.controller.ask(lambda state, now_ms: ([], None), frozenset({number}))
            assert len(looks) - before < 20
            asked, before = time.monotonic(), len(looks)
            while len(looks) == before:
                assert time.monotonic() < asked + 30, "nobody asks, and what reports made due is not looked for"
                await asyncio.sleep(0.001)
            before = len(looks)
            await plant.controller.ask(lambda state, now_ms: ([], None))
            assert len(looks) > before

    asyncio.run(scene())


def test_a_line_that_is_far_too_long_takes_nobody_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing works it off here; reports of several devices count as many."""
    controller = Plant(tmp_path).controller
    monkeypatch.setattr(controller_module, "MOST_WAITING", 8)

    async def scene() -> None:
        controller.put(lambda state, now_ms: ([], None), frozenset(range(7)))
        assert (controller.waiting, controller.full) == (7, False)
        controller.put(note(1))
        assert controller.full
        controller.put(lambda state, now_ms: ([], None), frozenset(range(8)))
        with pytest.raises(Overloaded):
            controller.put(note(2))
        with pytest.raises(Overloaded):
            await controller.ask(note(3))
        assert controller.waiting == 16

    asyncio.run(scene())


def test_nobody_waits_for_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits is told that it is not known, who comes is turned away, and what was under way is not lost."""
    monkeypatch.setattr(appending, "PATIENCE_S", 0.1)
    monkeypatch.setattr(appending, "LATE_S", 0.05)
    plant = Plant(tmp_path)
    log, controller = slowed(plant)

    async def scene() -> None:
        async with running(controller):
            await settled(controller)
            log.gate.clear()
            first = asyncio.create_task(controller.ask(note(1)))
            await asyncio.sleep(0.02)
            more = [asyncio.create_task(controller.ask(note(number))) for number in (2, 3)]
            for asked in (first, *more):
                with pytest.raises(Overloaded, match="the log takes long"):
                    await asked
            assert controller.full
            assert controller.waiting == 0
            assert "the log takes long" in controller.why_not_ready
            log.gate.set()
            while controller.full:
                await asyncio.sleep(0.01)
            assert controller.why_not_ready == ""
            assert await controller.ask(note(4)) == 4
        assert [event.body["number"] for _, event in log.read() if isinstance(event, Act)] == [1, 4]

    asyncio.run(scene())


def test_a_controller_finds_out_by_itself_that_its_log_is_away_or_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "LOOK_EVERY_S", 0.0)
    plant = Plant(tmp_path)
    trouble: list[LogError] = []

    def check() -> None:
        if trouble:
            raise trouble[0]

    monkeypatch.setattr(plant.log, "check", check)

    async def scene() -> None:
        async with running(plant.controller) as work:
            await settled(plant.controller)
            trouble.append(LogError("the log is away"))
            while plant.controller.why_not_ready != "the log is away":
                await asyncio.sleep(0.01)
            assert plant.controller.full
            trouble.clear()
            while plant.controller.why_not_ready:
                await asyncio.sleep(0.01)
            assert not plant.controller.full
            trouble.append(Fenced("taken over"))
            with pytest.raises(Fenced):
                await work
            with pytest.raises(LogError):
                await plant.controller.ask(note(1))

    with contextlib.suppress(Fenced):
        asyncio.run(scene())


def test_nobody_has_an_answer_before_it_is_durable(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    log, controller = slowed(plant)

    async def scene() -> None:
        async with running(controller):
            await settled(controller)
            log.gate.clear()
            asked = asyncio.create_task(controller.ask(note(1)))
            reading = asyncio.create_task(controller.ask(lambda state, now_ms: ([], len(state.acts))))
            await asyncio.sleep(0.2)
            assert not asked.done()
            assert not reading.done(), "what it saw is not durable either"
            log.gate.set()
            assert await asked == 1
            assert await reading == 1
            assert log.last == 1

    asyncio.run(scene())


def test_a_refused_decision_leaves_nothing_and_its_neighbours_stand(tmp_path: Path) -> None:
    plant = Plant(tmp_path)

    def refuse(state: ServerState, now_ms: int) -> tuple[list[Event], None]:
        raise Refused("no")

    def mistake(state: ServerState, now_ms: int) -> tuple[list[Event], None]:
        raise ZeroDivisionError

    async def scene() -> list[Any]:
        async with running(plant.controller):
            asked = [note(1), refuse, note(2), mistake, note(3)]
            return await asyncio.gather(*map(plant.controller.ask, asked), return_exceptions=True)

    found = asyncio.run(scene())
    assert (found[0], found[2], found[4]) == (1, 2, 3)
    assert isinstance(found[1], Refused)
    assert isinstance(found[3], ZeroDivisionError)
    assert plant.log.last == 3


def test_a_full_disk_answers_everyone_with_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    plant = Plant(tmp_path)

    async def scene() -> None:
        controller = plant.controller
        async with running(controller):
            await controller.ask(note(1))
            before = snapshot(controller.state)
            fill_disk(plant.log, True)
            asked = [note(number, 50_000) for number in range(2, 6)]
            reading = controller.ask(lambda state, now_ms: ([], len(state.acts)))
            found = await asyncio.gather(*map(controller.ask, asked), reading, return_exceptions=True)
            assert all(isinstance(error, LogError) for error in found[:4]), found
            assert "the log took nothing: database or disk is full" in str(found[0])
            assert isinstance(found[4], LogError) or found[4] == 1
            assert snapshot(controller.state) == before
            assert "full" in controller.trouble
            assert plant.log.last == 1
            fill_disk(plant.log, False)
            assert await controller.ask(note(7)) == 7
            assert controller.trouble == ""
        same(controller, plant.log)

    asyncio.run(scene())


def test_while_the_disk_is_full_the_log_is_folded_once_and_then_it_goes_on_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "AGAIN_S", 0.02)
    plant = Plant(tmp_path)
    controller = plant.controller
    folds: list[None] = []
    replayed = controller._replayed  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(controller, "_replayed", lambda: folds.append(None) or replayed())

    async def scene() -> None:
        async with running(controller):
            await controller.ask(note(1))
            fill_disk(plant.log, True)
            for number in range(20):
                with pytest.raises(LogError, match="the log took nothing: database or disk is full"):
                    await controller.ask(note(number, 50_000))
                assert controller.full, "devices are turned away"
                assert "full; free disk space" in controller.why_not_ready
            assert len(folds) == 1
            fill_disk(plant.log, False)
            while controller.full:
                await asyncio.sleep(0.01)
            assert controller.why_not_ready == "", "it says so, although nobody has asked for anything since"
            assert await controller.ask(note(2, 50_000)) == 2
            assert controller.why_not_ready == ""
            assert len(folds) == 1
        same(controller, plant.log)

    asyncio.run(scene())


def test_a_log_that_refuses_right_after_it_seemed_well_is_left_alone_for_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a store that answers and takes nothing: it is not read anew, from the last checkpoint on, at every attempt."""
    monkeypatch.setattr(appending, "AGAIN_S", 0.05)
    plant = Plant(tmp_path)
    began = time.monotonic()

    def refuse(events: Sequence[Event]) -> int:
        attempts.append(time.monotonic() - began)
        raise LogError("the log took nothing")

    attempts: list[float] = []

    async def scene() -> None:
        async with running(plant.controller):
            await settled(plant.controller)
            monkeypatch.setattr(plant.log, "append", refuse)
            while len(attempts) < 5:
                with pytest.raises(LogError):
                    await plant.controller.ask(note(1))

    asyncio.run(scene())
    gaps = [after - before for before, after in itertools.pairwise(attempts)]
    assert all(gap >= least for gap, least in zip(gaps[1:], (0.05, 0.1, 0.2), strict=True)), gaps


def test_an_event_that_cannot_be_written_harms_nobody_but_its_batch(tmp_path: Path) -> None:
    plant = Plant(tmp_path)

    def odd(state: ServerState, now_ms: int) -> tuple[list[Event], None]:
        return [Act(at_ms=now_ms, what="note", who="\ud800", why="", body={})], None

    async def scene() -> None:
        async with running(plant.controller) as work:
            with pytest.raises(LogError, match="cannot be written down"):
                await plant.controller.ask(odd)
            assert await plant.controller.ask(note(1)) == 1
            assert not work.done()

    asyncio.run(scene())
    same(plant.controller, plant.log)


def test_when_it_ends_nobody_waits_for_ever(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    log, controller = slowed(plant)

    async def scene() -> None:
        work = asyncio.create_task(controller.run())
        await settled(controller)
        log.gate.clear()
        asked = [asyncio.create_task(controller.ask(note(number))) for number in range(600)]
        await asyncio.sleep(0.1)
        work.cancel()
        found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
        assert all(isinstance(error, LogError) for error in found)
        with pytest.raises(LogError, match="the server is stopping"):
            await controller.ask(note(1))
        log.gate.set()
        await asyncio.gather(work, return_exceptions=True)

    asyncio.run(scene())


# --- plans ----------------------------------------------------------------------------------------------------------


def enrolled(state: ServerState, now_ms: int, count: int) -> list[Event]:
    token = {"token_id": "t", "token_hash": "h", "labels": {}, "uses": count, "expires_s": 60}
    made, _ = acts.create_token(now_ms, BY, **token)
    apart = fold(made)
    events = list(made)
    for index in range(count):
        more, _ = devices.enrol(
            apart,
            now_ms,
            token_id="t",
            token_hash="h",
            public_key=f"{index:064x}",
            labels={},
            facts={},
            fresh_id=random.Random(index).randbytes(16).hex(),
        )
        for event in more:
            apart.apply(event)
        events += more
    return events


def released(plant: Plant, component: str = COMPONENT, seq: int = 1) -> Any:
    """Log a release as the API does, but for the repository."""
    from tidegate.core.model import ReleaseTerms, SpeedLimit

    draft = plant.draft(seq, component=component)
    now = int(plant.clock())
    limit = SpeedLimit(((0, 1 << 32),), now - 1, now + 86_400, clock_slack_s=0)
    terms = ReleaseTerms(seq, "0123456789abcdef" * 2, limit)
    return lambda state, now_ms: acts.log_release(
        state, now_ms, BY, digest=draft.digest, manifest=draft.manifest, terms=terms
    )


def starts(component: str = COMPONENT, **changes: Any) -> Any:
    said = StartRequest(
        component, "1", 3, **{"placebo_per_treated": 1.0, "observe_s": 10, "allow_hold": True, **changes}
    )
    name = f"{component}-{next(NUMBERS)}"
    return lambda state, now_ms: start_rollout(state, now_ms, BY, said, rollout=name, arm_secret=bytes(32))


async def under_way(plant: Plant, controller: Controller, count: int = 8, **changes: Any) -> str:
    await controller.ask(lambda state, now_ms: (enrolled(state, now_ms, count), None))
    await controller.ask(released(plant))
    name = await controller.ask(starts(**changes))
    await settled(controller)
    return str(name)


def standing_plan(plant: Plant, component: str = COMPONENT) -> Plan:
    files = sorted(
        (plant.home.repository / "targets" / "plans").glob(f"*.{component}.json"), key=lambda f: f.stat().st_mtime_ns
    )
    return decode_value(Plan, files[-1].read_bytes(), "plan")


def test_a_plan_is_on_record_before_it_stands(tmp_path: Path) -> None:
    """At the moment at which the timestamp is written, the log holds the plan under the version that it will have."""
    plant = Plant(tmp_path)
    seen: list[tuple[int, int]] = []

    def write(path: Path, data: bytes) -> None:
        if path.name == "timestamp.json":
            recorded = [event.version for _, event in plant.log.read() if isinstance(event, PlanPublished)]
            seen.append((publisher.next_version - 1, recorded[-1] if recorded else 0))

    publisher = Publisher(plant.home.repository, plant.home.keys, pen=Watched(write))
    controller = Controller(plant.log, publisher, plant.clock)

    async def scene() -> None:
        async with running(controller):
            await under_way(plant, controller)

    asyncio.run(scene())
    with_plans = [pair for pair in seen if pair[1]]
    assert with_plans
    assert all(version == recorded for version, recorded in with_plans)


def test_a_publication_that_fails_is_tried_again_and_nothing_counts_as_standing(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    broken = [False]

    def write(path: Path, data: bytes) -> None:
        if broken[0] and path.name == "timestamp.json":
            raise OSError(28, "No space left on device")

    publisher = Publisher(plant.home.repository, plant.home.keys, pen=Watched(write))
    controller = Controller(plant.log, publisher, plant.clock)

    async def scene() -> None:
        async with running(controller):
            await under_way(plant, controller, 4)
            stands = dict(controller.state.published)
            broken[0] = True
            name = controller.state.active[COMPONENT]
            await controller.ask(lambda s, now: acts.steer_rollout(s, now, BY, rollout=name, verb="pause"))
            await settled(controller)
            assert "plans could not be published" in controller.trouble
            assert controller.state.published == stands
            before = plant.log.last
            await asyncio.sleep(0.7)
            assert plant.log.last == before, "it is not tried, and recorded, at every tick"
            broken[0] = False
            plant.clock.ahead_s += 6
            await asyncio.sleep(0.6)
            await settled(controller)
            assert standing_plan(plant).state.value == "paused"
            await controller.ask(note(1))
            assert controller.trouble == ""
        same(controller, plant.log)

    asyncio.run(scene())


def test_a_plan_is_signed_anew_before_it_lapses_and_not_before(tmp_path: Path) -> None:
    plant = Plant(tmp_path)

    async def scene() -> None:
        async with running(plant.controller):
            await under_way(plant, plant.controller, observe_s=5000)
            first = standing_plan(plant)
            before = plant.log.last
            plant.clock.ahead_s += 500
            await settled(plant.controller)
            assert plant.log.last == before
            plant.clock.ahead_s += 150
            await settled(plant.controller)
            assert standing_plan(plant).expires >= first.expires + 600
        same(plant.controller, plant.log)

    asyncio.run(scene())


def test_a_clock_that_jumps_back_lets_no_event_go_back(tmp_path: Path) -> None:
    plant = Plant(tmp_path)

    async def scene() -> None:
        async with running(plant.controller):
            await under_way(plant, plant.controller)
            plant.clock.ahead_s -= 86_400
            await plant.controller.ask(lambda state, now_ms: ([act(now_ms)], None))

    asyncio.run(scene())
    moments = [event.at_ms for _, event in plant.log.read()]
    assert moments == sorted(moments)


# --- random histories -----------------------------------------------------------------------------------------------


def something(chance: random.Random, plant: Plant, controller: Controller) -> tuple[Any, frozenset[int]]:
    """One question that a device or an operator may ask, and the device if it is a report; many are refused."""
    index = chance.randrange(12)
    found = _question(chance, plant, controller, index)
    return found if isinstance(found, tuple) else (found, frozenset())


def _question(chance: random.Random, plant: Plant, controller: Controller, index: int) -> Any:
    state = controller.state
    names = [*state.rollouts, "dreamt"]
    name = chance.choice(names)
    device_id = state.devices[index].device.device_id if index < len(state.devices) else "0" * 32
    claim = devices.Claim(
        index, device_id, chance.choice([0, state.devices[index].last_seq + 1]) if device_id != "0" * 32 else 0
    )
    word = chance.choice(["announce"] * 10 + ["report"] * 8 + ["steer", "start", "retire", "signal", "token", "labels"])
    if word == "announce":
        said = devices.Announcement(name, 0, chance.choice([None, "ab" * 32]), 1, 1)
        return lambda s, now: devices.announce(s, now, claim, said)
    if word == "report":
        rollout = state.rollouts.get(name)
        position = rollout.position.get(index, 0) if rollout else 0
        ring = int(rollout.evidence.ring_at_lease[position]) if rollout else 1
        kind = chance.choice(["confirmed"] * 12 + ["reverted", "odd"])
        said = devices.Report(devices.lease_id(name, chance.choice([ring, ring, 1]), position), kind, 1, note="ü")
        return (lambda s, now: devices.report(s, now, claim, (said,) * chance.choice([1, 1, 2]))), frozenset({index})
    if word == "steer":
        verb = chance.choice(["pause", "resume", "resume", "resume", "abort"])
        return lambda s, now: acts.steer_rollout(s, now, BY, rollout=name, verb=verb)
    if word == "start":
        return starts(chance.choice([COMPONENT, OTHER]), caps={"site": 5})
    if word == "retire":
        return lambda s, now: acts.retire_device(s, now, BY, s.devices[index])
    if word == "signal":
        return lambda s, now: acts.signal_device(s, now, BY, s.devices[index])
    if word == "labels":
        return lambda s, now: acts.set_budget(now, BY, component=COMPONENT, max_harmed_30d=chance.randrange(5, 50))
    return lambda s, now: acts.create_token(
        now, BY, token_id=f"{now}", token_hash="x", labels={"site": "ATL"}, uses=1, expires_s=9
    )


@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 30))])
def test_a_replay_of_the_log_is_the_living_state_after_any_history(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random questions in random batches, time that jumps, and a disk that is full now and then."""
    monkeypatch.setattr(appending, "AGAIN_S", 0.01)
    monkeypatch.setattr(batch_fold, "LEAST", 2)  # so that these few reports are folded in columns too
    chance, plant = random.Random(seed), Plant(tmp_path)
    answers: list[Any] = []

    async def scene() -> None:
        controller = plant.controller
        async with running(controller) as work:
            await controller.ask(lambda state, now_ms: (enrolled(state, now_ms, 12), None))
            for component in (COMPONENT, OTHER):
                await controller.ask(released(plant, component))
                await controller.ask(starts(component))
            for turn in range(60):
                asked = [something(chance, plant, controller) for _ in range(chance.randrange(1, 12))]
                fill_disk(plant.log, turn % 9 == 8)
                answers.extend(await asyncio.gather(*(controller.ask(*one) for one in asked), return_exceptions=True))
                fill_disk(plant.log, False)
                plant.clock.ahead_s += chance.choice([0, 0.5, 1, 3, 12])
                if turn % 15 == 14:
                    await settled(controller)
                    same(controller, plant.log)
                assert not work.done(), work
            await settled(controller)
            same(controller, plant.log)

    asyncio.run(scene())
    broken = [answer for answer in answers if isinstance(answer, Exception) and not isinstance(answer, TidegateError)]
    assert not broken, broken[:3]
    assert sum(isinstance(answer, tuple) and len(answer) == 3 for answer in answers) > 4, "hardly a lease was given"
    assert any(isinstance(answer, NotYet) for answer in answers)
    plant.log.close()
    again = Plant(tmp_path)
    assert snapshot(again.controller.state) == snapshot(fold(event for _, event in again.log.read()))
    assert isinstance(again.clock, HandClock)
    again.log.close()


def test_it_ends_at_the_first_word_also_as_a_question_comes(tmp_path: Path) -> None:
    """The cancellation meets a question at each of the steps on its way; it must not get lost."""
    plant = Plant(tmp_path)

    async def scene() -> None:
        for steps in range(12):
            controller = Controller(plant.log, plant.publisher, plant.clock)
            work = asyncio.create_task(controller.run())
            await settled(controller)
            await asyncio.sleep(0.02)  # it waits for questions now
            asking = asyncio.create_task(controller.ask(lambda state, now_ms: ([], None)))
            for _ in range(steps):
                await asyncio.sleep(0)
            work.cancel()
            done, _ = await asyncio.wait([work, asking], timeout=60)
            assert len(done) == 2, f"after {steps} steps: {work}, {asking}"
            await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(scene())


def test_a_controller_whose_plans_were_overtaken_stops(tmp_path: Path) -> None:
    """It has the log still, as far as it knows; but another has signed plans, so it must not."""
    plant = Plant(tmp_path)

    async def scene() -> None:
        work = asyncio.create_task(plant.controller.run())
        assert await plant.controller.ask(note(1)) == 1
        while not plant.publisher.version:
            await asyncio.sleep(0.01)
        edition = Publisher(plant.home.repository, plant.home.keys).publish({}, int(time.time()))
        plant.controller.publish_soon()
        with pytest.raises(Fenced, match=f"edition {edition} .* another controller"):
            await asyncio.wait_for(work, 60)
        with pytest.raises(LogError):
            await plant.controller.ask(note(2))
        assert Publisher(plant.home.repository, plant.home.keys).version == edition

    asyncio.run(scene())


def test_what_its_predecessor_still_published_is_gone_past_once(tmp_path: Path) -> None:
    """The one it replaced was in the middle of a publication, and came to its end before this one's first."""
    plant = Plant(tmp_path)
    edition = Publisher(plant.home.repository, plant.home.keys).publish({}, int(time.time()))

    async def scene() -> None:
        async with running(plant.controller):
            while plant.publisher.version <= edition:
                await asyncio.sleep(0.01)
            assert await plant.controller.ask(note(1)) == 1
            assert plant.controller.trouble == ""

    asyncio.run(asyncio.wait_for(scene(), 60))
    assert Publisher(plant.home.repository, plant.home.keys).version > edition
