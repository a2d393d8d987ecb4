"""Answers that are used again: those that still hold, and no others; and one content is compiled once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from tests.gate.cases import ENGINE, FAULTS, PYTHON, SETTINGS, Case, try_case
from tests.gate.cases import trial_of as case_of

from tidegate.cli.gate import Wanted, trial_of
from tidegate.gate.cache import Cache
from tidegate.gate.jobs import Job, Ran
from tidegate.gate.pipeline import run_checks
from tidegate.gate.port import Result, choose, load_checks
from tidegate.gate.report import refusal
from tidegate.gate.sandbox import Sandbox
from tidegate.gate.settings import Corpora, Settings

pytestmark = [
    pytest.mark.room("gate"),
    pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed"),
]
RULE = 'rule {name}\n{{\n    strings: $a = "bad text of {name}"\n    condition: $a\n}}\n'
ALONE = Settings(corpus=Corpora(system=False))


@dataclass
class Heard:
    """What was run in the sandbox, and what is to go wrong in it."""

    asked: list[dict[str, Any]] = field(default_factory=lambda: [])
    dies: int = 0

    def sandbox(self) -> Sandbox:
        real = Sandbox()
        run = real.run

        def heard(job: Job, listener: Callable[[bytes], None] | None = None, *, checked: bool = False) -> Ran:
            asked = json.loads(job.stdin) if job.stdin.startswith(b"{") else {}
            self.asked.append(asked)
            ran = run(job, listener, checked=checked)
            if asked.get("mode") == "scan" and self.dies:
                self.dies -= 1
                lines = [line for line in ran.stdout.split(b"\n") if b'"done"' not in line]
                return replace(ran, code=139, stdout=b"\n".join(lines))
            return ran

        real.run = heard  # type: ignore[method-assign]
        return real

    def of(self, mode: str) -> list[dict[str, Any]]:
        return [each for each in self.asked if each.get("mode") == mode]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "rules").mkdir()
    for name in "abcdefgh":
        (tmp_path / "rules" / f"{name}.yar").write_text(RULE.format(name=name))
    (tmp_path / "benign").mkdir()
    for number in range(6):
        (tmp_path / "benign" / f"{number}.txt").write_text(f"fine {number}\n")
    return tmp_path


def put_through(
    place: Path, *names: str, content: str = "rules", baseline: str = "", heard: Heard | None = None
) -> dict[str, Result]:
    wanted = Wanted(
        ALONE,
        Path(),
        benign=(place / "benign",),
        baselines=(place / baseline,) if baseline else (),
        cache=place / "cache",
        jobs=2,
    )
    with trial_of(place / content, wanted) as trial:
        if heard is not None:
            trial.sandbox = heard.sandbox()
        return {each.check: each for each in run_checks(trial, choose(load_checks(), list(names), []))}


def test_what_is_kept_is_believed_only_if_it_is_whole_and_the_gates_own(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "kept")
    for what in ("one", "two"):
        cache.put([what], {"is": what})
    assert cache.get(["one"]) == {"is": "one"} and cache.get(["two"]) == {"is": "two"}
    files = sorted((tmp_path / "kept").rglob("*.json"))
    assert [oct(path.stat().st_mode & 0o777) for path in files] == ["0o600", "0o600"]
    files[0].chmod(0o620)
    assert [cache.get([what]) for what in ("one", "two")].count(None) == 1
    files[0].chmod(0o600)
    files[0].parent.chmod(0o777)
    assert [cache.get([what]) for what in ("one", "two")].count(None) == 1
    files[0].parent.chmod(0o700)
    whole = [path.read_bytes() for path in files]
    files[0].write_bytes(whole[1])  # another question's answer
    files[1].write_bytes(whole[1][:-1])
    assert cache.get(["one"]) is None and cache.get(["two"]) is None
    cache.put(["one"], {"is": "new"})
    assert cache.get(["one"]) == {"is": "new"}


def test_each_file_of_a_corpus_is_looked_at_once_by_each_content_file(place: Path) -> None:
    first = put_through(place, "load", "benign")["benign"]
    assert first.result == "PASSED" and first.figures["content files tried"] == 8
    (place / "benign" / "new.txt").write_text("bad text of c\n")
    heard = Heard()
    result = put_through(place, "load", "benign", heard=heard)["benign"]
    assert refusal([result])[0].startswith("benign: c.yar:1: rule c takes the benign file /corpus/0/new.txt")
    assert [each["files"] for each in heard.of("scan")] == [["/corpus/0/new.txt"]]
    (place / "rules" / "d.yar").write_text(RULE.format(name="d").replace("bad", "worse"))
    (place / "benign" / "new.txt").unlink()
    heard = Heard()
    result = put_through(place, "load", "benign", heard=heard)["benign"]
    assert result.result == "PASSED" and result.figures["content files tried"] == 1
    assert sorted(path for each in heard.of("scan") for path in each["files"]) == [
        f"/corpus/0/{number}.txt" for number in range(6)
    ]
    assert "reused from" in result.figures


def test_a_file_that_has_changed_behind_its_time_is_looked_at_again(place: Path) -> None:
    assert put_through(place, "load", "benign")["benign"].result == "PASSED"
    path = place / "benign" / "3.txt"
    path.write_text("bad text of a")
    old = path.stat()
    assert put_through(place, "load", "benign")["benign"].result == "FAILED"
    path.write_text("fine words 13")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert put_through(place, "load", "benign")["benign"].result == "PASSED"
    path.write_text("bad text of a")
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert path.stat().st_size == old.st_size
    assert put_through(place, "load", "benign")["benign"].result == "FAILED"


def test_an_interpreter_that_dies_once_is_reported_and_nothing_of_it_is_kept(place: Path) -> None:
    for check in ("benign", "crash"):
        heard = Heard(dies=1)
        result = put_through(place, "load", check, heard=heard)[check]
        assert result.result == "FAILED" and "SIGSEGV" in refusal([result])[0], result
        heard = Heard()
        again = put_through(place, "load", check, heard=heard)[check]
        assert again.result == "PASSED" and not again.reused and heard.of("scan")
        assert again.figures.get("content files tried", 8) == 8


def test_one_content_is_compiled_once_for_all_checks(place: Path) -> None:
    shutil.copytree(place / "rules", place / "changed")
    (place / "changed" / "d.yar").write_text(RULE.format(name="d").replace("$a\n", "$a and filesize > 3\n"))
    assert all(each.result != "FAILED" for each in put_through(place).values())
    heard = Heard()
    results = put_through(place, content="changed", baseline="rules", heard=heard)
    assert all(each.result != "FAILED" for each in results.values()), refusal(list(results.values()))
    assert len(heard.of("load")) == 1
    # Of what is measured it must not be: loading is a part of that.
    scans = [each for each in heard.of("scan") if len(each["files"]) > 1]
    assert any(each["compiled"] for each in scans)
    led = [[step for step, _ in each["steps"]] for each in heard.asked if len(each.get("steps", [])) > 5]
    assert len(led) == 3 and all("kept" in steps for steps in led)
    (real,) = [steps for steps in led if steps.index("activate") < steps.index("kept")]
    assert "sham" in real
    heard = Heard()
    put_through(place, "load", "crash", "lifecycle", content="changed", baseline="rules", heard=heard)
    assert not heard.of("load") and not heard.of("scan")


def test_another_program_under_the_same_name_is_asked_anew(tmp_path: Path) -> None:
    engine = tmp_path / "engine.py"
    shutil.copyfile(ENGINE, engine)
    words = (*PYTHON, str(engine), "--supplied", "20")
    own = replace(SETTINGS.interpreter[0], load=(*words, "--load", "{payload}"), scan=(), describe=(), version=(),
                  read=(str(engine),))  # fmt: skip
    case = Case(settings=replace(SETTINGS, interpreter=(own,)))

    def load(number: int) -> Result:
        trial = case_of(case, tmp_path / str(number), tmp_path / "cache")
        return run_checks(trial, choose(load_checks(), ["load"], []))[0]

    assert load(1).result == "PASSED" and load(2).reused
    engine.write_text("raise SystemExit('it is another program now')\n")
    result = load(3)
    assert result.result == "FAILED" and "it is another program now" in refusal([result])[0]


def test_what_ran_beside_a_check_that_failed_is_left_out(tmp_path: Path) -> None:
    results = try_case(FAULTS["lifecycle"](), tmp_path, "upgrade")
    assert results["lifecycle"].result == "FAILED"
    assert results["upgrade"].skipped == "without meaning, since lifecycle failed"
