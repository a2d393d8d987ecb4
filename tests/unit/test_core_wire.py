"""JSON and frozen values: what is written is read again the same, and everything else is refused by name."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rollouts import spec_of

from tidegate.core.caps import Cap
from tidegate.core.errors import BadInput
from tidegate.core.looks import plan_looks
from tidegate.core.model import Manifest, ReleaseTerms, SpeedLimit
from tidegate.core.rollout import RolloutSpec
from tidegate.core.wire import canonical, decode, encode, plain, read


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    count: int
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    name: str
    colour: Colour
    inner: Inner
    many: tuple[Inner, ...] = ()
    pair: tuple[int, str] = (1, "x")
    maybe: str | None = None
    table: dict[str, int] = field(default_factory=lambda: {})
    ready: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("name must not be empty")


GOOD: dict[str, Any] = {"name": "a", "colour": "red", "inner": {"count": 1}}
inners = st.builds(Inner, st.integers(-(1 << 63) + 1, (1 << 63) - 1), st.floats(allow_nan=False, allow_infinity=False))
outers = st.builds(
    Outer,
    st.text(min_size=1),
    st.sampled_from(Colour),
    inners,
    st.lists(inners, max_size=3).map(tuple),
    st.tuples(st.integers(0, 9), st.text()),
    st.none() | st.text(),
    st.dictionaries(st.text(), st.integers(0, 9), max_size=3),
    st.booleans(),
)


@settings(max_examples=40, deadline=None)
@given(outers)
def test_what_is_written_is_read_again_the_same(value: Outer) -> None:
    data = encode(value)
    assert decode(Outer, data, "it") == value
    assert encode(decode(Outer, data, "it")) == data
    assert read(Outer, plain(value), "it") == value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 3}, "it.name must be a text"),
        ({"name": ""}, "it: name must not be empty"),
        ({"name": "\ud800"}, "it.name must be a text"),
        ({"colour": "green"}, "it.colour must be one of red, blue"),
        ({"inner": []}, "it.inner must be an object"),
        ({"inner": {}}, "it.inner.count is missing"),
        ({"inner": {"count": True}}, "it.inner.count must be a whole number"),
        ({"inner": {"count": 1.0}}, "it.inner.count must be a whole number"),
        ({"inner": {"count": 1 << 63}}, "it.inner.count must be a whole number"),
        ({"inner": {"count": 1, "share": "1"}}, "it.inner.share must be a number"),
        ({"inner": {"count": 1, "share": True}}, "it.inner.share must be a number"),
        ({"inner": {"count": 1, "share": float("nan")}}, "it.inner.share must be a number"),
        ({"inner": {"count": 1, "share": float("inf")}}, "it.inner.share must be a number"),
        ({"inner": {"count": 1, "share": 10**400}}, "it.inner.share must be a number"),
        ({"inner": {"count": 1, "shares": 1}}, "it.inner has no field 'shares'; known are count, share"),
        ({"many": {}}, "it.many must be a list"),
        ({"many": [{"count": 1}, {"count": "x"}]}, r"it.many\[1\].count must be a whole number"),
        ({"pair": [1]}, "it.pair must have 2 entries"),
        ({"maybe": 3}, "it.maybe must be a text"),
        ({"table": []}, "it.table must be an object"),
        ({"table": {"a": "b"}}, "it.table.a must be a whole number"),
        ({"ready": 1}, "it.ready must be true or false"),
        ({"more": 1}, "it has no field 'more'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read(Outer, {**GOOD, **change}, "it")


def test_a_whole_number_will_do_for_a_number() -> None:
    found = read(Inner, {"count": 1, "share": 4}, "it")
    assert found.share == 4.0
    assert type(found.share) is float


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 100_000, b"\xff\xfe{}", b'{"name": "a', b"nul"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="the plan is not JSON"):
        decode(Outer, data, "the plan")


@pytest.mark.parametrize("value", [None, 1, "x", [], [{}]])
def test_json_that_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(BadInput, match="the plan must be an object"):
        decode(Outer, json.dumps(value), "the plan")


def test_the_canonical_text_has_one_form() -> None:
    assert canonical({"b": 1, "a": "ä"}) == '{"a":"ä","b":1}'.encode()


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadInput):
        decode(Manifest, data, "manifest")


def test_a_rollout_with_planned_looks_caps_and_odd_numbers_is_read_again_the_same() -> None:
    looks = plan_looks(20_000, 80, 0.999, 4.0, 1e-4, 0.05, 80)
    spec = spec_of(3, looks=looks, caps=(Cap("site", 2),), scope=("a=b=c",), reverted_bound=1e-6)
    assert read(RolloutSpec, json.loads(json.dumps(plain(spec), allow_nan=False)), "rollout") == spec


def test_release_terms_are_read_again_the_same() -> None:
    terms = ReleaseTerms(7, "0f" * 16, SpeedLimit(((0, 1 << 20), (60, 1 << 32)), 100, 200, fleet_devices=9))
    assert decode(ReleaseTerms, encode(terms), "terms") == terms
