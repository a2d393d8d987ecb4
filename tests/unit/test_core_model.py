"""The words of the design refuse what they cannot mean, and say what would do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tidegate.core.assign import SHARE_ONE
from tidegate.core.model import (
    PLAN_LIFETIME_LIMIT_S,
    Budget,
    Candidate,
    Health,
    Manifest,
    Payload,
    Plan,
    PlanState,
    Probe,
    ReleaseTerms,
    SpeedLimit,
    check_name,
)

DIGEST = "ab" * 32
PAYLOAD = Payload(DIGEST, 10, 1, 5)
MANIFEST = Manifest("edr-rules", "1.0", 1, "yara", PAYLOAD, Health(2))
SPEED = SpeedLimit(((0, 100), (60, SHARE_ONE)), 1000, 2000)
PLAN = Plan(
    "r1", "edr-rules", 1, PlanState.OPEN, Candidate("releases/edr-rules/1.json", DIGEST, 9, 1), ("any",), "0" * 16,
    False, "c" * 64, 10, 60, 0, 1000, 1600,
)  # fmt: skip


@pytest.mark.parametrize("name", ["a", "edr-rules", "0.1_x", "a" * 63])
def test_names_that_will_do(name: str) -> None:
    check_name("component", name)


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a/b", "a b", "a" * 64, "a\n", "ä", "../x", "a:b"])
def test_names_that_could_leave_a_path_or_break_a_lease_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="component must be 1 to 63"):
        check_name("component", name)


@pytest.mark.parametrize(
    ("value", "changes", "words"),
    [
        (SPEED, {"steps": ()}, "at least one step"),
        (SPEED, {"steps": ((60, 5), (60, 6))}, "must rise in time"),
        (SPEED, {"steps": ((0, 6), (60, 5))}, "not fall in share"),
        (SPEED, {"steps": ((0, SHARE_ONE + 1),)}, "0 to 2\\*\\*32"),
        (SPEED, {"ceiling_2p32": -1}, "ceiling_2p32"),
        (SPEED, {"not_after": 1000}, "later than logged"),
        (SPEED, {"dwell_s": -1}, "not be negative"),
        (SPEED, {"fleet_devices": 0}, "at least 1"),
        (PAYLOAD, {"sha256": DIGEST.upper()}, "64 hexadecimal digits"),
        (PAYLOAD, {"files": -1}, "not be negative"),
        (MANIFEST, {"component": "../x"}, "component must be"),
        (MANIFEST, {"driver": "YARA"}, "driver must be"),
        (MANIFEST, {"v": 2}, "version 2 is not known"),
        (MANIFEST, {"version": ""}, "1 to 100 characters"),
        (MANIFEST, {"seq": 0}, "at least 1"),
        (MANIFEST, {"replaces": ()}, "must name"),
        (MANIFEST, {"replaces": ("none",)}, "64 hexadecimal digits"),
        (PLAN, {"v": 2}, "update the agent"),
        (PLAN, {"announce_rank": "0" * 15}, "16 hexadecimal digits"),
        (PLAN, {"expires": 1000}, "must expire after"),
        (PLAN, {"expires": 1001 + PLAN_LIFETIME_LIMIT_S}, "within 1800 s"),
    ],
)
def test_values_that_cannot_be_are_refused(value: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(value, **changes)


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"max_harmed": 0}, "max_harmed must be 1"),
        ({"max_harmed": 10**30}, "max_harmed must be 1"),
        ({"confidence": 1.0}, "confidence must lie"),
        ({"confidence": float("nan")}, "confidence must lie"),
        ({"false_halt": 0.0}, "false_halt must lie"),
        ({"canary": 4}, "canary must be"),
        ({"canary": -1}, "canary must be"),
        ({"placebo_per_treated": float("nan")}, "placebo_per_treated must be"),
        ({"placebo_per_treated": float("inf")}, "placebo_per_treated must be"),
        ({"placebo_per_treated": -0.1}, "placebo_per_treated must be"),
        ({"q_gate": 1.0}, "q_gate"),
        ({"q_gate": float("nan")}, "q_gate"),
        ({"late_budget_share": 1.0}, "late_budget_share"),
        ({"reverted_bound": 0.0}, "reverted_bound"),
        ({"reverted_bound": float("nan")}, "reverted_bound"),
    ],
)
def test_budgets_that_cannot_be_are_refused(terms: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Budget(**{"max_harmed": 3, **terms})


def test_the_first_ring_is_the_canary_or_the_budget() -> None:
    assert (Budget(5).first_ring, Budget(5, canary=2).first_ring) == (5, 2)


def test_probes_health_and_terms() -> None:
    with pytest.raises(ValueError, match="no command"):
        Probe("p", ())
    with pytest.raises(ValueError, match="timeout_s"):
        Probe("p", ("true",), 0)
    with pytest.raises(ValueError, match="soak_s"):
        Health(-1)
    with pytest.raises(ValueError, match="order_salt"):
        ReleaseTerms(1, "0" * 31, SPEED)


def test_what_a_release_may_replace() -> None:
    assert MANIFEST.may_replace(None)
    assert MANIFEST.may_replace(DIGEST)
    only = replace(MANIFEST, replaces=(DIGEST,))
    assert only.may_replace(DIGEST)
    assert not only.may_replace(None)
    assert not only.may_replace("cd" * 32)


def test_a_plan_reaches_ranks_up_to_its_own_with_both_ends_exact() -> None:
    plan = replace(PLAN, announce_rank=f"{1000:016x}")
    assert plan.announces(0)
    assert plan.announces(1000)
    assert not plan.announces(1001)
    assert replace(PLAN, announce_rank="f" * 16).announces((1 << 64) - 1)
