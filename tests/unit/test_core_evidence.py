"""Evidence: the fold agrees with a plain recount, and reports that come twice, late or out of place change nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rollouts import keys_of

from tidegate.core.evidence import ArmCounts, Evidence
from tidegate.core.model import Arm, Outcome
from tidegate.core.rings import Rings

DEVICES, OBSERVE_MS = 12, 10_000
T, P, C, R = Arm.TREATED, Arm.PLACEBO, Outcome.CONFIRMED, Outcome.REVERTED


def evidence_of(devices: int = DEVICES) -> Evidence:
    return Evidence(Rings(keys_of(devices), bytes(16), bytes(32), "r", 1.0))


def history(seed: int) -> list[tuple[Any, ...]]:
    """Leases over three rings with their reports: each device is placebo up to some ring, then treated or away."""
    chance = random.Random(seed)
    events: list[tuple[Any, ...]] = []
    for device in range(DEVICES):
        treated_in = chance.randint(1, 4)
        for ring in range(chance.randint(1, 3), min(treated_in, 3) + 1):
            arm = T if ring == treated_in else P
            at_ms = ring * 1000 + chance.randrange(900)
            late = arm is T and chance.random() < 0.3
            events.append((at_ms, "lease", device, ring, arm, late))
            if chance.random() < 0.7:
                events.append((at_ms + chance.randrange(1, 90), "report", device, ring, chance.choice([C, R])))
    return sorted(events, key=lambda event: event[0])


def fold(events: list[tuple[Any, ...]], seed: int, *, repeats: bool) -> Evidence:
    evidence, chance = evidence_of(), random.Random(seed)
    reports: list[tuple[Any, ...]] = []
    for event in events:
        if event[1] == "lease":
            at_ms, _, device, ring, arm, late = event
            evidence.grant(device, ring, arm, at_ms, late=late)
        else:
            assert evidence.report(*event[2:])
            reports.append(event)
        while repeats and reports and chance.random() < 0.6:
            again = chance.choice(reports)
            contrary = R if again[4] is C else C
            assert not evidence.report(*again[2:])
            assert not evidence.report(again[2], again[3], contrary), "the first word about a lease stands"
    return evidence


def counts(evidence: Evidence, now_ms: int) -> list[ArmCounts]:
    return [evidence.arm(ring, arm, now_ms, OBSERVE_MS) for ring in range(5) for arm in Arm]


@given(st.integers(0, 100_000))
def test_repeated_and_contrary_reports_change_nothing(seed: int) -> None:
    events = history(seed)
    once, often = fold(events, seed, repeats=False), fold(events, seed, repeats=True)
    for now_ms in (0, 2000, 12_500, 99_000):
        assert counts(once, now_ms) == counts(often, now_ms)
    assert (once.exposed, once.confirmed, once.reverted) == (often.exposed, often.confirmed, often.reverted)


@given(st.integers(0, 100_000), st.integers(0, 30_000))
def test_the_fold_agrees_with_a_recount(seed: int, now_ms: int) -> None:
    events = history(seed)
    evidence = fold(events, seed, repeats=True)
    newest = {event[2]: event for event in events if event[1] == "lease"}
    ends = {(event[2], event[3]): event[4] for event in events if event[1] == "report"}
    for row in range(5):
        for arm in Arm:
            leases = [e for e in events if e[1] == "lease" and e[4] is arm and (0 if e[5] else e[3]) == row]
            mine = [ends.get((e[2], e[3])) for e in leases]
            silent = [
                e for e in leases
                if (e[2], e[3]) not in ends and newest[e[2]] is e and e[0] + OBSERVE_MS <= now_ms
            ]  # fmt: skip
            found = evidence.arm(row, arm, now_ms, OBSERVE_MS)
            assert found == ArmCounts(len(leases), mine.count(C), mine.count(R), len(silent))
    treated = [e for e in events if e[1] == "lease" and e[4] is T]
    assert evidence.exposed == len(treated)
    assert evidence.late_exposed == sum(e[5] for e in treated)
    assert evidence.confirmed == sum(ends.get((e[2], e[3])) is C for e in treated)


@given(st.integers(0, 100_000))
def test_looks_at_any_time_between_reports_agree_with_one_look_at_the_end(seed: int) -> None:
    """Looks that come in no order of time, while leases and reports come in, change nothing of what is counted."""
    events, chance = history(seed), random.Random(seed)
    quiet, watched = fold(events, seed, repeats=False), evidence_of()
    for event in events:
        if event[1] == "lease":
            watched.grant(event[2], event[3], event[4], event[0], late=event[5])
        else:
            watched.report(*event[2:])
        for _ in range(chance.randrange(3)):
            now_ms = chance.randrange(-1000, 20_000)
            counts(watched, now_ms)
            assert watched.silent(now_ms, OBSERVE_MS) >= 0
            assert watched.waiting(now_ms, OBSERVE_MS) >= 0
    for now_ms in (3000, 11_500, 12_345, 0, 14_000, 99_000):
        assert counts(watched, now_ms) == counts(quiet, now_ms)
        assert watched.silent(now_ms, OBSERVE_MS) == quiet.silent(now_ms, OBSERVE_MS)
        assert watched.waiting(now_ms, OBSERVE_MS) == quiet.waiting(now_ms, OBSERVE_MS)


def test_silent_begins_when_the_observation_time_is_over() -> None:
    evidence = evidence_of()
    evidence.grant(0, 1, T, 5000)
    evidence.grant(1, 1, P, 5000)
    assert (evidence.silent(14_999, OBSERVE_MS), evidence.waiting(14_999, OBSERVE_MS)) == (0, 2)
    assert (evidence.silent(15_000, OBSERVE_MS), evidence.waiting(15_000, OBSERVE_MS)) == (1, 0)
    assert evidence.arm(1, T, 15_000, OBSERVE_MS).resolved
    assert evidence.report(0, 1, C), "a device that comes back late is believed"
    assert evidence.silent(15_000, OBSERVE_MS) == 0
    assert evidence.confirmed == 1


@pytest.mark.parametrize("ring", [0, 2, 9])
def test_a_report_for_a_lease_that_is_not_the_newest_changes_nothing(ring: int) -> None:
    evidence = evidence_of()
    evidence.grant(0, 1, T, 0)
    before = counts(evidence, 50)
    assert not evidence.report(0, ring, C)
    assert not evidence.report(1, 1, C), "this device never had a lease"
    assert counts(evidence, 50) == before


def test_a_placebo_that_fell_silent_counts_anew_in_its_next_ring() -> None:
    evidence = evidence_of()
    evidence.grant(0, 1, P, 0)
    evidence.grant(0, 2, T, 20_000)
    assert evidence.arm(1, P, 25_000, OBSERVE_MS).leased == 1
    assert not evidence.report(0, 1, C), "the first lease is over"
    assert evidence.report(0, 2, R)
    assert evidence.arm(2, T, 25_000, OBSERVE_MS) == ArmCounts(1, 0, 1, 0)
    assert (evidence.exposed, evidence.confirmed, evidence.reverted) == (1, 0, 1)
