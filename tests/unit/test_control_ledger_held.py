"""A start takes from the ledger's own files what they hold, and gives the ledger that the whole log gives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.server import COMPONENT, Plant
from tests.unit.test_control_ledger import act, lease, word

from tidegate.cli.ledger import verify
from tidegate.cli.ledger_home import open_ledger
from tidegate.control import ledger_held
from tidegate.control.ledger import Ledger
from tidegate.control.ledger_events import LedgerFold, entries_of
from tidegate.control.ledger_held import held
from tidegate.core.errors import BadInput, Untrusted
from tidegate.log.batch import Batch
from tidegate.log.events import Event, PlanPublished, Reported
from tidegate.log.sqlite import SqliteLog
from tidegate.trust.ledger import directory_fetch
from tidegate.trust.ledger_read import LedgerReader
from tidegate.trust.merkle import leaf_hash
from tidegate.trust.tiles import WIDTH, entries_path, pack_entries, tile_path


def events(seed: int, count: int) -> list[Event]:
    rng, made = random.Random(seed), list[Event]()
    plan = PlanPublished(at_ms=2, component=COMPONENT, rollout="r1", version=1, plan={})
    while len(made) < count:
        run = rng.choice([0, 1, 3, 40])
        kind = rng.choice([lease, word])
        made += [kind(index, len(made) + index) for index in range(run)]
        made += rng.choices([act(len(made)), plan, word(1, 3)], weights=[2, 3, 3], k=rng.choice([0, 1, 2]))
    return made[:count]


class Alone:
    """A ledger and its log, with no state beside it: what it says needs no rollout to be real."""

    def __init__(self, place: Path) -> None:
        plant = Plant(place)
        plant.log.close()
        self.home = plant.home
        self.log = SqliteLog(place / "own.db")
        self.again()

    def again(self, *, whole: bool = False) -> None:
        """Start anew on the same directory, as after a crash."""
        found = open_ledger(self.home)
        assert found is not None
        for _ in found.begin(self.log, whole=whole):
            pass
        self.ours: Ledger = found

    @property
    def entries(self) -> list[bytes]:
        return list(self.ours._open.entries)

    def check(self) -> None:
        """What is published verifies, and is what the log gives."""
        read = LedgerReader(directory_fetch(self.ours.directory), self.ours.key)
        assert read.verify() == self.entries == entries_of(self.log.read())

    def grow(self, made: list[Event], size: int = 30) -> None:
        """A life of many starts: each appends some, publishes, and is checked against the whole log."""
        for at in range(0, len(made), size):
            self.log.append(made[at : at + size])
            self.again()
            self.ours.publish()
            self.check()

    def change(self, made: list[Event]) -> None:
        """Put another log in the place of this one."""
        self.log.close()
        self.log = SqliteLog(self.home.path / f"other-{len(made)}.db")
        self.log.append(made)


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Alone:
    monkeypatch.setattr(ledger_held, "LATELY", 10)
    monkeypatch.setattr("tidegate.control.ledger_events.MOST_LEAVES", 16)
    return Alone(tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_each_start_goes_on_from_the_files_and_gives_what_the_whole_log_gives(
    alone: Alone, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    fed: set[int] = set()
    many, batch = LedgerFold.feed_many, LedgerFold.feed_batch

    def feed_many(self: LedgerFold, first: int, events: Sequence[Event]) -> object:
        fed.update(range(first, first + len(events)))
        return many(self, first, events)

    def feed_batch(self: LedgerFold, first: int, record: Batch) -> object:
        fed.update(range(first, first + record.count))
        return batch(self, first, record)

    made = events(seed, 600)
    alone.grow(made)
    monkeypatch.setattr(LedgerFold, "feed_many", feed_many)
    monkeypatch.setattr(LedgerFold, "feed_batch", feed_batch)
    alone.again()
    assert fed == set(range(min(fed), 601))
    assert 300 < min(fed) <= 600 - 10
    assert alone.entries == entries_of(enumerate(made, 1))


@pytest.mark.parametrize("seed", range(3))
def test_at_every_point_of_a_log_the_files_give_a_place_to_go_on_from(alone: Alone, seed: int) -> None:
    made = events(seed, 200)
    alone.grow(made, 200)
    entries = entries_of(enumerate(made, 1))
    ours = alone.ours
    places: set[int] = set()
    for last in range(11, 205):
        found = held(ours.directory, alone.home.path / "ledger.checkpoint", ours.key, last)
        places.add(found.seen)
        assert found.seen <= last - 10
        fold = LedgerFold(seen=found.seen)
        rest = [one.entry for seq, event in enumerate(made, 1) if seq > found.seen for one in fold.feed(seq, event)]
        assert [*found.entries, *rest] == entries
    assert len(places) > 10


@pytest.mark.parametrize("how", ["edited", "gone", "added", "end"])
def test_an_act_that_was_changed_long_ago_is_found_at_a_start(alone: Alone, how: str) -> None:
    made: list[Event] = [act(1), *(word(n, n) for n in range(2, 20)), act(20), *(word(n, n) for n in range(21, 100))]
    alone.grow(made, 99)
    if how == "edited":
        made[19] = act(99)
    elif how == "gone":
        made[19] = word(20, 20)
    elif how == "added":
        made[10] = act(11)
    else:
        made[75] = word(1, 76)
        made += [act(100)]
    alone.change(made)
    with pytest.raises(Untrusted, match="the log gives another ledger"):
        alone.again()


def test_a_devices_word_of_long_ago_is_held_against_the_ledger_by_whoever_reads_it_whole(alone: Alone) -> None:
    made: list[Event] = [word(n, n) for n in range(1, 100)]
    alone.grow(made, 99)
    made[3] = word(50, 4)
    alone.change(made)
    alone.again()
    with pytest.raises(Untrusted, match="another ledger"):
        alone.again(whole=True)


@pytest.mark.parametrize("what", ["entries", "0", "checkpoint", "all", "memory"])
def test_files_that_are_damaged_or_gone_are_written_anew_from_the_whole_log(alone: Alone, what: str) -> None:
    made = events(7, 300)
    alone.grow(made, 300)
    ours, memory = alone.ours, alone.home.path / "ledger.checkpoint"
    assert held(ours.directory, memory, ours.key, 300).seen > 200
    for path in sorted(ours.directory.rglob("*")):
        if path.is_file() and (what == "all" or what in str(path.relative_to(ours.directory))):
            path.write_bytes(path.read_bytes()[:-3] + b"xyz")
    if what in ("all", "memory"):
        memory.unlink()
    if what != "memory":
        found = held(ours.directory, memory, ours.key, 300)
        assert found.seen == 0 or what == "checkpoint"
    alone.again()
    alone.ours.publish()
    alone.check()


def test_the_whole_log_is_compared_when_a_person_asks(alone: Alone, capsys: pytest.CaptureFixture[str]) -> None:
    made = events(5, 200)
    alone.log.close()
    alone.log = SqliteLog(alone.home.log)
    alone.grow(made, 200)
    alone.log.close()
    verify(home=alone.home.path, log=True)
    assert "The log gives the same entries" in capsys.readouterr().out
    with pytest.raises(BadInput, match="--log"):
        verify(source="x", key="y", log=True)
    at = next(at for at, event in enumerate(made) if isinstance(event, Reported))
    for changed, said in (([*made[:at], word(999, 1), *made[at + 1 :]], "another entry"), (made[:90], "lost its end")):
        for path in alone.home.log.parent.glob("log.db*"):
            path.unlink()
        alone.log = SqliteLog(alone.home.log)
        alone.log.append(changed)
        alone.log.close()
        with pytest.raises(Untrusted, match=said):
            verify(home=alone.home.path, log=True)


def test_an_entry_that_was_edited_together_with_its_hash_is_not_believed(alone: Alone) -> None:
    """Tiles that agree with each other prove nothing: what is believed is what the signed root says."""
    alone.grow(events(7, 300), 300)
    directory, memory, key = alone.ours.directory, alone.home.path / "ledger.checkpoint", alone.ours.key
    size = alone.ours.checkpoint.size
    assert size < WIDTH
    edited = [alone.entries[0].replace(b'"at_ms":', b'"at_ms":1'), *alone.entries[1:]]
    assert edited != alone.entries
    (directory / entries_path(0, size)).write_bytes(pack_entries(edited))
    (directory / tile_path(0, 0, size)).write_bytes(b"".join(map(leaf_hash, edited)))
    assert held(directory, memory, key, 300).seen == 0
    alone.again()
    alone.ours.publish()
    alone.check()
