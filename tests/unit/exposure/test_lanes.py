"""Rules for rollouts: whatever respects them takes no service with slack; lanes are dealt and checked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.caps import InFlight
from tidegate.core.limits import Lane, Lanes, Limit
from tidegate.exposure.estate import Estate
from tidegate.exposure.lane_table import deal
from tidegate.exposure.lanes import bound_rules, rules_of, worst_case
from tidegate.exposure.reading import parse_estate

from .brute import estates, lost, text_of

Json = dict[str, Any]


def labelled(estate: Json) -> Estate:
    """The same estate with its devices chosen by label."""
    devices = [
        {"count": entry["count"], "components": entry["components"], "labels": {"group": name}}
        for name, group in estate["groups"].items()
        for entry in group["devices"]
    ]
    groups = {name: {"alive": group["alive"], "select": f"group={name}"} for name, group in estate["groups"].items()}
    return parse_estate(text_of({**estate, "groups": groups, "devices": devices}))


@settings(max_examples=80)
@given(estates(), st.randoms(use_true_random=False))
def test_what_respects_the_rules_takes_no_service_with_slack(plain: Json, random: Any) -> None:
    """Devices are exposed in any order, by any number of rollouts, as far as the rules let them, and all die."""
    estate = labelled(plain)
    rules = rules_of(estate)
    limits, lanes = bound_rules(estate, rules)
    in_flight = InFlight()
    in_flight.standing.declare("r1", limits, ())
    in_flight.standing.declare("r2", (), lanes)
    queue = [name for name, g in estate.groups.items() for _ in range(estate.devices_of(g))]
    random.shuffle(queue)
    dead = dict.fromkeys(estate.groups, 0)
    for index, name in enumerate(queue):
        if in_flight.standing.refuses({"group": name}, in_flight) is None:
            in_flight.enter(index, random.choice("ab"), {"group": name})
            dead[name] += 1
    down = {n for n, g in estate.groups.items() if estate.devices_of(g) - dead[n] < g.alive}
    emptied = {
        **plain,
        "groups": {
            n: {"alive": 1, "devices": [{"count": int(n not in down), "components": []}]} for n in estate.groups
        },
    }
    for name in estate.services:
        if name not in rules.unavoidable:
            assert not lost(emptied, name, set(), set(), set()), (name, dead, rules)
    assert set(worst_case(estate, dead, 10**6, rules)) <= set(rules.unavoidable)


@settings(max_examples=40)
@given(estates())
def test_the_loss_of_one_lane_takes_no_service_with_slack(plain: Json) -> None:
    estate = parse_estate(text_of(plain))
    dealt = deal(estate)
    assert dealt.broken == []
    assert dealt.counts.sum(axis=1).tolist() == [
        devices.count if any(row in g.members for g in estate.groups.values()) else 0
        for row, devices in enumerate(estate.classes)
    ]
    for name, group in estate.groups.items():
        slack = estate.devices_of(group) - group.alive
        if slack:
            assert dealt.counts[list(group.members)].sum(axis=0).max() <= slack
            assert dealt.lanes >= dealt.least[name]


SLACK = """
devices:
- {count: 6, labels: {place: desk}}
- {count: 1, labels: {place: radar-1}}
- {count: 1, labels: {place: radar-2}}
groups:
  desks: {alive: 4, select: place=desk}
  radar-1: {select: place=radar-1}
  radar-2: {select: place=radar-2}
services:
  check-in: desks
  approach: {any: [radar-1, radar-2]}
  tower: {all: [approach, check-in]}
  archive: {needs: radar-2, approver: ines}
"""


def test_limits_lanes_and_what_is_unavoidable_by_hand() -> None:
    estate = parse_estate(SLACK)
    rules = rules_of(estate)
    limits, lanes = bound_rules(estate, rules)
    assert limits == (Limit("desks", (("place", "desk"),), 2),)
    radars = tuple(Lane(f"radar-{n}", ((("place", f"radar-{n}"),),)) for n in (1, 2))
    assert lanes == (Lanes("approach", radars),)
    assert rules.unavoidable == {"archive": ("group radar-2 needs all of its 1 devices: add one",)}
    everyone = {"desks": 6, "radar-1": 1, "radar-2": 1}
    assert worst_case(estate, everyone, 8, rules) == ["archive"]
    assert worst_case(estate, everyone, 8, None) == ["check-in", "approach", "tower", "archive"]
    assert worst_case(estate, everyone, 2, None) == ["approach", "tower", "archive"]
    assert worst_case(estate, {"desks": 6}, 8, rules) == []


def test_groups_that_share_a_device_are_no_alternatives() -> None:
    estate = parse_estate(
        "devices: [{count: 1, labels: {a: y, b: y}}]\n"
        "groups: {A: {select: a=y}, B: {select: b=y}}\nservices: {S: {any: [A, B]}}\n"
    )
    assert rules_of(estate).lanes == {} and list(rules_of(estate).unavoidable) == ["S"]


def test_limits_of_one_rollout_bind_the_others_until_it_ends() -> None:
    in_flight = InFlight()
    limit = Limit("desks", (("place", "desk"), ("site", "ATL")), 1)
    in_flight.standing.declare("r1", (limit,), ())
    desk = {"site": "ATL", "place": "desk"}
    in_flight.enter(7, "dns-filter", desk)
    refusal = in_flight.standing.refuses(desk, in_flight)
    assert refusal is not None and refusal.reason == "cap"
    assert in_flight.standing.refuses({"place": "desk", "site": "BOS"}, in_flight) is None
    in_flight.leave(7, "dns-filter")
    assert in_flight.standing.refuses(desk, in_flight) is None
    in_flight.enter(7, "dns-filter", desk)
    in_flight.standing.withdraw("r1")
    assert in_flight.standing.refuses(desk, in_flight) is None


def test_a_limit_is_at_least_one_and_chooses_something() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Limit("desks", (("place", "desk"),), 0)
    with pytest.raises(ValueError, match="no label"):
        Limit("desks", (), 2)
