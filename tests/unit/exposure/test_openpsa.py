"""OpenPSA both ways, and the Aralia trees: published counts and probabilities, where the trees are at hand.

The trees are GPL-3 and are not in here. Name the directory that holds them (input/Aralia of the SCRAM repository):
TIDEGATE_ARALIA=/path/to/Aralia python3 dev.py test tests/unit/exposure/test_openpsa.py
"""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tidegate.core.errors import BadInput
from tidegate.exposure.analyse import analyse
from tidegate.exposure.bdd import Solver
from tidegate.exposure.cuts import CutSolver, Limits
from tidegate.exposure.model import view_of
from tidegate.exposure.openpsa import openpsa_of, read_openpsa
from tidegate.exposure.openpsa_out import estate_of_model, to_openpsa
from tidegate.exposure.reading import parse_estate

from .brute import estates, text_of

TREES = os.environ.get("TIDEGATE_ARALIA", "")
COUNTS = {"chinese": 392, "baobab1": 46_188, "baobab2": 4_805}
CHANCES = {
    "chinese": 1.17058e-3,
    "baobab1": 1.01708e-4,
    "baobab2": 7.13018e-4,
    "baobab3": 2.24117e-3,
    "das9201": 1.34237e-2,
    "das9202": 1.01154e-2,
    "das9203": 1.3488e-3,
    "das9204": 2.16942e-11,
    "das9205": 1.38408e-8,
    "das9206": 0.229687,
    "das9207": 0.346696,
    "das9208": 1.30179e-2,
    "das9209": 1.058e-13,
    "edf9201": 0.324591,
    "edf9205": 0.209351,
}
aralia = pytest.mark.skipif(not TREES, reason="TIDEGATE_ARALIA names no directory with the Aralia trees")


@aralia
@pytest.mark.parametrize("name", sorted(CHANCES))
def test_the_published_probabilities_and_counts(name: str) -> None:
    model = read_openpsa(Path(TREES) / f"{name}.xml")
    solver = CutSolver(model.tree, Limits())
    found = solver.solve(model.tree.tops[model.tops[0]])
    assert found.diagram is not None and found.count is not None
    assert solver.solver.probability(found.diagram, model.fails) == pytest.approx(CHANCES[name], rel=1e-5)
    assert found.count == COUNTS.get(name, found.count)
    if name == "chinese":
        assert found.complete and found.by_order == (0, 0, 12, 0, 24, 188, 168)
    if name == "das9209":
        assert found.count == 82_000_000_000 and not found.complete


@aralia
@pytest.mark.slow
def test_cea9601_up_to_order_four() -> None:
    model = read_openpsa(Path(TREES) / "cea9601.xml")
    found = CutSolver(model.tree, Limits(nodes=1_500_000, listed=100_000, order=4)).solve(
        model.tree.tops[model.tops[0]]
    )
    assert (len(found.cuts), found.order_limit, found.complete) == (54_436, 4, False)


TREE = b"""<opsa-mef><define-fault-tree name="t">
<define-gate name="top"><atleast min="2"><gate name="a"/><basic-event name="x"/><gate name="b"/></atleast></define-gate>
<define-gate name="a"><and><basic-event name="x"/><not><basic-event name="y"/></not></and></define-gate>
<define-gate name="b"><or><basic-event name="y"/>
<xor><basic-event name="x"/><basic-event name="z"/></xor></or></define-gate>
</define-fault-tree><model-data>
<define-basic-event name="x"><float value="0.3"/></define-basic-event>
<define-basic-event name="y"><float value="0.2"/></define-basic-event>
<define-basic-event name="z"><float value="0.1"/></define-basic-event>
</model-data></opsa-mef>"""


def _by_hand(on: set[str]) -> bool:
    x, y, z = (name in on for name in "xyz")
    a, b = x and not y, y or (x != z)
    return a + x + b >= 2


def test_trees_with_complements_by_hand() -> None:
    model = openpsa_of(TREE, "t.xml")
    solver = Solver(model.tree, 1000)
    p = solver.probability(solver.build(model.tree.tops["top"], 1000), model.fails)
    sets = [set(one) for size in range(4) for one in combinations("xyz", size)]
    chance = {"x": 0.3, "y": 0.2, "z": 0.1}
    total = 0.0
    for on in sets:
        weight = 1.0
        for name, q in chance.items():
            weight *= q if name in on else 1 - q
        total += weight * _by_hand(on)
    assert p == pytest.approx(total)
    minimal = [on for on in sets if _by_hand(on) and not any(_by_hand(less) and less < on for less in sets)]
    for limits in (Limits(), Limits(nodes=9)):
        found = CutSolver(model.tree, limits).solve(model.tree.tops["top"])
        kept = [sorted(on) for on in minimal if found.complete or len(on) <= (found.order_limit or 0)]
        assert [list(cut) for cut in found.cuts] == kept


@settings(max_examples=25)
@given(estates(chances=True))
def test_an_estate_goes_out_and_comes_back(estate: dict[str, Any]) -> None:
    parsed = parse_estate(text_of(estate))
    whole = analyse(parsed, "component")["services"]
    model = openpsa_of(to_openpsa(parsed).encode(), "out.xml")
    solver = Solver(model.tree, 10_000)
    for name, row in whole.items():
        diagram = solver.build(model.tree.tops[f"service-{name}"], 10_000)
        assert solver.probability(diagram, model.fails) == pytest.approx(row["probability"], abs=1e-12)
    by = openpsa_of(to_openpsa(parsed, "component").encode(), "out.xml")
    for name, row in whole.items():
        assert CutSolver(by.tree, Limits()).solve(by.tree.tops[f"service-{name}"]).count == row["cut_count"]


def test_a_fault_tree_becomes_an_estate() -> None:
    text = TREE.replace(b'<not><basic-event name="y"/></not>', b'<basic-event name="y"/>')
    text = text.replace(b"<xor>", b"<and>").replace(b"</xor>", b"</and>")
    model = openpsa_of(text, "t.xml")
    plain, remarks = estate_of_model(model)
    estate = parse_estate(text_of(plain))
    assert not remarks
    found = analyse(estate, "component")["services"]["top"]
    cuts = CutSolver(model.tree, Limits()).solve(model.tree.tops["top"])
    assert found["cuts"] == [list(cut) for cut in cuts.cuts] == [["x", "y"], ["x", "z"]]
    assert view_of(estate, "component").tree.tops
    _, remarks = estate_of_model(openpsa_of(TREE, "t.xml"))
    assert any("complement" in remark for remark in remarks)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"<a/>", "no OpenPSA"),
        (b"<opsa-mef", "no XML"),
        (b"<!DOCTYPE a><opsa-mef/>", "document type"),
        (b"<opsa-mef/>", "no gate"),
        (TREE.replace(b'min="2"', b'min="7"'), "min from 1 to 3"),
        (TREE.replace(b'value="0.3"', b'value="3"'), "from 0 to 1"),
        (TREE.replace(b'<gate name="a"/>', b'<gate name="q"/>'), "'q' is named"),
        (TREE.replace(b'<basic-event name="y"/>\n<xor>', b'<gate name="top"/><xor>'), "need each other"),
    ],
)
def test_what_is_no_fault_tree_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        openpsa_of(text, "t.xml")
