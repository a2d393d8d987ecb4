"""The change at fault is found by trying: among files, among records, and not where it is not one change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.gate.cases import PYTHON, SETTINGS, Case, everything, failed, line, trial_of, try_case

from tidegate.gate import tracing
from tidegate.gate.inside import measured
from tidegate.gate.interpreters import ENOUGH, Patience
from tidegate.gate.jobs import OVER
from tidegate.gate.report import refusal
from tidegate.gate.settings import InterpreterSettings
from tidegate.gate.tracing import traced
from tidegate.gate.trial import Trial

pytestmark = pytest.mark.room("gate")
SANDBOXED = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
MANY = [*everything(), *(line(f"n{number}", f"z{number}z") for number in range(60))]
ODD = """
import os, pathlib, sys
text = pathlib.Path(sys.argv[1], "content.chn").read_text()
if "exit3" in text:
    sys.exit(3)
if "killed" in text:
    os.kill(os.getpid(), 9)
"""


def with_records(*odd: tuple[int, str]) -> list[str]:
    records = list(MANY)
    for place, word in odd:
        records.insert(place, line("odd", word))
    return records


def trial(place: Path, *odd: tuple[int, str], more: dict[str, str] | None = None) -> Trial:
    return trial_of(Case(records=with_records(*odd), more=more or {}), place)


def shows(*words: str) -> Callable[[Path], bool]:
    """Content that holds all of these words in any of its files."""
    return lambda place: all(any(word in path.read_text() for path in place.rglob("*.chn")) for word in words)


@pytest.mark.parametrize("at", [0, 33, 80])
def test_one_record_among_many_is_found_with_its_line(tmp_path: Path, at: int) -> None:
    place, more = traced(trial(tmp_path, (at, "strange")), shows("strange"))
    assert (place, more) == ({"file": "content.chn", "line": at + 2, "rule": "odd"}, "")


def test_one_file_among_many_is_found(tmp_path: Path) -> None:
    more = {f"{name}.chn": f"# CHN1\n# {name}\n{line(name, name * 3)}\n" for name in "abcdefgh"}
    place, words = traced(trial(tmp_path, more=more), shows("fff"))
    assert (place, words) == ({"file": "f.chn", "line": 3, "rule": "f"}, "")


def test_what_two_changes_do_together_is_said_so(tmp_path: Path) -> None:
    place, more = traced(trial(tmp_path, (20, "strange"), (70, "odder")), shows("strange", "odder"))
    assert (place["line"], more) == (72, " (with the changes before it)")


@pytest.mark.parametrize("words", [("nowhere",), ("evil",)], ids=["not again", "the baseline does it too"])
def test_nothing_is_named_that_is_no_change_of_this_release(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert traced(trial(tmp_path, (20, "strange")), shows(*words)) == ({}, "")


def test_the_search_ends_when_its_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr(tracing, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    place, more = traced(trial(tmp_path, (40, "strange")), shows("strange"), within_s=4)
    assert place["file"] == "content.chn" and "takes long" in more


@SANDBOXED
@pytest.mark.parametrize(
    ("word", "says"),
    [("exit3", "refuses it: ended with exit code 3"), ("killed", "the interpreter was ended by SIGKILL")],
)
def test_an_interpreter_that_names_no_line_is_asked_which_record_it_is(tmp_path: Path, word: str, says: str) -> None:
    program = tmp_path / "odd.py"
    program.write_text(ODD)
    own = InterpreterSettings(
        kind="command", driver="command", name="odd", load=(*PYTHON, str(program), "{payload}"), read=(str(program),),
        files=("*.chn",),
    )  # fmt: skip
    settings = replace(SETTINGS, interpreter=(own,), validator=None)
    results = try_case(Case(records=with_records((44, word)), settings=settings), tmp_path / "gate", "load")
    lines = refusal([results["load"]])
    assert failed(results) == {"load"} and lines[0].startswith("load: content.chn:46: odd "), lines
    assert says in lines[0]


def test_patience_is_lost_when_it_is_sure_that_content_explodes() -> None:
    patience = Patience()
    for _ in range(ENOUGH):
        assert (patience.lost, patience.bound_s(10)) == (False, 10)
        assert patience.why(10, 10) == "used more than 10 s of CPU and was ended, as it would be on a device"
    assert (patience.lost, patience.bound_s(10), patience.bound_s(1)) == (True, 2, 1)
    assert "all that it was given after others" in patience.why(2, 10)


def test_a_file_that_takes_too_long_ends_a_program_that_tells_its_files() -> None:
    loops = "print('one: OK', flush=True)\nwhile True: pass"
    words = (sys.executable, measured.__file__, "--each=0.3", "--first=60", sys.executable, "-c", loops)
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == OVER and done.stdout.startswith("one: OK\n\n@measured ")
