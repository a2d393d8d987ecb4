"""Late devices: who they are and how many have not come, against a plain set; folded singly and in columns alike."""

from __future__ import annotations

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.overdue import Overdue
from tidegate.core.roster import Roster

DEVICES = 40


def test_nobody_is_late_at_first() -> None:
    overdue = Overdue(3)
    overdue.add(Roster())
    overdue.leased(1)
    assert (bool(overdue), 1 in overdue, overdue.absent, list(overdue)) == (False, False, 0, [])


@given(st.integers(0, 100_000))
def test_it_agrees_with_a_set(seed: int) -> None:
    chance = random.Random(seed)
    one, many, late, leased = Overdue(DEVICES), Overdue(DEVICES), set[int](), set[int]()
    for _ in range(6):
        closing = [p for p in range(DEVICES) if p not in late | leased and chance.random() < 0.2]
        late |= set(closing)
        one.add(Roster(closing))
        many.add(Roster(closing))
        coming = [p for p in range(DEVICES) if chance.random() < 0.2]
        first = [p not in leased for p in coming]
        for position, new in zip(coming, first, strict=True):
            if new:
                one.leased(position)
        many.leased_many(np.array(coming, dtype=np.int64), np.array(first, dtype=np.bool_))
        leased |= set(coming)
        for overdue in (one, many):
            assert set(overdue) == late
            assert bool(overdue) == bool(late)
            assert {p for p in range(DEVICES) if p in overdue} == late
            assert overdue.absent == len(late - leased)


def test_a_device_that_is_called_late_twice_is_away_once() -> None:
    overdue = Overdue(5)
    overdue.add(Roster([1, 2]))
    overdue.add(Roster([2, 3]))
    assert (list(overdue), overdue.absent) == ([1, 2, 3], 3)
