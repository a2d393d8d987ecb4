"""Drills: the clock, a table-top, what is due and its reminders; and a real one, on a fleet that is made for it."""

from __future__ import annotations

import io
import json
from datetime import date
from pathlib import Path

import pytest

from tidegate.cli.drill import find_plan, own_plans
from tidegate.cli.main import run
from tidegate.contingency.book import Book
from tidegate.contingency.drill import INJECTIONS, Drill, calendar, due_drills, flat, talk_through
from tidegate.contingency.lint import Subject, lint
from tidegate.contingency.plan import read_plans
from tidegate.core.errors import NotFound


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_every_injection_has_a_plan_of_tidegates_own() -> None:
    plans = read_plans(own_plans())
    assert {plan.drill.inject for plan in plans.plans} == set(INJECTIONS)
    found = lint(Subject(plans, None, {plan.name: date(2026, 11, 1) for plan in plans.plans}, date(2026, 11, 25)))
    assert found == [], "our own plans pass our own checks"
    with pytest.raises(NotFound, match="controller-lost"):
        find_plan("nothing")


def test_a_table_top_measures_and_fails_where_a_step_cannot_be_done() -> None:
    plan = find_plan("keys-lost")
    drill = Drill(plan.name, "table-top", "table-top", Clock(), plan.rto_s)
    talk_through(drill, plan, lambda question: "done")
    result = drill.result(["Ines", "Luc"], 0)
    assert result["passed"] and result["within_rto"] and result["measures"]["detect_s"] > 0
    assert flat(result)["participants"] == "Ines, Luc"
    drill = Drill(plan.name, "table-top", "table-top", Clock(), plan.rto_s)
    talk_through(drill, plan, lambda question: "the safe is locked" if question.startswith("1.") else "done")
    result = drill.result(["Ines"], 0)
    assert not result["passed"] and "step 1 cannot be done: the safe is locked" in result["failures"]


def test_too_late_is_not_passed() -> None:
    drill = Drill("p", "keys-lost", "fleet", Clock(), rto_s=3)
    drill.inject_now("now")
    for _ in range(5):
        drill.step("something")
    drill.reached("restore_s", "back")
    assert drill.result(["Ines"], 1)["within_rto"] is False


def test_what_is_due() -> None:
    plans = read_plans(own_plans())
    due = due_drills(plans, {"keys-lost": date(2026, 11, 1), "log-restored": date(2026, 8, 1)}, date(2026, 11, 25))
    rows = {one.plan: one for one in due}
    assert rows["keys-lost"].due == date(2027, 1, 30) and rows["keys-lost"].late_days(date(2026, 11, 25)) < 0
    assert rows["log-restored"].late_days(date(2026, 11, 25)) == 26
    text = calendar(due, "20261125T100000Z")
    assert text.count("BEGIN:VEVENT") == len(due) and "DTSTART;VALUE=DATE:20270130\r\n" in text


def tidegate(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        run(["drill", *words])
    return int(ended.value.code or 0)


def test_at_the_table_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_BOOK", str(tmp_path / "book"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("done\n" * 40))
    assert tidegate("run", "log-restored", "--table-top", "--participant", "Ines Roy") == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("done\n"))
    assert tidegate("run", "log-restored", "--table-top") == 1, "broken off: not entered"
    found = [entry for entry in Book(tmp_path / "book").read() if entry.what == "drill_run"]
    assert [entry.body["participants"] for entry in found] == [["Ines Roy"]]
    assert tidegate("run", "log-restored", "--inject", "earthquake") == 2


def real(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TIDEGATE_BOOK", str(tmp_path / "book"))
    monkeypatch.chdir(tmp_path)
    code = tidegate("run", name, "--devices", "4", "--participant", "Ines Roy", "--json")
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert result["failures"] == [] and result["measures"]["restore_s"] is not None, said.out
    assert code == (0 if result["passed"] else 1)
    found = {Path(place).suffix: Path(place) for place in result["proof"]}
    entry, proof, key = (found[suffix] for suffix in (".json", ".tlog-proof", ".key"))
    with pytest.raises(SystemExit) as ended:
        run(["ledger", "verify", "--key", key.read_text(), "--entry", str(entry), "--proof", str(proof)])
    assert not ended.value.code
    assert json.loads(entry.read_text())["result"]["participants"] == "Ines Roy"


@pytest.mark.xdist_group("ports")
@pytest.mark.timeout(240)
def test_the_control_plane_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real("controller-lost", tmp_path, monkeypatch, capsys)


@pytest.mark.slow
@pytest.mark.xdist_group("ports")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", sorted(set(INJECTIONS) - {"controller-lost"}))
def test_all_other_drills(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real(name, tmp_path, monkeypatch, capsys)
