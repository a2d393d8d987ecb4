"""The gate is tested itself: for each check a release that it alone catches; a check that catches none fails here."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.gate.cases import ACTIVATE, FAULTS, SETTINGS, Case, failed, try_case

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


DEVICE = {
    "left outside": (
        f"{ACTIVATE}echo '* * * * * root true' > /etc/cron.d/own || true\n",
        "lifecycle: deactivate: getting rid of it does not work: still there after deactivation: /etc/cron.d/own",
    ),
    "fills the disk": (
        f'{ACTIVATE}head -c 10000000000 /dev/zero > "$1/big" 2>/dev/null || true\n',
        "lifecycle: activate: activation does not work: it filled the ",
    ),
    "hangs": (f"{ACTIVATE}sleep 3600\n", "lifecycle: activate: activation does not work: "),
    "needs the network": (
        f"set -e\n{ACTIVATE}python3 -c 'import socket; socket.socket()'\n",
        "lifecycle: activate: activation does not work: ",
    ),
}


@pytest.mark.parametrize("what", DEVICE)
def test_what_activation_does_to_a_device_is_seen(what: str, tmp_path: Path) -> None:
    activate, says = DEVICE[what]
    settings = replace(SETTINGS, driver={"timeout_s": "3"})
    results = try_case(Case(activate=activate, settings=settings), tmp_path, "lifecycle")
    lines = refusal([results["lifecycle"]])
    assert failed(results) == {"lifecycle"} and lines[0].startswith(says), lines


def test_what_activation_writes_outside_is_told_even_if_it_is_taken_away_again(tmp_path: Path) -> None:
    case = Case(activate=f"{ACTIVATE}touch /etc/own\n", deactivate='rm -f "$1/active" /etc/own\n')
    result = try_case(case, tmp_path, "lifecycle")["lifecycle"]
    (told,) = [each.sentence for each in result.findings]
    assert result.result == "WARNED" and "where no rollback looks: /etc/own" in told
