"""The speed limit: shares only grow, clocks only delay, and what it says about waiting comes true."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tidegate.core.assign import RANK_END, SHARE_ONE
from tidegate.core.model import SpeedLimit
from tidegate.core.speed import CLOCK_TOLERANCE_S, age_s, allowed_share, least_share, speed_permits

LOGGED = 1_800_000_000
ONE_PERCENT = SHARE_ONE // 100
LIMIT = SpeedLimit(
    steps=((0, ONE_PERCENT), (900, 10 * ONE_PERCENT), (86_400, SHARE_ONE)), logged=LOGGED, not_after=LOGGED + 7 * 86_400
)


@st.composite
def limits(draw: st.DrawFn) -> SpeedLimit:
    seconds = sorted(draw(st.sets(st.integers(0, 100_000), min_size=1, max_size=6)))
    shares = sorted(draw(st.lists(st.integers(0, SHARE_ONE), min_size=len(seconds), max_size=len(seconds))))
    fleet = draw(st.integers(1, 10**8))
    return SpeedLimit(
        steps=tuple(zip(seconds, shares, strict=True)),
        logged=LOGGED,
        not_after=LOGGED + draw(st.integers(1, 200_000)),
        ceiling_2p32=draw(st.sampled_from([SHARE_ONE, SHARE_ONE // 20, 0])),
        clock_slack_s=draw(st.integers(0, 600)),
        least_devices=draw(st.integers(0, 50)),
        fleet_devices=fleet,
    )


ranks = st.one_of(st.integers(0, RANK_END - 1), st.sampled_from([0, 1, RANK_END // 100, RANK_END - 1]))
walls = st.integers(LOGGED - 2000, LOGGED + 300_000)


@pytest.mark.parametrize(
    ("age", "percent"), [(-1, 0), (0, 1), (899, 1), (900, 10), (86_399, 10), (86_400, 100), (10**9, 100)]
)
def test_the_share_follows_the_steps(age: int, percent: int) -> None:
    expected = SHARE_ONE if percent == 100 else percent * ONE_PERCENT
    assert allowed_share(LIMIT, age) == expected


def test_a_small_fleet_has_a_first_device_and_the_ceiling_holds_above_all() -> None:
    small = replace(LIMIT, least_devices=1, fleet_devices=24)
    assert allowed_share(small, 0) == -(-SHARE_ONE // 24)
    assert allowed_share(small, 900) == 10 * ONE_PERCENT
    assert allowed_share(replace(small, ceiling_2p32=ONE_PERCENT), 10**6) == ONE_PERCENT
    assert least_share(replace(small, least_devices=99)) == SHARE_ONE


def test_the_slack_delays_the_first_step() -> None:
    assert age_s(LIMIT, LOGGED + 120) == 0
    answer = speed_permits(LIMIT, 0, LOGGED + 100, 0)
    assert (answer.permitted, answer.retry_after_s) == (False, 20)
    assert speed_permits(LIMIT, 0, LOGGED + 120, 0).permitted


def test_the_last_rank_of_a_step_is_exact() -> None:
    first_out = ONE_PERCENT << 32
    assert speed_permits(LIMIT, first_out - 1, LOGGED + 120, 0).permitted
    answer = speed_permits(LIMIT, first_out, LOGGED + 120, 0)
    assert (answer.permitted, answer.retry_after_s) == (False, 900)
    assert speed_permits(LIMIT, RANK_END - 1, LOGGED + 120 + 86_400, 0).permitted


@pytest.mark.parametrize(
    ("wall", "mark", "words"),
    [
        (LOGGED + 1000, LOGGED + 1001 + CLOCK_TOLERANCE_S, "clock is 601 s behind"),
        (LIMIT.not_after + 1, 0, "past the date"),
        (0, LOGGED, "clock is"),
    ],
)
def test_a_wrong_clock_or_a_late_hour_stops_for_good(wall: int, mark: int, words: str) -> None:
    answer = speed_permits(LIMIT, 0, wall, mark)
    assert (answer.permitted, answer.retry_after_s) == (False, None)
    assert words in answer.sentence


def test_a_clock_within_tolerance_goes_on() -> None:
    assert speed_permits(LIMIT, 0, LOGGED + 1000, LOGGED + 1000 + CLOCK_TOLERANCE_S).permitted


def test_the_ceiling_is_named_when_waiting_does_not_help() -> None:
    answer = speed_permits(replace(LIMIT, ceiling_2p32=ONE_PERCENT), RANK_END // 2, LOGGED + 10_000, 0)
    assert answer.retry_after_s is None and "ceiling" in answer.sentence
    short = replace(LIMIT, not_after=LOGGED + 3600)
    answer = speed_permits(short, RANK_END // 2, LOGGED + 1000, 0)
    assert answer.retry_after_s is None and "runs out" in answer.sentence


@given(limits(), ranks, ranks, walls, walls)
def test_what_is_allowed_only_grows_until_it_ends(limit: SpeedLimit, a: int, b: int, early: int, late: int) -> None:
    low, high, early, late = min(a, b), max(a, b), min(early, late), max(early, late)
    assume(late <= limit.not_after)
    assert allowed_share(limit, early - LOGGED) <= allowed_share(limit, late - LOGGED) <= limit.ceiling_2p32
    if speed_permits(limit, high, early, 0).permitted:
        assert speed_permits(limit, low, early, 0).permitted
        assert speed_permits(limit, high, late, 0).permitted


@given(limits(), ranks, walls)
def test_waiting_as_told_is_enough_and_not_too_long(limit: SpeedLimit, rank: int, wall: int) -> None:
    answer = speed_permits(limit, rank, wall, 0)
    if answer.permitted:
        assert answer.retry_after_s == 0
        assert rank < allowed_share(limit, age_s(limit, wall)) << 32
    elif answer.retry_after_s is not None:
        assert answer.retry_after_s > 0
        assert speed_permits(limit, rank, wall + answer.retry_after_s, 0).permitted
        assert not speed_permits(limit, rank, wall + answer.retry_after_s - 1, 0).permitted


@given(limits(), ranks, walls, st.integers(0, 10**6))
def test_a_clock_that_lags_never_opens_anything(limit: SpeedLimit, rank: int, wall: int, lag: int) -> None:
    assume(wall <= limit.not_after)
    if speed_permits(limit, rank, wall - lag, 0).permitted:
        assert speed_permits(limit, rank, wall, 0).permitted
