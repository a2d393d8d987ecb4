"""Comparing policies and scenarios: what is printed, what is drawn, and what is refused."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest

from tidegate.cli.main import run
from tidegate.sim.compare import COMPARED, HARM_RATES, compare_policies, play_scenarios
from tidegate.sim.compare_plot import plot_courses, plot_policies, short, written_hours
from tidegate.sim.scenario import POLICIES, parse_scenario, read_scenario

ROOT = Path(__file__).resolve().parents[2]
JULY = ("july-2024-instant", "july-2024-850", "july-2024-100", "july-2024-canary-16")
SMALL = """
replicates = 20
[fleet]
devices = 100_000
[background]
silent_rate = 1e-5
[rollout]
max_harmed = 100
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return str(path)


def said(capsys: pytest.CaptureFixture[str], *tokens: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        run(["compare", *tokens])
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_all_policies_are_compared_but_the_broken_one():
    assert set(COMPARED) == set(POLICIES) - {"naive"}


def test_tidegate_alone_keeps_the_budget_for_every_defect(small: str):
    lines = {line.policy: line for line in compare_policies(read_scenario(small))}
    worst = {name: max(int(runs.harmed.max()) for runs in line.harmful) for name, line in lines.items()}
    assert worst["tidegate"] <= 100 and worst["certain"] <= 100
    assert {name for name, most in worst.items() if most <= 100} == {"tidegate", "certain"}
    hours = {name: line.hours_to_everyone for name, line in lines.items()}
    assert hours["instant"] == pytest.approx(1 / 6)
    assert hours["tidegate"] is not None and hours["tidegate"] < 1
    assert all(line.settings for line in lines.values())


def test_a_defect_of_the_scenario_does_not_change_the_good_update():
    bad = parse_scenario(SMALL + "[defect]\nharm_rate = 1.0\n[late]\nshare = 0.1\nharm_rate = 1.0\n")
    line = compare_policies(bad, ("instant",))[0]
    assert (line.good.harmed == 0).all()
    assert (line.harmful[0].harmed == 100_000).all()


def test_json_has_every_policy_and_rate(small: str, capsys: pytest.CaptureFixture[str]):
    code, printed, _ = said(capsys, small, "--json", "--policy", "instant", "--policy", "tidegate", "--replicates", "5")
    found = json.loads(printed)
    assert code == 0 and found["replicates"] == 5 and found["max_harmed"] == 100
    assert [one["policy"] for one in found["policies"]] == ["instant", "tidegate"]
    for one in found["policies"]:
        assert [entry["harm_rate"] for entry in one["harmful"]] == list(HARM_RATES)
        assert set(one["good"]) == {"verdicts", "false_halts", "coverage_s", "hours_to_everyone"}
    assert found["policies"][0]["harmful"][0]["harmed"]["mean"] == 100_000
    assert found["policies"][0]["harmful"][0]["exceeded"] == 5


def test_the_table_names_every_policy_and_how_it_was_set(small: str, capsys: pytest.CaptureFixture[str]):
    code, printed, _ = said(capsys, small, "--replicates", "3")
    assert code == 0
    for name in COMPARED:
        assert len(re.findall(rf"\b{name}\b", printed)) >= 2, name


@pytest.mark.parametrize(
    ("tokens", "named"),
    [
        ((), "scenario"),
        (("no-such",), "no-such"),
        (("SMALL", "--policy", "magic"), "magic"),
        (("SMALL", "--replicates", "0"), "--replicates"),
        (("SMALL", "--seed", "-1"), "--seed"),
        (("SMALL", "--plot", "x.pdf"), "--plot"),
        (("SMALL", "--plot", "/no/where/x.svg"), "--plot"),
        (("SMALL", "SMALL", "--policy", "instant"), "--policy"),
    ],
)
def test_bad_use_is_one_line_that_names_it(
    tokens: tuple[str, ...], named: str, small: str, capsys: pytest.CaptureFixture[str]
):
    code, printed, error = said(capsys, *(small if token == "SMALL" else token for token in tokens))
    assert code == 2 and not printed
    assert named in error and error.count("\n") == 1 and "Traceback" not in error


def test_the_replay_of_july_2024(capsys: pytest.CaptureFixture[str]):
    code, printed, _ = said(capsys, *JULY, "--json")
    found = {one["scenario"]: one for one in json.loads(printed)["scenarios"]}
    assert code == 0
    harmed = [found[name]["harmed"] for name in JULY]
    assert [one["max"] for one in harmed] == [8_500_000, 850, 100, 16]
    assert found["july-2024-instant"]["verdicts"]["completed"] == 200
    for name in JULY[1:]:
        assert found[name]["verdicts"]["halted"] == 200 and found[name]["exceeded"] == 0


def test_instant_push_reaches_everyone_in_78_minutes_and_not_before():
    runs = play_scenarios([read_scenario("july-2024-instant")])[0][1]
    assert runs.series is not None
    at_half = runs.series.harmed[np.searchsorted(runs.series.t_s, 39 * 60, side="right") - 1]
    assert at_half == pytest.approx(4_250_000, rel=0.02)
    assert runs.series.harmed[runs.series.t_s >= 78 * 60].min() == 8_500_000


def test_the_readmes_picture_shows_what_the_scenarios_give(tmp_path: Path):
    fresh = tmp_path / "july.svg"
    plot_courses(
        [(scenario, runs) for scenario, runs, _ in play_scenarios([read_scenario(one) for one in JULY])], fresh
    )

    def labels(path: Path) -> list[str]:
        return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))

    drawn = labels(fresh)
    for words in ("8,500,000 harmed", "850: 850 harmed", "100: 100 harmed", "canary 16: 16 harmed"):
        assert any(words in label for label in drawn)
    assert labels(ROOT / "docs" / "pictures" / "july-2024.svg") == drawn


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_table_is_drawn(kind: str, tmp_path: Path):
    scenario = parse_scenario(SMALL)
    path = tmp_path / f"table.{kind}"
    plot_policies(scenario, compare_policies(scenario, ("tidegate", "instant")), path)
    head = path.read_bytes()[:200]
    assert (b"<svg" in head or b"<?xml" in head) if kind == "svg" else head.startswith(b"\x89PNG")


def test_figures_are_written_short():
    written = [short(value) for value in (0, 0.25, 9.97, 10, 850, 8_500, 84_950, 8_500_000, 1e9)]
    assert written == ["0", "0.2", "10.0", "10", "850", "8,500", "85k", "8.5M", "1.0G"]
    assert [written_hours(value) for value in (None, 0.5, 4, 144.6)] == ["never", "30 min", "4 h", "145 h"]


@pytest.mark.slow
def test_all_policies_on_eight_and_a_half_million_take_less_than_a_minute():
    scenario = parse_scenario("[fleet]\ndevices = 8_500_000\n[rollout]\nmax_harmed = 850\n")
    began = time.perf_counter()
    compare_policies(scenario)
    assert time.perf_counter() - began < 60
