"""Folding in columns gives what folding one by one gives, whatever the cuts; devices in columns are what they were."""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest
from tests.rollouts import Course, ids_of, spec_of
from tests.rollouts import Fleet as Driven
from tests.snapshots import difference, snapshot

from tidegate.control import batch_fold
from tidegate.control.acts import Who
from tidegate.control.batch_fold import fold_batches
from tidegate.control.fleet import Fleet
from tidegate.control.key_index import KeyIndex
from tidegate.control.quarantine import quarantine
from tidegate.control.state import ServerState, fold
from tidegate.core.assign import device_key, mix64
from tidegate.core.caps import Cap
from tidegate.core.model import Outcome
from tidegate.core.rollout import RolloutSpec
from tidegate.core.roster import Positions, Roster
from tidegate.core.waiting import Waiting
from tidegate.core.wire import plain, read
from tidegate.log.batch import unpack
from tidegate.log.events import Act, Enrolled, Event, Reported
from tidegate.log.pack import pack


class Recorded(Driven):
    """A fleet whose events are kept."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self.events: list[Event] = []
        super().__init__(*args, **more)

    def fold(self, *events: Event) -> None:
        self.events += events
        super().fold(*events)


@cache
def history(seed: int) -> list[Event]:
    """Two rollouts at once among 60 devices: leases of both arms, late ones, reverted ones, some set aside."""
    chance = random.Random(seed)
    labels = {n: {"site": f"s{n % 5}", "service": f"v{n % 3}", "lane": f"l{n % 2}"} for n in range(60)}
    fleet = Recorded(60, labels, seed=seed)
    caps = (Cap("site", 4),)
    courses = [
        fleet.start(spec_of(60, rollout="r1", component="a", max_harmed=12, caps=caps, cap_rounds=3)),
        fleet.start(spec_of(60, rollout="r2", component="b", max_harmed=20, placebo_per_treated=2.0, caps=caps)),
    ]
    for _ in range(25):
        for course in courses:
            course.look()
            for position in chance.sample(range(60), 30):
                course.announce(position)
            fleet.now_ms += chance.choice([1, 100, 4000])
            for position in chance.sample(range(60), 30):
                course.report(position, chance.choice([Outcome.CONFIRMED] * 20 + [Outcome.REVERTED]))
    liars = [7, *range(1, 60, 5)]
    fleet.fold(*quarantine(fleet.state, fleet.now_ms, Who("ada", "liars"), group="site=s1", devices=[7])[0])
    for course in courses:  # what came from liars before the act was known everywhere
        rings = course.rollout.evidence.ring_at_lease.tolist()
        fleet.fold(*(_said(course, fleet.now_ms, liar, rings[liar], good=n % 2 == 0) for n, liar in enumerate(liars)))
    return fleet.events


def _said(course: Course, at_ms: int, position: int, ring: int, *, good: bool) -> Reported:
    return Reported(
        at_ms=at_ms,
        rollout=course.spec.rollout,
        position=position,
        index=position,
        ring=ring,
        outcome=Outcome.CONFIRMED if good else Outcome.REVERTED,
        seq=1,
        boot_s=0,
        probes=[],
        note="",
    )


def cut(events: list[Event], chance: random.Random) -> Iterable[tuple[int, Any]]:
    at = 0
    while at < len(events):
        size = chance.choice([1, 2, 20, 50, 300])
        yield at + 1, unpack(pack(events[at : at + size]))
        at += size


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("least", [1, 16])
def test_any_cut_into_records_folds_to_the_same_state(seed: int, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    events = history(seed)
    monkeypatch.setattr(batch_fold, "LEAST", least)
    one = fold(events)
    assert sum(rollout.evidence.exposed for rollout in one.rollouts.values()) > 10
    assert any(rollout.aside or rollout.evidence.aside for rollout in one.rollouts.values())
    assert one.rollouts["r1"].granted_ms
    many = fold_batches(cut(events, random.Random(seed)))
    assert difference(snapshot(one), snapshot(many)) == ""
    for name, rollout in one.rollouts.items():
        for ahead in (0, 500, 3000, 10**6, 2000):
            now_ms = one.last_ms + ahead
            other = many.rollouts[name].evidence
            assert rollout.evidence.silent(now_ms, 1000) == other.silent(now_ms, 1000)
            assert rollout.evidence.waiting(now_ms, 1000) == other.waiting(now_ms, 1000)


def test_waiting_counts_what_a_plain_list_counts() -> None:
    chance = random.Random(5)
    waiting, books, until = Waiting(), list[int](), 0
    for _ in range(3000):
        until += chance.choice([0, 0, 0, 5])
        if books and chance.random() < 0.45:
            waiting.add(books.pop(chance.randrange(len(books))), -1)
        elif chance.random() < 0.5:
            made = [until + chance.randrange(-20, 60) for _ in range(chance.randrange(1, 9))]
            waiting.add_many(np.array(made, dtype=np.int64))
            books += made
        else:
            books.append(until + chance.randrange(-20, 60))
            waiting.add(books[-1])
        look = until + chance.choice([0, 0, 0, -30])
        assert waiting.silent(look) == sum(ms <= look for ms in books)
        assert waiting.pending == len(books)


@pytest.mark.parametrize("most_recent", [0, 100, 65_536])
def test_the_key_index_finds_what_a_dict_finds(most_recent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.control.key_index.MOST_NOTED", most_recent)
    chance = random.Random(1)
    index, books = KeyIndex(), dict[str, int]()
    for number in range(5000):
        key = (chance.randbytes(32) if number % 7 else chance.randbytes(1) * 32).hex()
        if number % 11 == 0:
            key = f"odd {number}"
        index.add(key, number)
        books[key] = number
        if number % 97 == 0:
            assert index.find(key) == number
    several = np.frombuffer(chance.randbytes(3000 * 32), dtype=">u8").reshape(-1, 4).astype(np.uint64)
    index.add_many(5000, several)
    books |= {row.astype(">u8").tobytes().hex(): 5000 + at for at, row in enumerate(several)}
    assert all(index.find(key) == number for key, number in books.items())
    assert all(index.key_of(number) == key for key, number in books.items())
    assert index.find("12" * 31 + "13") is None
    assert index.key_of(10**6) == ""


@pytest.mark.parametrize("most_recent", [0, 100, 65_536])
@pytest.mark.parametrize("bits", [64, 3, 0])
def test_the_key_index_finds_many_as_it_finds_one(most_recent: int, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few bits of their hashes, keys lie so close in the list that each must be told from its neighbours."""
    monkeypatch.setattr("tidegate.control.key_index.MOST_NOTED", most_recent)
    monkeypatch.setattr(
        "tidegate.control.key_index.mix64", lambda words: mix64(words) & np.uint64(-1 << (64 - bits) & (1 << 64) - 1)
    )
    chance = random.Random(2)
    index, one_by_one = KeyIndex(), KeyIndex()
    asked = [bytes(32), chance.randbytes(32)]
    for number in range(300):
        key = chance.choice([chance.randbytes(32), chance.randbytes(1) * 32, bytes(32)])
        for into in (index, one_by_one):
            into.add(key.hex(), number)
        asked += [key, chance.randbytes(32)]
        if number % 60 == 0:
            words = np.frombuffer(b"".join(asked), dtype=">u8").reshape(-1, 4).astype(np.uint64)
            expected = [-1 if (found := one_by_one.find(key.hex())) is None else found for key in asked]
            assert index.find_many(words).tolist() == expected
    assert index.find_many(np.empty((0, 4), dtype=np.uint64)).tolist() == []


def test_enrolments_among_other_events_are_folded_as_one_by_one() -> None:
    token = Act(at_ms=0, what="token_created", who="x", why="",
                body={"token_id": "t", "hash": "", "labels": {}, "uses": 9, "expires_ms": 0})  # fmt: skip
    other = Act(at_ms=1, what="token_created", who="x", why="",
                body={"token_id": "u", "hash": "", "labels": {}, "uses": 9, "expires_ms": 0})  # fmt: skip
    enrolled = [
        Enrolled(at_ms=at, index=at, device_id=name, public_key=f"{at % 90 + 1:064x}" if at % 4 else "",
                 token_id="tu"[at > 50], labels={"site": f"s{at % 3}"}, facts={})
        for at, name in enumerate(ids_of(100))
    ]  # fmt: skip
    events = [token, *enrolled[:40], other, *enrolled[40:45], token, *enrolled[45:]]
    state = ServerState()
    batch_fold.fold_events(state, events)
    assert not difference(snapshot(state), snapshot(fold(events)))


def test_a_fleet_shows_each_device_as_it_was_enrolled_and_changed() -> None:
    fleet, names = Fleet(), ids_of(3000)
    for index, name in enumerate(names):
        labels, facts = {"site": f"s{index % 7}"}, {"os": "x"}
        fleet.add(
            Enrolled(
                at_ms=1000 + index,
                index=index,
                device_id=name,
                public_key=f"key {index}",
                token_id=f"t{index % 3}",
                labels=labels,
                facts=facts,
            )
        )
    fleet.run(5, "a", "d" * 64)
    fleet.relabel(6, {"site": "elsewhere"})
    fleet.heard(7, 3, 9000)
    fleet.heard(7, 2, 9001)
    row = fleet[2999]
    assert (row.device.device_id, row.device.key, row.device.labels) == (
        names[2999],
        device_key(names[2999]),
        {"site": "s3"},
    )
    assert (row.token_id, row.enrolled_ms, row.facts) == ("t2", 3999, {"os": "x"})
    assert fleet.by_public_key("key 2999") == 2999
    assert fleet.by_public_key("key 3000") is None
    assert fleet[5].installed == {"a": "d" * 64}
    assert np.flatnonzero(fleet.runs("a", "d" * 64)).tolist() == [5]
    assert np.flatnonzero(fleet.labelled({"site": "elsewhere"})).tolist() == [6]
    assert int(fleet.labelled({"site": "s0"}).sum()) == 429
    assert (fleet[7].last_seq, fleet[7].last_heard_ms) == (3, 9000)
    assert fleet.starting_with(names[77]) == [77]
    for digits in (names[5][:4], names[5][:5], names[5][:7], "0", "zz"):
        assert fleet.starting_with(digits, 9999) == [n for n, name in enumerate(names) if name.startswith(digits)]
    with pytest.raises(IndexError):
        fleet[3000]


@pytest.mark.parametrize("size", [1, 1000, 1001, 50_000])
def test_a_roster_is_read_again_from_its_short_form(size: int) -> None:
    chosen = np.sort(np.random.default_rng(size).choice(100_000, size, replace=False))
    spec = spec_of(5, roster=tuple(chosen.tolist()))
    again = read(RolloutSpec, plain(spec), "spec")
    assert again == spec
    assert list(again.roster) == chosen.tolist()
    rows = Positions(again.roster)
    assert [rows[int(index)] for index in chosen[:50]] == list(range(min(size, 50)))
    assert rows.get(100_001) is None
    assert (int(chosen[0]) in rows) and (-1 not in rows)


@pytest.mark.parametrize(
    "value", [{"steps": "!", "devices": 1}, {"devices": 2}, "x", ["a"], [1.5], [-1], [1 << 31], {}]
)
def test_what_is_no_roster_is_refused(value: object) -> None:
    with pytest.raises(Exception, match="roster"):
        Roster.from_plain(value, "spec.roster")
