"""Rings: exact in number, a prefix of the order, each device treated once, and nobody is a control after exposure."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rollouts import keys_of

from tidegate.core.assign import RANK_END, arm_order, rank, ring_arm_salt
from tidegate.core.rings import Rings

SALT, SECRET = bytes(range(16)), bytes(range(32))


def rings_of(devices: int, placebo_per_treated: float = 1.0, *, secret: bytes = SECRET, seed: int = 0) -> Rings:
    return Rings(keys_of(devices, seed), SALT, secret, "r1", placebo_per_treated)


def drawn_out(rings: Rings, sizes: list[int]) -> list[tuple[set[int], set[int]]]:
    """Draw rings until all are treated; give (treated, placebo) positions of each, as read after each draw."""
    found: list[tuple[set[int], set[int]]] = []
    while rings.left:
        wanted = min(sizes[len(found) % len(sizes)], rings.left)
        before = rings.left
        expected = rings.sizes(wanted)
        drawn = rings.draw(wanted)
        number = len(found) + 1
        treated = set(np.flatnonzero(rings.treated == number).tolist())
        placebo = set(np.flatnonzero((rings.enter > 0) & (rings.treated == 0)).tolist())
        assert (drawn.treated, drawn.placebo) == expected == (len(treated), len(placebo))
        assert rings.left == before - wanted
        found.append((treated, placebo))
    return found


terms = {
    "devices": st.integers(1, 120),
    "sizes": st.lists(st.integers(1, 40), min_size=1, max_size=6),
    "ratio": st.sampled_from([0.0, 0.25, 1.0, 1.5, 4.0]),
    "seed": st.integers(0, 10_000),
}


@given(**terms)
def test_exact_in_number_and_everyone_treated_once(devices: int, sizes: list[int], ratio: float, seed: int) -> None:
    rings = rings_of(devices, ratio, seed=seed)
    found = drawn_out(rings, sizes)
    assert sorted(device for treated, _ in found for device in treated) == list(range(devices))
    assert (rings.treated > 0).all()
    assert (rings.enter <= rings.treated).all()


@given(**terms)
def test_placebo_heads_the_next_ring_and_the_exposed_are_no_control(
    devices: int, sizes: list[int], ratio: float, seed: int
) -> None:
    rings = rings_of(devices, ratio, seed=seed)
    found = drawn_out(rings, sizes)
    exposed: set[int] = set()
    for (treated, placebo), (next_treated, next_placebo) in pairwise(found):
        exposed |= treated
        assert not placebo & exposed
        assert placebo <= next_treated | next_placebo, "placebo devices come first in the next ring"
    assert not found[-1][1], "the last ring leaves nobody behind"


@given(**terms)
def test_the_drawn_are_a_prefix_of_the_order(devices: int, sizes: list[int], ratio: float, seed: int) -> None:
    rings = rings_of(devices, ratio, seed=seed)
    ranks = rank(SALT, keys_of(devices, seed))
    while rings.left:
        drawn = rings.draw(min(sizes[len(rings.drawn) % len(sizes)], rings.left))
        inside = ranks[rings.enter > 0]
        outside = ranks[rings.enter == 0]
        if len(outside):
            assert drawn.announce_rank == int(inside.max()) < int(outside.min())
        else:
            assert drawn.announce_rank == RANK_END - 1


@given(st.integers(2, 60), st.integers(1, 20), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_arms_depend_on_the_secret_alone(devices: int, size: int, seed: int, chance: random.Random) -> None:
    """In whatever order the roster lists them, devices have the same place and arm; another secret moves arms."""
    size = min(size, devices)
    keys = keys_of(devices, seed)
    shuffled = list(range(devices))
    chance.shuffle(shuffled)
    one, two = rings_of(devices, seed=seed), Rings(keys[shuffled], SALT, SECRET, "r1", 1.0)
    other = rings_of(devices, secret=bytes(32), seed=seed)
    for rings in (one, two, other):
        rings.draw(size)
    assert one.treated[shuffled].tolist() == two.treated.tolist()
    assert one.enter[shuffled].tolist() == two.enter.tolist()
    assert one.enter.tolist() == other.enter.tolist(), "who is drawn does not depend on the secret"
    members = np.flatnonzero(one.enter)
    by_hand = members[np.argsort(arm_order(ring_arm_salt(SECRET, "r1", 1), keys[members]))][:size]
    assert set(np.flatnonzero(one.treated).tolist()) == set(by_hand.tolist())


def test_each_member_is_treated_with_the_same_chance() -> None:
    """400 secrets, a ring of 10 treated among 20: each device is treated 200 times, give or take 5 deviations."""
    times = np.zeros(20, dtype=np.int64)
    for number in range(400):
        rings = rings_of(20, secret=number.to_bytes(32, "big"))
        rings.draw(10)
        times += rings.treated > 0
    assert times.sum() == 4000
    assert abs(times - 200).max() <= 50


def test_two_rollouts_of_one_release_draw_different_arms() -> None:
    one, two = (Rings(keys_of(40), SALT, SECRET, name, 1.0) for name in ("r1", "r2"))
    one.draw(20)
    two.draw(20)
    assert one.enter.tolist() == two.enter.tolist()
    assert one.treated.tolist() != two.treated.tolist()


@pytest.mark.parametrize("treated", [0, -1, 11])
def test_a_ring_that_cannot_be_is_refused_and_changes_nothing(treated: int) -> None:
    rings = rings_of(10)
    with pytest.raises(ValueError, match="1 to 10"):
        rings.draw(treated)
    assert not rings.drawn
    assert not rings.enter.any()
