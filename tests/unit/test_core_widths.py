"""Columns as wide as their greatest number; the order of ranks in little memory; positions without a table."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tidegate.core import ordering
from tidegate.core.assign import rank
from tidegate.core.ordering import order_by_rank
from tidegate.core.roster import Positions, Roster
from tidegate.core.widths import wide_enough

SALT = bytes(range(16))


def test_a_column_widens_just_when_it_must() -> None:
    narrow = np.array([1, 2, 255], dtype=np.uint8)
    assert wide_enough(narrow, 255) is narrow
    for most, kind in ((256, "u2"), (65_535, "u2"), (65_536, "u4"), (1 << 32, "u8"), ((1 << 63) - 1, "u8")):
        wide = wide_enough(narrow, most)
        assert wide.dtype == np.dtype(kind)
        assert wide.tolist() == [1, 2, 255]
    signed = np.array([-128, 127], dtype=np.int8)
    assert wide_enough(signed, 127) is signed
    assert wide_enough(signed, 128).tolist() == [-128, 127]
    assert wide_enough(signed, 1 << 31).dtype == np.int64


@pytest.mark.parametrize("devices", [0, 1, 2, 3, 100, 5000])
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_the_order_is_that_of_the_ranks(devices: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "_BLOCK", block)
    keys = np.random.default_rng(devices).integers(0, 1 << 64, devices, dtype=np.uint64)
    assert order_by_rank(SALT, keys).tolist() == np.argsort(rank(SALT, keys), kind="stable").tolist()


@pytest.mark.parametrize("block", [3, 64, 1 << 20])
def test_ranks_that_share_their_upper_bits_are_put_right(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "_BLOCK", block)
    monkeypatch.setattr(ordering, "rank", lambda _salt, keys: keys)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    chance = random.Random(block)
    for size in (2, 9, 300, 1000):
        few = [chance.randrange(1 << 64) for _ in range(5)]
        keys = np.array([chance.choice(few) ^ chance.randrange(4) for _ in range(size)], dtype=np.uint64)
        assert order_by_rank(SALT, keys).tolist() == np.argsort(keys, kind="stable").tolist()


def test_positions_are_those_of_a_dict() -> None:
    chance = random.Random(3)
    for indices in ([], [0], [5], [3, 4, 5], [0, 1, 2, 9, 70], chance.sample(range(400), 200), [2**31 - 1, 0]):
        positions, books = Positions(Roster(indices)), {index: at for at, index in enumerate(indices)}
        for index in (*range(-3, 403), 2**31 - 1, 2**31, 2**40):
            assert positions.get(index) == books.get(index)
            assert positions.get(index, -7) == books.get(index, -7)
            assert (index in positions) == (index in books)
