"""The gate is tested itself: for each check a release that it alone catches; a check that catches none fails here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.gate.cases import FAULTS, Case, failed, try_case

from tidegate.gate.port import load_checks
from tidegate.gate.report import refusal

pytestmark = [
    pytest.mark.room("gate"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]
CHECKS = [check.name for check in load_checks()]
FINDINGS = {"RCA-1", "RCA-2", "RCA-3", "RCA-4", "RCA-5", "RCA-6"}


def test_a_good_release_passes_every_check(tmp_path: Path) -> None:
    results = try_case(Case(), tmp_path)
    assert {name: (result.result, refusal([result])) for name, result in results.items()} == {
        name: ("PASSED", []) for name in CHECKS
    }


def test_every_check_has_a_fault_that_it_is_there_for() -> None:
    assert set(FAULTS) == set(CHECKS)


def test_the_six_findings_of_july_2024_are_all_replayed() -> None:
    assert {case().finding for case in FAULTS.values()} - {""} == FINDINGS


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "whole gate"])
@pytest.mark.parametrize("check", CHECKS)
def test_a_fault_is_caught_by_the_check_for_it_and_by_no_other(check: str, whole: bool, tmp_path: Path) -> None:
    case = FAULTS[check]()
    results = try_case(case, tmp_path, "" if whole else check)
    assert failed(results) == {check}, {n: refusal([r]) for n, r in results.items()}
    lines = refusal([results[check]])
    assert any(case.says in each for each in lines), lines
    assert all(each.startswith(f"{check}: ") for each in lines)
