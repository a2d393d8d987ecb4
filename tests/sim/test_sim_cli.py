"""`tidegate simulate` and `tidegate plan` from the command line: the contract's keys, exit codes, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tidegate.cli.main import run

GOOD = """
replicates = 20
[fleet]
devices = 100_000
[defect]
harm_rate = 0.0
[rollout]
max_harmed = 100
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "good.toml"
    path.write_text(GOOD)
    return path


def tidegate(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        run([str(word) for word in words])
    return int(str(ended.value.code))


def test_simulate_prints_the_contract_and_nothing_else(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tidegate("simulate", scenario, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    keys = "replicates harmed exceeded verdicts coverage_s time_limit_s time_ratio false_halts wall_s"
    assert list(result) == keys.split()
    assert set(result["harmed"]) == {"mean", "p50", "p99", "max"}
    assert set(result["verdicts"]) == {"completed", "halted", "held"}
    assert set(result["coverage_s"]) == {"p50", "p99"}
    assert result["replicates"] == 20 == sum(result["verdicts"].values())


def test_simulate_speaks_to_people_too(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tidegate("simulate", scenario, "--replicates", "5", "--seed", "3", "--fidelity", "columns") == 0
    said = capsys.readouterr().out
    assert "5 / 0 / 0" in said and "100,000 devices" in said


def test_simulate_says_when_harm_comes_too_late_to_be_bounded(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for delay_s, said in ((601, True), (600, False)):
        scenario.write_text(GOOD.replace("harm_rate = 0.0", f"harm_rate = 0.5\ndelay_s = {delay_s}"))
        assert tidegate("simulate", scenario, "--replicates", "2") == 0
        assert ("does not bound such harm" in capsys.readouterr().out) is said


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_simulate_draws(scenario: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = [scenario.with_name(name + suffix) for name in ("one", "two")]
    for picture in pictures:
        assert tidegate("simulate", scenario, "--json", "--plot", picture) == 0
    first, second = (picture.read_bytes() for picture in pictures)
    assert first == second, "the same figures give the same picture"
    assert first.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")
    json.loads(capsys.readouterr().out.split("\n}\n")[0] + "}")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--plot", "x.pdf"], "--plot"),
        (["--plot", "no/such/place/x.png"], "--plot"),
        (["--replicates", "0"], "--replicates"),
        (["--seed", "-1"], "--seed"),
        (["--fidelity", "guess"], "fidelity"),
        (["--processes", "-1"], "processes"),
    ],
)
def test_bad_options_end_with_one_line(
    scenario: Path, words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tidegate("simulate", scenario, *words) == 2
    out, said = capsys.readouterr()
    assert out == "" and said.count("\n") == 1 and named in said


def test_a_bad_scenario_ends_with_one_line_that_names_the_key(
    scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario.write_text(GOOD + "colour = 1\n")
    for command in ("simulate", "plan"):
        assert tidegate(command, scenario, "--json") == 2
        out, said = capsys.readouterr()
        assert out == "" and said.count("\n") == 1 and "rollout.colour" in said


def test_plan_prints_the_contract(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tidegate("plan", scenario, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    keys = {"feasible", "reason", "rings", "time_limit_s", "forecast_s", "certain_s", "min_max_harmed"}
    assert keys <= set(result)
    assert result["feasible"] is True and result["ways_out"] == []
    assert tidegate("simulate", scenario, "--json") == 0
    played = json.loads(capsys.readouterr().out)
    assert played["coverage_s"]["p50"] == result["forecast_s"]
    assert played["time_limit_s"] == result["time_limit_s"]


def test_plan_says_no_with_three_ways_out(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario.write_text(GOOD.replace("100_000", "8_500_000") + "[background]\nsilent_rate = 1e-2\n")
    assert tidegate("plan", scenario, "--json") == 1
    result = json.loads(capsys.readouterr().out)
    assert result["feasible"] is False and result["forecast_s"] is None
    assert [way["kind"] for way in result["ways_out"]] == ["max_harmed", "placebo_per_treated", "silent_rate"]
    assert tidegate("plan", scenario) == 1
    said = capsys.readouterr().out
    assert "Cannot be done" in said and "Way out" in said and str(result["min_max_harmed"]) in said.replace(",", "")


def test_plan_tells_the_price_of_waiting(scenario: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tidegate("plan", scenario) == 0
    said = capsys.readouterr().out
    assert "price of waiting" in said and "█" in said and "ring 2" in said


@pytest.mark.parametrize("terms", ["max_harmed = 1", "max_harmed = 2\nlate_budget_share = 0.9"])
def test_the_smallest_budgets_with_late_devices_are_forecast_and_played(
    scenario: Path, terms: str, capsys: pytest.CaptureFixture[str]
) -> None:
    late = "[late]\nshare = 0.2\nreturn_s = 60\n"
    scenario.write_text(GOOD.replace("100_000", "300").replace("max_harmed = 100", terms) + late)
    assert tidegate("plan", scenario, "--json") in (0, 1)
    capsys.readouterr()
    assert tidegate("simulate", scenario, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["exceeded"] == 0
