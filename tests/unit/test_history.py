"""The history checker of the kill tests finds what it is there to find: each kind of damage to a good history."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.history import History
from tests.history_risk import Allowed

pytestmark = [pytest.mark.room("control"), pytest.mark.room("log")]
DEVICES, SITES = 12, 3
ALLOWED = Allowed(
    max_harmed=3,
    canary=2,
    cap=2,
    site_of={device: f"s{device % SITES}" for device in range(DEVICES)},
    lane_of={device: ("desk", "a" if device % SITES == 0 else "b") for device in range(DEVICES) if device % SITES < 2},
)


def lease(device: int, ring: int = 1) -> str:
    return f"r:{ring}:{device}"


def good() -> tuple[History, list[dict[str, Any]]]:
    """Twelve devices, one after the other, each at risk for one second; and the log of it."""
    history, log = History(), list[dict[str, Any]]()
    for device in range(DEVICES):
        history.enrolled.append((device, f"id{device}"))
        log.append({"kind": "enrolled", "index": device, "device_id": f"id{device}"})
        history.asked.append((device - 0.1, device))
        history.leased.append((float(device), device, lease(device), "treated", 1))
        history.editions.append((float(device), "reader", 3 + device // 4))
        history.sent.append((device + 0.9, device, lease(device), "confirmed"))
        history.acknowledged.append((device + 0.95, device, lease(device), "confirmed"))
        common = {"rollout": "r", "ring": 1, "position": device, "index": device, "at_ms": device}
        log.append({"kind": "leased", "arm": "treated", **common})
        log.append({"kind": "reported", "outcome": "confirmed", **common})
    return history, log


def move(history: History, device: int, *, leased: float = 0.0, sent: float = 0.0) -> None:
    """Let a device have its lease earlier or send its confirmation later by so many seconds."""
    history.leased = [(at - leased * (d == device), d, *more) for at, d, *more in history.leased]  # pyright: ignore[reportAttributeAccessIssue]
    history.sent = [(at + sent * (d == device), d, *more) for at, d, *more in history.sent]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_good_history_passes() -> None:
    history, log = good()
    assert history.check_log(log) == (DEVICES, DEVICES)
    assert history.check_moments(ALLOWED) == history.check_log_moments(log, ALLOWED) == 1
    history.check_told()


def test_an_answer_that_came_twice_is_no_fault() -> None:
    history, log = good()
    history.leased.append((0.5, 0, lease(0), "treated", 1))
    history.sent.append((1.2, 0, lease(0), "confirmed"))
    history.acknowledged.append((1.3, 0, lease(0), "confirmed"))
    history.check_told()
    assert history.check_log(log) == (DEVICES, DEVICES)
    assert history.check_moments(ALLOWED) == 1


MOMENTS: dict[str, tuple[Callable[[History], object], str]] = {
    "the canary is exceeded for a moment": (
        lambda history: [move(history, device, leased=device - 0.1 * device) for device in (1, 2)],
        "3 at risk, 2 allowed",
    ),
    "the budget is exceeded for a moment": (
        lambda history: [move(history, device, sent=10.05 - device) for device in (5, 7, 8)],
        "4 at risk, 3 allowed",
    ),
    "a cap is exceeded for a millisecond": (
        lambda history: [move(history, device, sent=8.101 - device) for device in (2, 5)],
        "3 of s2 at risk, cap 2",
    ),
    "two lanes of a service meet": (
        lambda history: move(history, 0, sent=0.2),
        "lanes b and a of desk at risk together",
    ),
    "a device is exposed by two leases": (
        lambda history: history.leased.append((4.5, 4, lease(4, 2), "treated", 2)),
        "device 4 was exposed by two leases",
    ),
    "a device that never confirmed keeps its place": (
        lambda history: history.sent.__setitem__(slice(None), [one for one in history.sent if one[1] not in (2, 5)]),
        "3 of s2 at risk, cap 2",
    ),
    "a revert counts as no confirmation": (
        lambda history: history.sent.__setitem__(
            slice(None), [(at, d, name, "reverted" if d in (2, 5) else kind) for at, d, name, kind in history.sent]
        ),
        "3 of s2 at risk, cap 2",
    ),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_every_moment_is_looked_at(name: str) -> None:
    history, _ = good()
    damage, sentence = MOMENTS[name]
    damage(history)
    with pytest.raises(AssertionError, match=sentence):
        history.check_moments(ALLOWED if "lanes" in name else replace(ALLOWED, lane_of={}))


LOGS: dict[str, tuple[Callable[[list[dict[str, Any]]], object], str]] = {
    "an acknowledged report is lost": (lambda log: log.pop(14), "the acknowledged report of r:1:4 was lost"),
    "a report says the opposite": (lambda log: log[14].update(outcome="reverted"), "report of r:1:4 was lost"),
    "a report is counted twice": (lambda log: log.append(log[14]), "report r:1:4 was counted twice"),
    "a lease is lost": (lambda log: log.__delitem__(slice(13, 15)), "the lease r:1:4 .* is not in the log"),
    "a lease went to another device": (
        lambda log: [event.update(index=40) for event in log[13:15]],
        "r:1:4 says something else",
    ),
    "a lease has the other arm": (lambda log: log[13].update(arm="placebo"), "r:1:4 says something else"),
    "a lease was given twice": (lambda log: log.append(log[13]), "lease r:1:4 was given twice"),
    "a device was exposed twice": (lambda log: log.append({**log[13], "ring": 2}), "an exposed device got another"),
    "an enrolment is lost": (lambda log: log.pop(12), "the enrolment of device 4 was lost"),
    "a number was given to two devices": (lambda log: log.append(log[12]), "device 4 was enrolled twice"),
    "a number belongs to another device": (lambda log: log[12].update(device_id="x"), "enrolment of device 4 was lost"),
    "a report that nobody sent, of a lease that nobody was told": (
        lambda log: (
            [log.append({**log[0], "index": 40, "device_id": "id40"})]
            + [log.append({**event, "index": 40, "position": 40}) for event in (log[13], log[14])]
        ),
        "nobody sent the report of r:1:40",
    ),
    "a lease for a device that never asked": (
        lambda log: log.append({**log[13], "index": 40, "position": 40}),
        "device 40 never asked for the lease r:1:40",
    ),
    "a report stands before its lease": (
        lambda log: log.__setitem__(slice(13, 15), [log[14], log[13]]),
        "report r:1:4 stands before its lease",
    ),
    "a report is another device's": (lambda log: log[14].update(index=5), "r:1:4 is another device's"),
    "an id was given twice": (lambda log: log[12].update(device_id="id3"), "the id id3 was given twice"),
    "what was told first stands last": (
        lambda log: log.__setitem__(slice(15, 21), [*log[18:21], *log[15:18]]),
        "stands before .* in the log, and was asked for after that was told",
    ),
    "a lease after the end": (
        lambda log: log.insert(13, {"kind": "verdict", "rollout": "r", "verdict": {"happening": "harm"}}),
        "lease r:1:4 was given after the rollout's end",
    ),
    "time goes back": (lambda log: log[16].update(at_ms=1), "the log's time goes back"),
    "the log ends too early": (lambda log: log.__delitem__(slice(20, None)), "was lost"),
}


@pytest.mark.parametrize("name", LOGS)
def test_what_was_told_must_be_in_the_log_once(name: str) -> None:
    history, log = good()
    log = copy.deepcopy(log)
    damage, sentence = LOGS[name]
    damage(log)
    with pytest.raises(AssertionError, match=sentence):
        history.check_log(log)


TOLD: dict[str, tuple[Callable[[History], object], str]] = {
    "two devices got one number": (lambda history: history.enrolled.append((4, "id40")), r"got the number \[4\]"),
    "two devices got one id": (lambda history: history.enrolled.append((40, "id4")), r"got the id \['id4'\]"),
    "one lease for two devices": (
        lambda history: history.leased.append((9.0, 5, lease(4), "treated", 1)),
        "lease r:1:4 was given to devices 4 and 5",
    ),
    "the same lease with the other arm": (
        lambda history: history.leased.append((9.0, 4, lease(4), "placebo", 1)),
        "lease r:1:4 .* or changed",
    ),
    "an exposed device as a control": (
        lambda history: history.leased.append((9.0, 4, lease(4, 2), "placebo", 2)),
        "device 4 was exposed, and is a control afterwards",
    ),
    "the plans go back": (
        lambda history: history.editions.append((13.0, "reader", 4)),
        "reader saw edition 4 after 5",
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_devices_were_told_does_not_contradict_itself(name: str) -> None:
    history, _ = good()
    damage, sentence = TOLD[name]
    damage(history)
    with pytest.raises(AssertionError, match=sentence):
        history.check_told()


def test_a_confirmation_that_was_sent_but_not_durable_opens_nothing() -> None:
    """Devices see no fault: all confirmations had been sent. The log shows that they came after what they opened."""
    history, log = good()
    early = [event for event in log if event["kind"] != "reported"]
    with pytest.raises(AssertionError, match="3 at risk, 2 allowed"):
        history.check_log_moments(
            [*early, *(event for event in log if event["kind"] == "reported")], replace(ALLOWED, lane_of={})
        )
    assert history.check_moments(ALLOWED) == 1


@pytest.mark.parametrize(
    ("devices", "changes", "sentence"),
    [
        ((2, 5, 8), {"max_harmed": 9, "canary": 9}, "3 of s2 at risk, cap 2"),
        ((0, 1), {}, "lanes b and a of desk at risk together"),
    ],
)
def test_caps_and_lanes_hold_in_the_order_of_the_log(
    devices: tuple[int, ...], changes: dict[str, int], sentence: str
) -> None:
    history, log = good()
    late = [event for event in log if event["kind"] == "reported" and event["index"] in devices]
    with pytest.raises(AssertionError, match=sentence):
        history.check_log_moments(
            [*(event for event in log if event not in late), *late],
            replace(ALLOWED, **changes, **({} if "lanes" in sentence else {"lane_of": {}})),
        )


def rings(sizes: tuple[int, ...], confirmed_of_first: int) -> tuple[History, Allowed]:
    """Whole rings at a time; of the first so many have confirmed when the second begins, and all when a third does."""
    history, device = History(), 0
    for ring, size in enumerate(sizes, start=1):
        for place in range(size):
            history.leased.append((float(ring), device, lease(device, ring), "treated", ring))
            early = ring > 1 or place < confirmed_of_first
            history.sent.append((ring + (0.5 if early else 1.5), device, lease(device, ring), "confirmed"))
            device += 1
    return history, Allowed(10, 10, device, dict.fromkeys(range(device), "s"), alpha=0.01)


def test_the_statistical_rule_opens_what_its_evidence_carries_and_no_more() -> None:
    """No failure among 10 leaves 10 harmed ones among the first 31 with probability 0.008, among 35 with 0.018."""
    history, allowed = rings((10, 10), 10)
    assert history.check_moments(allowed) == 10
    history, allowed = rings((10, 22), 10)
    assert history.check_moments(allowed) == 22
    for sizes, confirmed in (((10, 26), 10), ((10, 22), 8)):
        history, allowed = rings(sizes, confirmed)
        with pytest.raises(AssertionError, match="at risk, 10 allowed"):
            history.check_moments(allowed)


def test_without_the_statistical_rule_the_certain_one_stands_alone() -> None:
    history, allowed = rings((10, 22), 10)
    with pytest.raises(AssertionError, match="11 at risk, 10 allowed"):
        history.check_moments(replace(allowed, alpha=0.0))
