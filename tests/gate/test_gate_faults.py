"""The gate is tested itself: for each check a release that it alone catches; a check that catches none fails here."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.gate.cases import ACTIVATE, DEACTIVATE, ENGINE, FAULTS, SETTINGS, Case, engine, everything, failed, try_case

from tidegate.gate.port import load_checks
from tidegate.gate.report import refusal
from tidegate.gate.settings import Damage, Staging

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
    "hangs": (f"{ACTIVATE}sleep 3600\n", "lifecycle: activate:3: activation does not work: "),
    "needs the network": (
        f"set -e\n{ACTIVATE}python3 -c 'import socket; socket.socket()'\n",
        "lifecycle: activate:4: activation does not work: ",
    ),
    "a set-uid program of its own": (
        f'{ACTIVATE}cp /bin/true "$1/helper"\nchmod 4755 "$1/helper"\n',
        "lifecycle: activate:3: activation does not work: it leaves files that lend others' rights:"
        " /tmp/component/work/helper (set-uid)",
    ),
    "a set-gid file elsewhere": (
        f"{ACTIVATE}cp /bin/true /opt/helper\nchmod 2755 /opt/helper\n",
        "lifecycle: activate:3: activation does not work: it leaves files that lend others' rights:"
        " /opt/helper (set-gid)",
    ),
    "set-uid for a file of the device's": (
        f"{ACTIVATE}chmod u+s /tmp/watch/readme.txt\n",
        "lifecycle: activate:3: activation does not work: it leaves files that lend others' rights:"
        " /tmp/watch/readme.txt (set-uid)",
    ),
}


@pytest.mark.parametrize("what", DEVICE)
def test_what_activation_does_to_a_device_is_seen(what: str, tmp_path: Path) -> None:
    activate, says = DEVICE[what]
    settings = replace(SETTINGS, driver={"timeout_s": "3"})
    results = try_case(Case(activate=activate, settings=settings), tmp_path, "lifecycle")
    lines = refusal([results["lifecycle"]])
    assert failed(results) == {"lifecycle"} and lines[0].startswith(says), lines


def test_a_directory_that_hands_its_group_on_is_nobodys_rights(tmp_path: Path) -> None:
    """Set-gid on a directory says whose group new files are of, and lets nobody act as another."""
    case = Case(activate=f'{ACTIVATE}mkdir -p "$1/shared"\nchmod 2755 "$1/shared"\n',
                deactivate='rm -rf "$1/active" "$1/shared"\n')  # fmt: skip
    result = try_case(case, tmp_path, "lifecycle")["lifecycle"]
    assert result.result == "PASSED", refusal([result])


def test_what_activation_writes_outside_is_told_even_if_it_is_taken_away_again(tmp_path: Path) -> None:
    case = Case(activate=f"{ACTIVATE}touch /etc/own\n", deactivate='rm -f "$1/active" /etc/own\n')
    result = try_case(case, tmp_path, "lifecycle")["lifecycle"]
    (told,) = [each.sentence for each in result.findings]
    assert result.result == "WARNED" and "where no rollback looks: /etc/own" in told


MORE = {
    "writes once more each time": (
        "idempotence",
        Case(activate=f'{ACTIVATE}echo option >> "$1/conf"\n', deactivate=f'{DEACTIVATE}rm -f "$1/conf"\n'),
        "activate:3: a second activation does not work: it writes into its files once more than once: ",
    ),
    "a file more each time": (
        "idempotence",
        Case(activate=f'{ACTIVATE}touch "$1/state.$(date +%s%N)"\n', deactivate=f'{DEACTIVATE}rm -f "$1"/state.*\n'),
        "activate:3: a second activation does not work: it leaves more files behind than once: ",
    ),
    "health that lies": (
        "lifecycle",
        Case(probe=("true",)),
        "health after that does not work: active: healthy although it has been deactivated",
    ),
    "a deactivation that does nothing": (
        "lifecycle",
        Case(deactivate="exit 0\n"),
        "health after that does not work: active: healthy although it has been deactivated",
    ),
    "takes the device's files away": (
        "lifecycle",
        Case(activate=f"{ACTIVATE}rm -rf /tmp/watch/*\n"),
        "activate:3: activation does not work: files of the device's own are gone or changed: /tmp/watch/",
    ),
    "takes the device's files away when it goes": (
        "lifecycle",
        Case(deactivate=f"{DEACTIVATE}rm -f /tmp/watch/readme.txt\n"),
        "deactivate:2: deactivation does not work: files of the device's own are gone or changed: /tmp/watch/",
    ),
    "the rollback leaves something running": (
        "upgrade",
        Case(activate=f'{ACTIVATE}if [ ! -e "$1/pid" ]; then sleep 600 >/dev/null 2>&1 & echo $! > "$1/pid"; fi\n',
             deactivate=f'{DEACTIVATE}kill "$(cat "$1/pid")"\nrm -f "$1/pid"\n'),
        "activate:3: the rollback to channel old0 does not work: still running after deactivation: sleep 600",
    ),
    "activation that takes much more memory": (
        "upgrade",
        Case(activate=f"{ACTIVATE}python3 -c 'held = bytes([1]) * (150 << 20)'\n"),
        "activate:1: activation and what it starts hold 1",
    ),
    "what it starts takes much more memory": (
        "upgrade",
        Case(activate=f"{ACTIVATE}python3 -c 'import pathlib, sys, time; held = bytes([1]) * (150 << 20);"
                      f' pathlib.Path(sys.argv[1]).touch(); time.sleep(2.5)\' "$1/held" >/dev/null 2>&1 &\n'
                      f'while [ ! -e "$1/held" ]; do sleep 0.05; done\nrm -f "$1/held"\n'),
        "activate:1: activation and what it starts hold 1",
    ),
    "a state that the release before cannot read": (
        "upgrade",
        Case(activate=f'{ACTIVATE}echo 2 > "$1/format"\n',
             older=(f'{ACTIVATE}if [ -e "$1/format" ]; then\n  exit 7\nfi\n',)),
        "activate:3: rollback to channel old0 does not work: activate of channel: sh ended with exit code 7 (",
    ),
    "the rollback leaves a file outside": (
        "upgrade",
        Case(activate=f"{ACTIVATE}touch /etc/own.conf\n", deactivate=f"{DEACTIVATE}rm -f /etc/own.conf\n"),
        "deactivate:2: the rollback to channel old0 does not work: still there after deactivation: /etc/own.conf",
    ),
    "a type that no file is of": (
        "schema",
        Case(schema={"name": "pipe", "files": "*.txt", "fields": 20}),
        "schema.json:1: type pipe is declared for *.txt, and no such file holds a record",
    ),
    "a record twice": (
        "schema",
        Case(records=[*everything(), everything()[3]]),
        "content.chn:22: the record is the same as the one in content.chn:5",
    ),
    "a shell program with line ends of another system": (
        "schema",
        Case(activate=ACTIVATE.replace("ok > \"$1/active\"\n", "ok > \"$1/active\"\r\n")),
        "activate:2: a line of a shell program ends with CR LF, and the CR counts as a letter of its last word",
    ),
}  # fmt: skip
"""Further releases that one check alone catches: (check, the release, what it says)."""


@pytest.mark.parametrize("what", MORE)
def test_more_faults_are_caught_by_the_check_for_them(what: str, tmp_path: Path) -> None:
    check, case, says = MORE[what]
    results = try_case(case, tmp_path, check)
    lines = refusal([results[check]])
    assert failed(results) == {check} and lines[0].startswith(f"{check}: {says}"), lines


def test_probes_that_notice_nothing_can_be_allowed(tmp_path: Path) -> None:
    allowed = replace(SETTINGS, staging=Staging(health_must_notice=False))
    assert failed(try_case(Case(probe=("true",), settings=allowed), tmp_path, "lifecycle")) == set()


def test_a_coverage_guided_run_names_the_line_that_breaks(tmp_path: Path) -> None:
    pytest.importorskip("atheris")
    reader = tmp_path / "tide_reader.py"
    reader.write_text("def read(data):\n    if data[:1] == b'r':\n        return data.split(b'|')[20]\n")
    own = replace(engine(), fuzz="tide_reader:read", read=(str(ENGINE), str(reader)))
    settings = replace(SETTINGS, interpreter=(own,), damage=Damage(variants=5, fuzz_s=60))
    result = try_case(Case(settings=settings), tmp_path / "gate", "damage")["damage"]
    (line,) = refusal([result])
    assert "IndexError: list index out of range" in line and 'tide_reader.py", line 3, in read' in line, line
    assert result.figures["coverage-guided runs"] > 0
