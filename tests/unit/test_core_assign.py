"""Rank and arm: the golden vectors, for one device and for an array alike."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.assign_vectors import FILE, vectors

from tidegate.core.assign import (
    RANK_END,
    SHARE_ONE,
    arm_commit,
    arm_order,
    device_key,
    hash64,
    mix64,
    rank,
    rank_text,
    ring_arm_salt,
    within_share,
)

GOLDEN: dict[str, Any] = json.loads(FILE.read_text())
words = st.integers(0, RANK_END - 1)
salts = st.binary(min_size=16, max_size=16)


def as_array(texts: list[str]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.array([int(text, 16) for text in texts], dtype=np.uint64)


def test_the_vectors_in_the_docs_are_those_that_the_independent_code_makes() -> None:
    assert vectors() == GOLDEN


def test_device_keys() -> None:
    for case in GOLDEN["device_key"]:
        assert rank_text(device_key(case["device_id"])) == case["key"]


@pytest.mark.parametrize("bad", ["", "00", "zz" * 16, "00" * 17, "0" * 31])
def test_a_device_id_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        device_key(bad)


def test_mix64_of_one_word_and_of_an_array() -> None:
    cases = GOLDEN["mix64"]
    assert [rank_text(mix64(int(case["word"], 16))) for case in cases] == [case["mixed"] for case in cases]
    mixed = mix64(as_array([case["word"] for case in cases]))
    assert mixed.dtype == np.uint64
    assert mixed.tolist() == as_array([case["mixed"] for case in cases]).tolist()


@pytest.mark.parametrize("function", [hash64, rank, arm_order])
def test_hash_rank_and_arm_order_of_one_device_and_of_an_array(function: Any) -> None:
    for salt in {case["salt"] for case in GOLDEN["hash64"]}:
        cases = [case for case in GOLDEN["hash64"] if case["salt"] == salt]
        expected = [int(case["hash"], 16) for case in cases]
        assert [function(bytes.fromhex(salt), int(case["key"], 16)) for case in cases] == expected
        assert function(bytes.fromhex(salt), as_array([case["key"] for case in cases])).tolist() == expected


def test_arm_salts_commitments_and_the_order_of_a_ring() -> None:
    for case in GOLDEN["rings"]:
        salt = ring_arm_salt(bytes.fromhex(case["arm_secret"]), case["rollout"], case["ring"])
        assert salt.hex() == case["arm_salt"]
        assert arm_commit(salt) == case["arm_commit"]
        ids = [entry["device_id"] for entry in GOLDEN["device_key"]]
        order = np.argsort(arm_order(salt, np.array([device_key(name) for name in ids], dtype=np.uint64)))
        assert [ids[place] for place in order] == case["devices_in_arm_order"]


@given(salts, st.lists(words, min_size=1, max_size=50))
def test_an_array_is_hashed_as_its_words_are(salt: bytes, keys: list[int]) -> None:
    array = np.array(keys, dtype=np.uint64)
    before = array.copy()
    assert hash64(salt, array).tolist() == [hash64(salt, key) for key in keys]
    assert (array == before).all(), "the caller's keys are left as they were"


@given(st.sets(words, min_size=2, max_size=50), salts)
def test_no_two_devices_share_a_rank(keys: set[int], salt: bytes) -> None:
    assert len({rank(salt, key) for key in keys}) == len(keys)


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_salt_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        rank(bytes(length), 1)


def test_ranks_are_uniform_and_each_input_bit_flips_half_of_the_output() -> None:
    ranks = rank(bytes(range(16)), np.arange(200_000, dtype=np.uint64))
    shares = np.bincount((ranks >> np.uint64(60)).astype(np.int64), minlength=16) / len(ranks)
    assert abs(shares - 1 / 16).max() < 0.004
    for bit in range(64):
        flipped = rank(bytes(range(16)), np.arange(2000, dtype=np.uint64) ^ np.uint64(1 << bit))
        changed = np.bitwise_count(flipped ^ ranks[:2000]).mean()
        assert 30 < changed < 34, f"input bit {bit} flips {changed} bits"


@given(words)
def test_the_share_is_exact_at_none_and_at_all(place: int) -> None:
    assert not within_share(place, 0)
    assert within_share(place, SHARE_ONE)
    assert within_share(place, (place >> 32) + 1)
    assert not within_share(place, place >> 32)
