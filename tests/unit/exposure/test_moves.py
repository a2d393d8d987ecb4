"""Moves and suggestions: what they change, that the bound holds against trying every plan, and what is refused."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.errors import BadInput
from tidegate.exposure.analyse import analyse
from tidegate.exposure.estate import Estate
from tidegate.exposure.graph import service_graph
from tidegate.exposure.heat import heat_map
from tidegate.exposure.knapsack import most_value
from tidegate.exposure.moves import apply_moves, read_move
from tidegate.exposure.openpsa import parse_xml
from tidegate.exposure.reading import parse_estate
from tidegate.exposure.suggest import killers, suggest

ESTATE = """
components:
  edr: {vendor: V1, privilege: kernel, role: edr}
  edr2: {vendor: V2, privilege: kernel, role: edr}
  dns: {vendor: V1, privilege: kernel, role: dns}
devices:
- {count: 6, components: [edr], labels: {service: check-in, site: ATL}}
- {count: 4, components: [edr], labels: {service: check-in, site: BOS}}
- {count: 2, components: [dns], labels: {service: names}}
groups:
  desks: {alive: 5, select: service=check-in}
  names: {alive: 1, select: service=names}
services:
  check-in: {needs: desks, value_per_h: 100}
  names: {needs: names, value_per_h: 10}
"""


def test_a_share_moves_and_the_service_is_freed() -> None:
    estate = parse_estate(ESTATE)
    changed, count = apply_moves(estate, [read_move("move 50% of service=check-in to V2")])
    assert count == 5 and sum(d.count for d in changed.classes) == 12
    before, after = analyse(estate), analyse(changed)
    assert before["services"]["check-in"]["cuts"] == [["V1"]]
    assert after["services"]["check-in"]["cuts"] == [["V1", "V2"]]
    assert after["vendors"]["V2"]["devices"] == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("put 3 of A to V2", "is no move"),
        ("move 101% of desks to V2", "more than 100%"),
        ("move 3 of nowhere to V2", "no group"),
        ("move 3 of site=NRT to V2", "no device has"),
        ("move 3 of desks to V9", "no component, and no vendor"),
        ("move 3 of desks from V9 to V2", "no component, and no vendor"),
        ("move 11 of desks to V2", "can move"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        apply_moves(parse_estate(ESTATE), [read_move(text)])


def test_suggest_by_hand() -> None:
    """check-in spares 5 of 10 desks: 5 must leave V1. names has no other component of its role."""
    plan = suggest(parse_estate(ESTATE), 5)
    assert (plan.moved, plan.freed, plan.value, plan.bound, plan.gap) == (5, ["check-in"], 100.0, 100.0, 0.0)
    assert sum(count for _, count in plan.moves) == 5
    assert list(plan.stuck) == ["names"]
    less = suggest(parse_estate(ESTATE), 4)
    assert (less.freed, less.value, less.bound) == ([], 0.0, 0.0), "no four moves free anything, and that is proven"


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 10), st.sampled_from([0, 1, 3, 10])), max_size=8), st.floats(0, 30))
def test_the_knapsack_is_exact_or_above(items: list[tuple[float, float]], room: float) -> None:
    def best(fits: float) -> float:
        chosen = [
            [item for item, kept in zip(items, bits, strict=True) if kept]
            for bits in product((0, 1), repeat=len(items))
        ]
        return max(sum(v for _, v in some) for some in chosen if sum(w for w, _ in some) <= fits)

    assert best(room) - 1e-6 <= most_value(items, room) <= best(room * (1 + 1e-8)) + 1e-6
    assert most_value(items, room, steps=0) >= best(room) - 1e-6


@st.composite
def small(draw: st.DrawFn) -> str:
    """Two groups of up to three devices, three vendors of one role, three services."""
    vendors = ["V1", "V2", "V3"][: draw(st.integers(2, 3))]
    lines = ["components:", *(f"  c{v}: {{vendor: {v}, privilege: kernel}}" for v in vendors), "groups:"]
    for name in ("A", "B"):
        n = draw(st.integers(1, 3))
        entries = ", ".join(f"{{components: [c{draw(st.sampled_from(vendors))}]}}" for _ in range(n))
        lines.append(f"  {name}: {{alive: {draw(st.integers(0, n))}, devices: [{entries}]}}")
    lines += ["services:"]
    for name, needs in (
        ("S", "A"),
        ("T", "{all: [A, B]}"),
        ("U", "{any: [A, B]}"),
        ("W", "{at_least: 2, of: [A, B, U]}"),
    ):
        lines.append(f"  {name}: {{needs: {needs}, value_per_h: {draw(st.sampled_from([1, 3, 10]))}}}")
    return "\n".join(lines)


@settings(max_examples=25)
@given(small(), st.integers(0, 4))
def test_no_plan_is_better_than_the_bound(text: str, budget: int) -> None:
    estate = parse_estate(text)
    plan = suggest(estate, budget)
    before = set(killers(estate))
    best = 0.0
    names = list(estate.components)
    for chosen in product(names, repeat=len(estate.classes)):
        moved = sum(new not in d.components for new, d in zip(chosen, estate.classes, strict=True))
        if moved <= budget:
            best = max(best, _freed(estate, before, chosen))
    assert plan.value <= best + 1e-9 <= plan.bound + 2e-9
    assert plan.moved <= budget and plan.after is not None
    assert plan.value == sum(estate.values()[name] for name in before - set(killers(plan.after)))


def _freed(estate: Estate, before: set[str], chosen: tuple[str, ...]) -> float:
    moves: list[Any] = [
        read_move(f"move 1 of {group.name} from {estate.classes[row].components[0]} to {new}")
        for group in estate.groups.values()
        for row, new in [(r, chosen[r]) for r in group.members]
        if new not in estate.classes[row].components
    ]
    # Classes are moved one by one, each by its own component: what is named alike in a group is alike.
    after, _ = apply_moves(estate, moves) if _plain(moves) else (None, 0)
    if after is None:
        return 0.0
    left = set(killers(after))
    return sum(estate.values()[name] for name in before - left)


def _plain(moves: list[Any]) -> bool:
    """Chains within one group (a to b, b to c) are the same plan as another combination."""
    return not any(a.what == b.what and a.target == b.origin for a in moves for b in moves)


def test_pictures_are_whole_and_escaped() -> None:
    text = ESTATE.replace("check-in: {needs", "'<b>&\"': {needs")
    estate = parse_estate(text)
    found = analyse(estate)
    picture = heat_map([("before & after", found), ("<after>", found)])
    assert "<b>" not in picture
    parse_xml(picture.encode(), "picture")
    graph = service_graph(estate, '<b>&"', ["V1"])
    parse_xml(graph.encode(), "graph")
    assert graph.count('fill="#c62828"') == 3, "service, group and vendor are down"
    with pytest.raises(BadInput, match="no service"):
        service_graph(estate, "none", [])
