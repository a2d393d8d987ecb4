"""The analysis against brute force on random small estates, and on estates worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from tidegate.core.errors import BadInput
from tidegate.exposure.analyse import analyse
from tidegate.exposure.cuts import Limits
from tidegate.exposure.reading import parse_estate

from .brute import estates, falls, minimal_cuts, probability, text_of

Json = dict[str, Any]


@settings(max_examples=60)
@given(estates())
def test_cuts_are_those_that_trying_everything_finds(estate: Json) -> None:
    found = analyse(parse_estate(text_of(estate)))
    by_component = analyse(parse_estate(text_of(estate)), "component")
    for name in estate["services"]:
        assert found["services"][name]["complete"] and by_component["services"][name]["complete"]
        by_hand = minimal_cuts(list(estate["vendors"]), lambda v, name=name: falls(estate, name, set(), v, set()))
        assert found["services"][name]["cuts"] == by_hand
        by_hand = minimal_cuts(list(estate["components"]), lambda c, name=name: falls(estate, name, c, set(), set()))
        assert by_component["services"][name]["cuts"] == by_hand


@settings(max_examples=50)
@given(estates())
def test_the_sweep_agrees_with_trying_each_vendor_and_pair(estate: Json) -> None:
    found = analyse(parse_estate(text_of(estate)))
    names = sorted(estate["vendors"])
    alone = {v: {s for s in estate["services"] if falls(estate, s, set(), {v}, set())} for v in names}
    for v in names:
        assert found["vendors"][v]["services_lost"] == sorted(alone[v])
        groups = [g for g in sorted(estate["groups"]) if falls(estate, g, set(), {v}, set())]
        assert found["vendors"][v]["groups_lost"] == groups
    together = {tuple(row["vendors"]): row["services_lost"] for row in found["pairs"]}
    for place, a in enumerate(names):
        for b in names[place + 1 :]:
            both = {s for s in estate["services"] if falls(estate, s, set(), {a, b}, set())}
            assert together.get((a, b), []) == sorted(both - alone[a] - alone[b])


@settings(max_examples=50)
@given(estates(chances=True))
def test_probability_is_the_sum_over_all_outcomes(estate: Json) -> None:
    chances: dict[tuple[str, str], float] = {("c", n): c["fails"] for n, c in estate["components"].items()}
    chances |= {("v", n): v["fails"] for n, v in estate["vendors"].items() if "fails" in v}
    for name, group in estate["groups"].items():
        entries = enumerate(group["devices"], 1)
        chances |= {("g", f"{name}[{place}]"): e["fails"] for place, e in entries if "fails" in e}

    def down(name: str, failed: set[tuple[str, str]]) -> bool:
        of = {kind: {n for k, n in failed if k == kind} for kind in "cvg"}
        return falls(estate, name, of["c"], of["v"], of["g"])

    for by in ("vendor", "component"):
        found = analyse(parse_estate(text_of(estate)), by)["services"]
        for name in estate["services"]:
            by_hand = probability(chances, lambda failed, name=name: down(name, failed))
            assert found[name]["probability"] == pytest.approx(by_hand, abs=1e-12)
            for event, row in found[name]["importance"].items():
                kind = "v" if by == "vendor" else "c"
                causes = {one for one in chances if one in ((kind, event), ("g", event))}
                causes |= {("c", n) for n, c in estate["components"].items() if by == "vendor" and c["vendor"] == event}
                sure, never = (
                    probability(
                        {**chances, **dict.fromkeys(causes, sure)}, lambda failed, name=name: down(name, failed)
                    )
                    for sure in (1.0, 0.0)
                )
                assert row["birnbaum"] == pytest.approx(sure - never, abs=1e-12)


@settings(max_examples=40)
@given(estates())
def test_with_a_small_budget_the_order_limit_is_kept(estate: Json) -> None:
    """Whatever the budget, what is listed is all there is up to the order that is stated."""
    whole = analyse(parse_estate(text_of(estate)), "component")["services"]
    for nodes in (4, 6, 9, 14):
        small = analyse(parse_estate(text_of(estate)), "component", Limits(nodes=nodes))["services"]
        for name, row in small.items():
            cuts = whole[name]["cuts"]
            kept = cuts if row["complete"] else [cut for cut in cuts if len(cut) <= row["order_limit"]]
            assert row["cuts"] == kept


HARMLESS_ALONE = """
components:
  edr: {vendor: V1, privilege: kernel, fails: 0.1}
  edr2: {vendor: V2, privilege: kernel, fails: 0.2}
groups:
  A: {alive: 2, devices: [{count: 2, components: [edr]}, {count: 2, components: [edr2]}]}
services:
  desk: {needs: A, value_per_h: 300}
  lone: {needs: {at_least: 2, of: [A, A, desk]}, value_per_h: 100}
"""


def test_two_vendors_harmless_alone_and_fatal_together() -> None:
    found = analyse(parse_estate(HARMLESS_ALONE))
    desk = found["services"]["desk"]
    assert desk["cuts"] == [["V1", "V2"]] and desk["single_points"] == []
    assert desk["probability"] == pytest.approx(0.02)
    assert desk["importance"]["V1"]["birnbaum"] == pytest.approx(0.2)
    assert found["pairs"] == [{"vendors": ["V1", "V2"], "services_lost": ["desk", "lone"], "loss_share": 1.0}]
    assert found["vendors"]["V1"]["services_lost"] == []
    assert (found["hhi"], found["hhi_failure_weighted"]) == (0.5, 0.0)


PRIVILEGE = """
components:
  edr: {vendor: V1, privilege: kernel}
  app: {vendor: V2, privilege: user}
  odd: {}
groups:
  plain: {devices: [{count: 3, components: [edr, app]}]}
  desks: {alive: 60%, function: [app], devices: [{count: 3, components: [edr, app]}]}
  dark: {alive: 1, devices: [{count: 1, components: [odd]}, {count: 1, components: [edr]}]}
services: {S: plain, T: desks, U: dark, D: {needs: app}}
"""


def test_a_kernel_component_takes_the_device_and_a_user_space_one_its_function() -> None:
    found = analyse(parse_estate(PRIVILEGE))
    cuts = {name: row["cuts"] for name, row in found["services"].items()}
    assert cuts == {"S": [["V1"]], "T": [["V1"], ["V2"]], "U": [["V1", "unknown"]], "D": [["V2"]]}
    assert found["unknown"]["vendor"] == {"components": ["odd"], "devices": 1}
    assert found["unknown"]["privilege"] == {"components": ["odd"], "devices": 1}
    assert found["unknown"]["function"] == ["plain"]


def test_a_chance_that_is_not_given_is_not_taken_for_none() -> None:
    text = HARMLESS_ALONE.replace(", fails: 0.2", "")
    desk = analyse(parse_estate(text))["services"]["desk"]
    assert desk["probability"] is None
    assert desk["probability_between"] == [0.0, pytest.approx(0.1)]
    assert desk["without_fails"] == ["edr2"]


def test_cuts_are_listed_by_whole_orders_and_counted_beyond() -> None:
    """30 of 3-of-3 groups: 2 x 10^14 cuts are counted, and those that can be listed are."""
    lines = [f"  c{i}: {{vendor: v{i}, privilege: kernel}}" for i in range(90)]
    groups = [
        f"  g{i}: {{devices: [{', '.join(f'{{components: [c{3 * i + j}]}}' for j in range(3))}]}}" for i in range(30)
    ]
    needs = "services: {S: {any: [" + ", ".join(f"g{i}" for i in range(30)) + "]}, T: g0}"
    found = analyse(parse_estate("\n".join(["components:", *lines, "groups:", *groups, needs])))["services"]
    assert found["S"]["cut_count"] == 3**30 and not found["S"]["complete"]
    assert found["S"]["order_limit"] == 29 and found["S"]["cuts"] == []
    assert found["T"]["complete"] and found["T"]["cuts"] == [["v0"], ["v1"], ["v2"]]


def test_an_estate_is_looked_at_by_vendor_or_component() -> None:
    with pytest.raises(BadInput, match="vendor or component"):
        analyse(parse_estate(HARMLESS_ALONE), "site")
