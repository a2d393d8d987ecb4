"""A signed speed limit in the simulator: the shipped server and devices ask one function, and nobody is late for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tidegate.cli.main import run
from tidegate.core.errors import BadInput
from tidegate.core.model import PlanState
from tidegate.sim.messages import make_world, play
from tidegate.sim.outcome import Ending
from tidegate.sim.run import simulate
from tidegate.sim.scenario import Scenario, scenario_of

STEPS = [{"after_s": 0, "share": 0.02}, {"after_s": 3600, "share": 0.2}, {"after_s": 7200, "share": 1.0}]
ROLLOUT = {"max_harmed": 20, "observe_s": 60}


def tidegate(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        run([str(word) for word in words])
    return int(ended.value.code or 0)


def scenario(devices: int = 300, harm_rate: float = 0.0, **rollout: Any) -> Scenario:
    tables = {"fleet": {"devices": devices}, "defect": {"harm_rate": harm_rate}, "speed": STEPS}
    return scenario_of({**tables, "replicates": 1, "rollout": {**ROLLOUT, **rollout}})


def test_a_good_update_reaches_everyone_and_nobody_is_late() -> None:
    found = play(scenario(), 3)
    assert found.ending is Ending.COMPLETED
    assert found.confirmed == 300
    assert 7200 + 120 < found.coverage_s < 7200 + 120 + 600


def test_a_faulty_update_is_halted_among_those_whom_the_first_step_allows() -> None:
    found = play(scenario(devices=600, harm_rate=1.0, observe_s=60), 3)
    assert found.ending is not Ending.COMPLETED
    assert 0 < found.harmed <= 20


def test_behind_its_ceiling_a_rollout_holds_and_says_so() -> None:
    limited = scenario(speed_ceiling=0.1)
    world = make_world(limited, 3)
    world.timeline.at(world.start.begin_ms, world.server.tick_at, world.start.begin_ms)
    world.timeline.run(world.start.begin_ms + 20_000_000, world.over)
    rollout = world.server.rollout
    assert rollout.phase is PlanState.HOLD
    assert "a promotion to" in rollout.sentence
    assert not rollout.overdue
    ranks = rollout.rings.ranks
    assert all(ranks[p] < round(0.1 * 2**64) for p in range(300) if rollout.evidence.treated_lease[p])


def test_counts_and_columns_say_that_they_cannot() -> None:
    for fidelity in ("counts", "columns"):
        with pytest.raises(BadInput, match="use --fidelity messages"):
            simulate(scenario(), fidelity)


@pytest.mark.parametrize(
    "steps", [[{"after_s": 5, "share": 0.5}, {"after_s": 5}], [{"share": 1}, {"after_s": 9, "share": 0}]]
)
def test_steps_that_do_not_rise_are_refused(steps: list[dict[str, Any]]) -> None:
    with pytest.raises(BadInput, match="each step must come later"):
        scenario_of({"fleet": {"devices": 9}, "rollout": {"max_harmed": 3}, "speed": steps})


def test_plan_shows_when_each_of_the_two_opens_a_ring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "one.toml"
    file.write_text("[fleet]\ndevices = 500\n[rollout]\nmax_harmed = 20\nobserve_s = 60\n")
    assert tidegate("plan", file, "--json") == 0
    told = json.loads(capsys.readouterr().out)["speed"]
    assert told["assumed"] is True
    assert told["rings"][0]["binds"] == "speed limit"
    assert told["everyone_s"] >= 86_400
    assert tidegate("plan", file, "--speed", "0s:5%,1h:100%", "--ceiling", "50%") == 0
    text = capsys.readouterr().out
    assert "never above 50 % without a promotion" in text
    assert "not without a promotion" in text
    assert "opens by the limit" in text
    assert tidegate("plan", file, "--speed", "1h:5%,0s:1%") == 2
    assert "speed limit steps must rise" in capsys.readouterr().err
