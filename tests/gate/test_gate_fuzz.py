"""A coverage-guided run of a vendor's own parser: one that holds, and one whose fault no seeded damage reaches."""

from __future__ import annotations

import base64
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.gate.cases import SETTINGS, Case, try_case

from tidegate.gate.port import Result
from tidegate.gate.report import refusal
from tidegate.gate.settings import Damage

pytestmark = [
    pytest.mark.room("gate"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]
PARSER = """
from tidegate.core.errors import BadInput
SUPPLIED = [0] * 20
def take(data):
    {first}
    if not data.startswith(b"# CHN1"):
        raise BadInput("no records")
    if data[6:7] == b"v":
        {fault}
    for line in data.splitlines()[1:]:
        if line.count(b"|") < 2:
            raise BadInput("a record needs a verdict and fields")
"""


def damage(place: Path, fault: str, seconds: int, first: str = "pass") -> Result:
    pytest.importorskip("atheris")
    (place / "vendor").mkdir()
    parser = place / "vendor" / "own_parser.py"
    parser.write_text(PARSER.format(fault=fault, first=first))
    (interpreter,) = SETTINGS.interpreter
    own = replace(interpreter, fuzz="own_parser:take", read=(*interpreter.read, str(parser)))
    settings = replace(SETTINGS, interpreter=(own,), damage=Damage(variants=2, fuzz_s=seconds))
    return try_case(Case(settings=settings), place, "damage")["damage"]


def test_a_parser_that_holds_is_tried_on_many_inputs(tmp_path: Path) -> None:
    found = damage(tmp_path, "pass", 2)
    assert found.result == "PASSED" and found.figures["coverage-guided runs"] > 100, found


def test_a_long_input_that_breaks_is_shown_from_its_beginning(tmp_path: Path) -> None:
    found = damage(tmp_path, "pass", 60, "if len(data) > 400: SUPPLIED[20]")
    (said,) = refusal([found])
    shown = said.rpartition("; in base64 it begins ")[2]
    assert len(base64.b64decode(shown)) == 150, said


def test_a_fault_behind_a_byte_that_nothing_else_writes_is_found(tmp_path: Path) -> None:
    found = damage(tmp_path, "SUPPLIED[20]", 60)
    (said,) = refusal([found])
    assert said.startswith("damage: a made-up input breaks own_parser:take: IndexError: list index out of range (File ")
    assert re.search(r'own_parser.py", line 9, in take\); in base64 it (is|begins) ', said), said
    assert base64.b64decode(said.rpartition(" ")[2]).startswith(b"# CHN1v")
