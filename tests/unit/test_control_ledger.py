"""The controller's side of the ledger: derived from the log, each event once and in order, over crashes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server import COMPONENT, Plant
from tests.unit.test_control_controller import fill_disk, note, running, settled

from tidegate.cli.ledger_home import open_ledger
from tidegate.control import acts
from tidegate.control.acts import Who
from tidegate.control.controller import Controller
from tidegate.control.ledger import Ledger
from tidegate.control.ledger_events import MOST_LEAVES, LedgerFold, entries_of
from tidegate.control.ledger_leaves import column_texts, leaf_text
from tidegate.core.errors import Untrusted
from tidegate.core.model import Arm, Manifest, Outcome, ReleaseTerms
from tidegate.core.wire import decode as decode_value
from tidegate.core.wire import plain
from tidegate.log.batch import unpack
from tidegate.log.events import Act, Enrolled, Event, Labelled, Leased, PlanPublished, Reported
from tidegate.log.pack import pack
from tidegate.log.port import LogError
from tidegate.log.sqlite import SqliteLog
from tidegate.trust.ledger import LedgerWriter, directory_fetch
from tidegate.trust.ledger_proof import parse_proof
from tidegate.trust.ledger_read import LedgerReader
from tidegate.trust.merkle import Tree, leaf_hash

BY = Who("ada", "test")


class LedgerPlant(Plant):
    """A control plane with its ledger."""

    def ledger(self) -> Ledger | None:
        return open_ledger(self.home)

    @property
    def ours(self) -> Ledger:
        assert self.controller.ledger is not None
        return self.controller.ledger

    def again(self) -> None:
        """Start anew on the same directory, as after a crash."""
        self.log.close()
        self.log = SqliteLog(self.home.log)
        self.controller = Controller(self.log, self.publisher, self.clock, ledger=self.ledger())

    def read(self) -> LedgerReader:
        return LedgerReader(directory_fetch(self.ours.directory), self.ours.key)

    def check(self) -> list[dict[str, Any]]:
        """What is published verifies, and is what the log gives."""
        found = self.read().verify()
        assert found == entries_of(self.log.read())
        return [json.loads(entry) for entry in found]


@pytest.fixture
def plant(tmp_path: Path) -> LedgerPlant:
    return LedgerPlant(tmp_path)


def limit(number: int) -> Any:
    return lambda state, now_ms: acts.set_budget(now_ms, BY, component=COMPONENT, max_harmed_30d=number)


def lease(index: int, at_ms: int, arm: Arm = Arm.TREATED) -> Leased:
    return Leased(
        at_ms=at_ms, rollout="r1", position=index, index=index, ring=1, arm=arm, late=False, installed=None,
        plan_version=1, attempt=1, seq=1, labels={"site": "ATL"},
    )  # fmt: skip


def word(index: int, at_ms: int) -> Reported:
    return Reported(
        at_ms=at_ms, rollout="r1", position=index, index=index, ring=1, outcome=Outcome.CONFIRMED, seq=2, boot_s=1,
        probes=[], note="",
    )  # fmt: skip


def act(number: int) -> Act:
    return Act(at_ms=number, what="note", who="ada", why="x", body={"secret": "s3cret", "number": number})


def events(seed: int, count: int = 400) -> Iterator[tuple[int, Event]]:
    rng = random.Random(seed)
    for seq in range(1, count + 1):
        made: list[Event] = [lease(seq, seq), word(seq, seq), act(seq)]
        yield seq, rng.choices(made, weights=[10, 10, 1])[0]


def test_each_event_is_covered_once_and_in_order() -> None:
    fold = LedgerFold(keep=True)
    covered: list[int] = []
    for seq, event in events(1):
        for made in fold.feed(seq, event):
            value = json.loads(made.entry)
            if value["kind"] == "segment":
                inside = [json.loads(text)["log_seq"] for text in made.leaves]
                assert inside[0] == value["log_seq"]
                assert len(inside) == value["events"]
                assert Tree(map(leaf_hash, made.leaves)).root().hex() == value["root"]
                covered += inside
            else:
                covered.append(value["log_seq"])
    covered += [json.loads(text)["log_seq"] for text in fold.open_leaves]
    assert covered == list(range(1, 401))


def test_leaves_read_for_ever_as_they_do_now() -> None:
    leased = (
        b'{"v":1,"kind":"leased","log_seq":7,"at_ms":2,"rollout":"r1","index":5,"ring":1,"arm":"treated","late":false,'
        b'"installed":null}'
    )
    reported = (
        b'{"v":1,"kind":"reported","log_seq":7,"at_ms":2,"rollout":"r1","index":5,"ring":1,"outcome":"confirmed",'
        b'"boot_s":1,"note":""}'
    )
    for event, text in ((lease(5, 2), leased), (word(5, 2), reported)):
        assert leaf_text(7, event) == text
        assert column_texts(7, unpack(pack([event]))) == ([text], [event.at_ms])
    assert leaf_text(1, act(1)) is None


@pytest.mark.parametrize("seed", range(4))
def test_records_give_the_entries_that_their_events_give(seed: int) -> None:
    """Runs of leases and of reports, longer than a segment now and then, between acts and plans."""
    rng, made = random.Random(seed), list[Event]()
    plan = PlanPublished(at_ms=2, component=COMPONENT, rollout="r1", version=1, plan={})
    while len(made) < 20_000:
        run = rng.choice([0, 1, 3, 500, 3000])
        kind = rng.choice([lease, word])
        made += [kind(index, len(made) + index) for index in range(run)]
        made += rng.choices([act(1), plan, word(1, 3)], weights=[1, 3, 3], k=rng.choice([0, 0, 1, 2]))
    fold, found, at = LedgerFold(), list[bytes](), 0
    while at < len(made):
        some = made[at : at + rng.choice([1, 50, 4096])]
        found += [one.entry for one in fold.feed_batch(at + 1, unpack(pack(some)))]
        at += len(some)
    assert found == entries_of(enumerate(made, 1))
    assert fold.seen == len(made)


def test_a_segment_is_cut_when_it_is_large_though_nothing_is_decided() -> None:
    made = entries_of((seq, lease(seq, seq)) for seq in range(1, 2 * MOST_LEAVES + 10))
    assert [json.loads(entry)["events"] for entry in made] == [MOST_LEAVES, MOST_LEAVES]


def test_what_a_device_said_last_is_covered_by_the_next_renewal_of_a_plan() -> None:
    plan = PlanPublished(at_ms=2, component=COMPONENT, rollout="r1", version=1, plan={})
    made = entries_of(enumerate([plan, plan, word(1, 3), plan, plan], 1))
    assert [(json.loads(entry)["log_seq"], json.loads(entry)["events"]) for entry in made] == [(1, 4)]


def test_nothing_of_a_device_and_no_secret_is_published() -> None:
    enrolled = Enrolled(
        at_ms=1, index=7, device_id="d" * 32, public_key="k", token_id="t", labels={"site": "ATL"}, facts={}
    )
    labelled = Labelled(at_ms=4, index=7, labels={"site": "CDG"}, who="ada", why="moved")
    text = b"".join(entries_of(enumerate([enrolled, lease(7, 2), act(3), labelled, act(5)], 1))).decode()
    for word_ in ("d" * 32, "ATL", "CDG", "treated", "s3cret"):
        assert word_ not in text
    assert "body_sha256" in text


def test_what_the_controller_appends_is_in_the_ledger(plant: LedgerPlant) -> None:
    async def scene() -> None:
        async with running(plant.controller):
            await asyncio.gather(*(plant.controller.ask(limit(n)) for n in range(1, 40)))
            await plant.controller.ask(note(1))
            await settled(plant.controller)

    asyncio.run(scene())
    found = plant.check()
    assert [entry["max_harmed_30d"] for entry in found if entry["kind"] == "budget"] == list(range(1, 40))
    assert found[-1]["what"] == "note"
    plant.again()
    assert len(plant.check()) == len(found)


def test_a_release_has_its_proof_beside_the_ledger(plant: LedgerPlant) -> None:
    draft = plant.draft(1)
    terms = ReleaseTerms(1, "0" * 32, _speed())
    body = {"digest": "ab" * 32, "manifest": plain(draft.manifest), "terms": plain(terms)}

    async def scene() -> None:
        async with running(plant.controller):
            await plant.controller.ask(
                lambda state, now_ms: ([Act(at_ms=now_ms, what="release_logged", who="a", why="", body=body)], None)
            )
            await settled(plant.controller)

    asyncio.run(scene())
    place = plant.ours.directory / "releases"
    for _ in range(2):
        proof = parse_proof((place / f"{'ab' * 32}.tlog-proof").read_bytes())
        text = (place / f"{'ab' * 32}.json").read_bytes()
        proof.verify(text, plant.ours.key)
        assert json.loads(text)["digest"] == "ab" * 32
        for path in place.iterdir():  # a restart lays it there anew
            path.unlink()
        plant.again()
    assert decode_value(Manifest, json.dumps(body["manifest"]), "manifest") == draft.manifest


def _speed() -> Any:
    from tidegate.core.assign import SHARE_ONE
    from tidegate.core.model import SpeedLimit

    return SpeedLimit(((0, SHARE_ONE),), 1, 10_000_000_000)


def test_what_was_durable_and_not_yet_in_the_ledger_enters_at_the_next_start(plant: LedgerPlant) -> None:
    plan = PlanPublished(at_ms=2, component=COMPONENT, rollout="r1", version=1, plan={})
    plant.log.append([act(1), plan, act(3)])  # the power went between the log and the ledger
    plant.again()
    assert plant.read().checkpoint.size == 0

    async def scene() -> None:
        async with running(plant.controller):
            await settled(plant.controller)

    asyncio.run(scene())
    assert [entry["kind"] for entry in plant.check()[:3]] == ["act", "segment", "act"]


def test_a_full_log_leaves_nothing_in_the_ledger_and_what_follows_stands(plant: LedgerPlant) -> None:
    async def scene() -> None:
        async with running(plant.controller):
            await plant.controller.ask(note(1))
            fill_disk(plant.log, True)
            with contextlib.suppress(LogError):
                for number in range(200):
                    await plant.controller.ask(note(1000 + number, 5000))
            fill_disk(plant.log, False)
            await plant.controller.ask(note(2))
            await settled(plant.controller)

    asyncio.run(scene())
    plant.check()


def test_an_append_that_came_through_after_all_is_taken_up(plant: LedgerPlant) -> None:
    class Doubtful(SqliteLog):
        doubt = False

        def append(self, events: Any) -> int:
            last = super().append(events)
            if self.doubt:
                raise LogError("not known to be durable")
            return last

    plant.log.close()
    plant.log = log = Doubtful(plant.home.log)
    plant.controller = Controller(log, plant.publisher, plant.clock, ledger=plant.ledger())

    async def scene() -> None:
        async with running(plant.controller):
            await settled(plant.controller)
            log.doubt = True
            with pytest.raises(LogError):
                await plant.controller.ask(note(1))
            log.doubt = False
            await plant.controller.ask(note(2))
            await settled(plant.controller)

    asyncio.run(scene())
    assert [entry["log_seq"] for entry in plant.check()] == [1, 2]


def test_a_ledger_that_cannot_be_written_is_said_and_the_controller_goes_on(
    plant: LedgerPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.control.ledger.AGAIN_S", 0.0)
    tile = plant.ours.directory / "tile"

    async def scene() -> None:
        async with running(plant.controller):
            await settled(plant.controller)
            tile.write_text("in the way")
            await plant.controller.ask(note(1))
            await settled(plant.controller)
            assert "the ledger could not be written" in plant.controller.trouble
            assert await plant.controller.ask(note(2)) == 2
            tile.unlink()
            await settled(plant.controller)
            assert plant.controller.trouble == ""

    asyncio.run(scene())
    assert len(plant.check()) == 2


def test_a_log_that_is_back_does_not_hide_that_the_ledger_cannot_be_written(
    plant: LedgerPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.control.appending.LOOK_EVERY_S", 0.0)
    away: list[LogError] = []

    def check() -> None:
        if away:
            raise away[0]

    monkeypatch.setattr(plant.log, "check", check)
    (plant.ours.directory / "tile").write_text("in the way")

    async def until(said: str) -> None:
        while said not in plant.controller.why_not_ready:
            await asyncio.sleep(0.01)

    async def scene() -> None:
        async with running(plant.controller):
            await plant.controller.ask(note(1))
            await asyncio.wait_for(until("the ledger could not be written"), 30)
            away.append(LogError("the log is away"))
            await asyncio.wait_for(until("the log is away"), 30)
            away.clear()
            while plant.controller.full:
                await asyncio.sleep(0.01)
            assert "the ledger could not be written" in plant.controller.why_not_ready

    asyncio.run(scene())


@pytest.mark.parametrize("other", [[act(1), act(9)], [act(1)], [act(2), act(1)]], ids=["edited", "cut", "reordered"])
def test_a_log_that_was_changed_behind_the_ledger_is_refused(plant: LedgerPlant, other: list[Event]) -> None:
    plant.log.append([act(1), act(2)])
    plant.again()
    plant.ours.publish()
    assert plant.read().checkpoint.size == 2
    plant.log.close()
    for path in plant.home.log.parent.glob("log.db*"):
        path.unlink()
    plant.log = SqliteLog(plant.home.log)
    plant.log.append(other)
    with pytest.raises(Untrusted, match="log"):
        plant.again()


def test_a_control_plane_without_a_key_serves_without_a_ledger(plant: LedgerPlant) -> None:
    (plant.home.keys / "ledger.pem").unlink()
    plant.again()
    assert plant.controller.ledger is None

    async def scene() -> int:
        async with running(plant.controller):
            return await plant.controller.ask(note(5))

    assert asyncio.run(scene()) == 5


def test_reports_do_not_wait_for_the_ledgers_files_and_a_plan_does(
    plant: LedgerPlant, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, began, stood = threading.Event(), threading.Event(), list[bool]()
    write, publish = LedgerWriter.publish, plant.publisher.publish

    def slowly(self: LedgerWriter) -> int:
        began.set()
        assert gate.wait(90)
        return write(self)

    def stands(*args: Any) -> Any:
        stood.append(gate.is_set())
        return publish(*args)

    def report(number: int) -> Any:  # an act is an entry of its own, so that there is something to write each time
        return lambda state, now_ms: ([act(number)], number)

    async def scene() -> None:
        async with running(plant.controller):
            await settled(plant.controller)
            monkeypatch.setattr(LedgerWriter, "publish", slowly)
            monkeypatch.setattr(plant.publisher, "publish", stands)
            monkeypatch.setattr("tidegate.control.controller.LOOK_EVERY_S", 0.0)
            for number in range(20):
                said = plant.controller.ask(report(number), frozenset({number}))
                assert await asyncio.wait_for(said, 60) == number
            assert began.is_set()
            assert plant.ours.waiting
            plant.controller.publish_soon()
            await plant.controller.ask(report(20), frozenset({20}))
            await asyncio.sleep(0.1)
            assert not stood
            gate.set()
            while not stood:
                await plant.controller.ask(note(2))
            assert stood == [True]
            await settled(plant.controller)
            assert not plant.ours.waiting

    asyncio.run(scene())
    assert len(plant.check()) > 20
