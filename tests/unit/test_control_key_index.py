"""Devices found by their keys: what a plain dict finds, at every moment, and no question moves much of a long list."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest
from bench import _fleets as fleets
from tests.server import Plant

from tidegate.control import key_index, scratch, sorted_list
from tidegate.control.checkpoints import Checkpoints
from tidegate.control.controller import Controller
from tidegate.control.fleet import Fleet
from tidegate.control.following import Following
from tidegate.control.graph import read_graph, write_graph
from tidegate.control.key_index import KeyIndex, Words
from tidegate.core.assign import mix64

pytestmark = pytest.mark.room("control")
SLICE = 16


class Desk:
    """An index, and a dict that is told the same."""

    def __init__(self, place: Path, seed: int) -> None:
        self.chance, self.place = random.Random(seed), place
        self.index, self.books = KeyIndex(str(place)), dict[bytes, int]()
        self.known: list[bytes] = []
        self.number = 0

    def key(self) -> bytes:
        """A key: fresh, one that another device has too, or none."""
        kind = self.chance.random()
        if kind < 0.15 and self.known:
            return self.chance.choice(self.known)
        return bytes(32) if kind < 0.2 else self.chance.randbytes(32)

    def add(self, count: int) -> None:
        keys = [self.key() for _ in range(count)]
        if count == 1 and any(keys[0]):
            self.index.add(keys[0].hex(), self.number)
        else:
            self.index.add_many(self.number, words(keys))
        self.books |= {key: self.number + at for at, key in enumerate(keys) if any(key)}
        self.known += [key for key in keys if any(key)]
        self.number += count

    def ask(self, count: int) -> None:
        few = self.chance.choices(self.known, k=count) if self.known else []
        few += [self.chance.randbytes(32) for _ in range(3)]
        if self.chance.random() < 0.5:
            assert self.index.find_many(words(few)).tolist() == [self.books.get(key, -1) for key in few]
        else:
            assert [self.index.find(key.hex()) for key in few] == [self.books.get(key) for key in few]

    def keep(self) -> None:
        """Write it into a checkpoint as it is, in the middle of whatever it does, and go on with what is read."""
        path = self.place / "kept"
        with path.open("wb") as file:
            write_graph(file, {"index": self.index}, bytes(32), self.index.rows_in_files())
        self.index = read_graph(path, str(self.place))["index"]


def words(keys: list[bytes]) -> Words:
    return np.frombuffer(b"".join(keys), dtype=">u8").reshape(-1, 4).astype(np.uint64)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is said in tens of thousands, in tens: files, lists, slices."""
    monkeypatch.setattr(scratch, "LEAST_BYTES", 256)
    monkeypatch.setattr(sorted_list, "SLICE", SLICE)
    monkeypatch.setattr(key_index, "LEAST_FRESH", 40)
    monkeypatch.setattr(key_index, "MOST_NOTED", 7)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("bits", "rounds"), [(64, 250), (6, 250), (0, 40)], ids=["hashes", "few hashes", "one hash"])
@pytest.mark.parametrize("seed", range(2))
def test_it_finds_what_a_dict_finds_at_every_moment(
    tmp_path: Path, seed: int, bits: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.uint64(-1 << (64 - bits) & (1 << 64) - 1)
    monkeypatch.setattr(key_index, "mix64", lambda given: mix64(given) & mask)
    desk = Desk(tmp_path, seed)
    busy = 0
    for _ in range(rounds):
        desk.add(desk.chance.choice([0, 1, 1, 1, 5, 30, 100]) if desk.chance.random() < 0.7 else 0)
        desk.ask(desk.chance.choice([0, 1, 9]))
        if desk.chance.random() < 0.1:
            desk.keep()
        busy += desk.index._sorted.busy  # pyright: ignore[reportPrivateUsage]
    assert busy > rounds / 4, "much of this is about lists that are on their way"
    assert [desk.index.find(key.hex()) for key in desk.known] == [desk.books[key] for key in desk.known]
    assert desk.index.find_many(words(desk.known)).tolist() == [desk.books[key] for key in desk.known]


@pytest.mark.usefixtures("small")
def test_no_question_moves_more_than_a_part_of_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a long import, in parts: what one part waits for does not grow with all that has been entered."""
    moved: list[int] = []
    whole = sorted_list.merged

    def counted(one: Words, other: Words, into: Words) -> None:
        moved[-1] += len(into)
        whole(one, other, into)

    monkeypatch.setattr(sorted_list, "merged", counted)
    monkeypatch.setattr(key_index, "merged", counted)
    monkeypatch.setattr(sorted_list, "SLICE", 500)
    desk = Desk(tmp_path, 1)
    for _ in range(2000):
        keys = [desk.chance.randbytes(32) for _ in range(10)]
        moved.append(0)
        assert (desk.index.find_many(words(keys)) == -1).all()
        desk.index.add_many(desk.number, words(keys))
        desk.number += 10
    for at, count in enumerate(moved):
        waits = max(40, 10 * at // key_index.FRESH_SHARE)
        assert count <= 2 * 500 + 2 * waits, f"part {at} moved {count} of {10 * at} entries"
    assert sum(moved) > 10 * desk.number, "much is moved, a little at a time"


@pytest.mark.parametrize("how", ["controller", "standby"])
def test_after_a_start_nobody_waits_until_all_keys_are_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    plant = Plant(tmp_path)
    plant.log.append_records(list(fleets.enrolments(3000)))
    fleet = started(plant) if how == "controller" else followed(plant)
    sizes: list[int] = []
    whole = key_index._entries  # pyright: ignore[reportPrivateUsage]

    def counted(keys: Words, first: int) -> Words:
        sizes.append(len(keys))
        return whole(keys, first)

    monkeypatch.setattr(key_index, "_entries", counted)
    assert fleet.by_public_key(fleet.public_key(77)) == 77
    assert not sizes


def started(plant: Plant) -> Fleet:
    return Controller(plant.log, plant.publisher, plant.clock).state.devices


def followed(plant: Plant) -> Fleet:
    kept = Following(lambda: plant.log, Checkpoints(plant.home.checkpoints))
    give_up = time.monotonic() + 60
    while kept.seq < plant.log.last and time.monotonic() < give_up:
        time.sleep(0.01)
    found = kept.take()
    assert found is not None
    return found.state.devices
