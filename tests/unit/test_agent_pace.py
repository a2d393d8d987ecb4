"""Polite: polls that spread evenly after a power cut of a whole site, waits after errors, and a limit on bytes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tidegate.agent.pace import LONGEST_S, Backoff, Bucket, first_poll, jittered, place_within

AGENTS, POLL_S, WATCHED_S = 10_000, 60.0, 600


def polls(first: bool = True, jitter: bool = True) -> Counter[int]:
    """Polls of 10,000 agents in each second after all were switched on in the same one."""
    rng = random.Random(19)
    found: Counter[int] = Counter()
    for _ in range(AGENTS):
        at_s = first_poll(first, POLL_S, rng)
        while at_s < WATCHED_S:
            found[int(at_s)] += 1
            at_s += jittered(POLL_S, rng) if jitter else POLL_S
    return found


def test_polls_spread_evenly_after_a_simultaneous_power_on() -> None:
    found = polls()
    mean = AGENTS / POLL_S
    assert len(found) == WATCHED_S and 0.95 < sum(found.values()) / WATCHED_S / mean < 1.05
    # Counts of a second scatter as Poisson numbers do: five sigmas of 167 are 65.
    assert max(found.values()) < 1.4 * mean and min(found.values()) > 0.6 * mean


def test_without_a_first_wait_they_would_come_at_once() -> None:
    """The test of the test: the same figures, without the agent's first wait, and without any jitter."""
    assert max(polls(first=False).values()) == AGENTS
    assert max(polls(first=False, jitter=False).values()) == AGENTS == polls(first=False, jitter=False)[540]


def test_after_an_outage_they_return_spread_out() -> None:
    """A server that was away for an hour gets them back over a quarter of an hour, and in no second many at once."""
    rng, back_s = random.Random(7), 3600.0
    found: Counter[int] = Counter()
    for _ in range(AGENTS):
        backoff, at_s = Backoff(POLL_S, rng), rng.uniform(0, POLL_S)
        while at_s < back_s:
            at_s += backoff.next_s()
        found[int(at_s - back_s)] += 1
    assert max(found) <= LONGEST_S and max(found.values()) < 0.005 * AGENTS


def test_back_off_is_drawn_from_the_whole_range() -> None:
    rng = random.Random(3)
    for errors, reach_s in ((0, 60.0), (2, 240.0), (9, LONGEST_S)):
        waits = []
        for _ in range(2000):
            backoff = Backoff(POLL_S, rng)
            for _ in range(errors):
                backoff.next_s()
            waits.append(backoff.next_s())
        assert min(waits) < 0.01 * reach_s and 0.99 * reach_s < max(waits) <= reach_s
        assert abs(sum(waits) / len(waits) - reach_s / 2) < 0.05 * reach_s


def test_announcements_of_a_ring_are_spread_over_it() -> None:
    rng = random.Random(5)
    places = [place_within(1000, rng) for _ in range(5000)]
    tenths = Counter(int(place // 100) for place in places)
    assert min(places) >= 0 and max(places) <= 1000 and min(tenths.values()) > 400 and max(tenths.values()) < 600
    assert place_within(0, rng) == 0


def test_a_bucket_holds_downloads_to_its_rate() -> None:
    now_s, taken, bucket = 100.0, 0, Bucket(50_000, 100.0)
    while taken < 5_000_000:
        taken += 65_536
        now_s += bucket.take(65_536, now_s)
    assert 0.95 < (taken - 2 * 50_000) / (now_s - 100.0) / 50_000 < 1.05, "two seconds' worth comes at once"
    assert bucket.take(1, now_s + 1e9) == 0.0, "and no more than that is saved up"
    assert bucket.take(150_000, now_s + 1e9) == pytest.approx(1.0, abs=0.01)
    assert bucket.take(0, now_s) <= 1.01, "a clock that is passed in wrongly gives nothing away"
    assert Bucket(0, 0.0).take(10**12, 0.0) == 0.0


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    state = random.getstate()
    yield
    assert random.getstate() == state, "waits are drawn from the agent's own source alone"
