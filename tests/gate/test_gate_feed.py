"""A real feed through the gate: each pair of its versions, and faults put into them, each caught by its check."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bench.gate import FEED, unpack_feed

from tidegate.cli.gate import Wanted, trial_of
from tidegate.gate.pipeline import run_checks
from tidegate.gate.port import choose, load_checks
from tidegate.gate.report import refusal
from tidegate.gate.settings import Corpora, Settings

pytestmark = [
    pytest.mark.room("gate"),
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
    pytest.mark.skipif(not FEED.is_dir(), reason="the feed is not beside the project"),
]
SETTINGS = Settings(corpus=Corpora(system_mb=40))
EVERY_ELF = """
import "elf"
rule every_program { strings: $a = "ELF" condition: uint32(0) == 0x464c457f and $a }
"""
EXPLODES = """
rule explodes
{
    strings:
        $a = /.{1,400}[^a]{1,300}q/s
        $b = /.{1,400}[^b]{1,300}z/s
        $c = /.{1,400}[^c]{1,300}w/s
        $d = /.{1,400}[^d]{1,300}k/s
        $e = /.{1,400}[^e]{1,300}v/s
        $f = /.{1,400}[^f]{1,300}j/s
    condition:
        for any of them : (# > 100000000)
}
"""


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return unpack_feed(tmp_path_factory.mktemp("feed"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def a_file(place: Path) -> Path:
    return sorted(place.rglob("*.yara"))[40]


def matches_every_program(place: Path) -> None:
    a_file(place).write_text(a_file(place).read_text() + EVERY_ELF)


def explodes(place: Path) -> None:
    a_file(place).write_text(a_file(place).read_text() + EXPLODES)


def is_empty(place: Path) -> None:
    a_file(place).write_text("")


def has_a_name_twice(place: Path) -> None:
    text = a_file(place).read_text()
    a_file(place).write_text(text + "\n" + text[text.index("rule ") :])


def has_a_name_in_two_files(place: Path) -> None:
    text = a_file(place).read_text()
    a_file(place).with_name("another.yara").write_text(text + "\n// and a line\n")


def lacks_a_module(place: Path) -> None:
    a_file(place).write_text('import "modul"\n' + a_file(place).read_text())


def sees_nothing(place: Path) -> None:
    text = a_file(place).read_text()
    a_file(place).write_text(text.replace("condition:", "condition:\n        filesize == 1 and", 1))


DEFECTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "a rule that matches every ELF file": (matches_every_program, "benign", "rule every_program"),
    "a regular expression that explodes": (explodes, "resources", "CPU to scan"),
    "an empty file": (is_empty, "schema", "is empty"),
    "a duplicate rule name": (has_a_name_twice, "load", "duplicate rule"),
    "a duplicate rule name in another file": (has_a_name_in_two_files, "schema", "stands also in"),
    "a missing module": (lacks_a_module, "load", "unknown module"),
    "a detection lost": (sees_nothing, "detections", "is not detected any more"),
}


@pytest.mark.parametrize("pair", range(7))
def test_each_pair_of_versions_passes(versions: list[Path], cache: Path, pair: int) -> None:
    wanted = Wanted(SETTINGS, Path(), baselines=(versions[pair],), cache=cache)
    with trial_of(versions[pair + 1], wanted) as trial:
        results = run_checks(trial, choose(load_checks(), [], ["idempotence"]))
    wrong = [line for result in results for line in refusal([result])]
    # What the feed's own rules do against the gate's usual limits is told in docs/gate.md, and nothing else may fail.
    assert all("size: " in line or "resources: " in line for line in wrong), wrong


@pytest.mark.parametrize("what", DEFECTS)
def test_a_seeded_defect_is_caught_by_the_check_for_it(
    versions: list[Path], cache: Path, tmp_path: Path, what: str
) -> None:
    seed, check, says = DEFECTS[what]
    candidate = tmp_path / "candidate"
    shutil.copytree(versions[-1], candidate)
    seed(candidate)
    needs: dict[str, Any] = {each.name: each.needs for each in load_checks()}
    with trial_of(candidate, Wanted(SETTINGS, Path(), baselines=(versions[-1],), cache=cache)) as trial:
        results = run_checks(trial, choose(load_checks(), [check, *needs[check]], []))
    lines = [line for result in results for line in refusal([result])]
    assert [result.check for result in results if result.result == "FAILED"] == [check], lines
    assert any(says in line for line in lines), lines
    name = "another.yara" if "another" in what else a_file(versions[-1]).name
    assert any(name in line for line in lines), lines
