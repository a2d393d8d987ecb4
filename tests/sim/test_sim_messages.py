"""Every message: agrees with the counts in distribution, keeps the promise under each fault, and replays exactly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import fisher_exact, ks_2samp

from tidegate.cli.main import run as run_command
from tidegate.control.neighbours import NAMED_BELOW, spill_of
from tidegate.core.clusters import Spill
from tidegate.core.model import Arm
from tidegate.sim.messages import make_world, play, replay_command
from tidegate.sim.messages_checks import Broken, Checks
from tidegate.sim.outcome import Ending, Runs
from tidegate.sim.port import load_policy
from tidegate.sim.run import simulate
from tidegate.sim.scenario import Scenario, read_scenario, scenario_of

ARMS = (Arm.TREATED, Arm.PLACEBO)
LEAST_P = 1e-3


def small(**more: Any) -> Scenario:
    tables: dict[str, Any] = {"fleet": {"devices": 300}, "background": {"silent_rate": 5e-3}, **more}
    given = {"max_harmed": 20, "confidence": 0.95, "false_halt": 0.01, "rollout_deadline_s": 7200}
    tables["rollout"] = {**given, **more.get("rollout", {})}
    return scenario_of(tables)


def run(scenario: Scenario, fidelity: str, replicates: int) -> Runs:
    return load_policy("tidegate", fidelity).run(scenario, np.random.default_rng(7), replicates)


def agreement(one: Runs, other: Runs) -> float:
    """The smaller p-value of two tests: harmed devices by Kolmogorov and Smirnov, halts by Fisher."""
    ended = [runs.verdict == Ending.HALTED for runs in (one, other)]
    halts = [[np.count_nonzero(halted), np.count_nonzero(~halted)] for halted in ended]
    harmed: Any = ks_2samp(one.harmed, other.harmed)
    halted: Any = fisher_exact(halts)
    return min(float(harmed.pvalue), float(halted.pvalue))


CASES: dict[str, dict[str, Any]] = {
    "silent": {"defect": {"harm_rate": 0.04}},
    "reverted": {"defect": {"harm_rate": 0.05, "outcome": "reverted", "delay_s": 60}},
    "good": {"defect": {"harm_rate": 0.0}},
    "late": {"defect": {"harm_rate": 0.02}, "late": {"share": 0.2, "return_s": 3000, "harm_rate": 0.05}},
    "outage": {"defect": {"harm_rate": 0.04}, "fault": [{"share": 0.4, "start_s": 300, "duration_s": 1500}]},
    "partition": {
        "defect": {"harm_rate": 0.04},
        "fault": [{"kind": "partition", "share": 0.4, "start_s": 300, "duration_s": 1500}],
    },
    "site": {
        "defect": {"harm_rate": 0.04},
        "fault": [{"kind": "site_down", "share": 0.2, "start_s": 300, "duration_s": 400}],
    },
    "hiding": {"defect": {"harm_rate": 0.08}, "fault": [{"kind": "byzantine", "share": 0.3}]},
    "calling sick": {"defect": {"harm_rate": 0.0}, "fault": [{"kind": "byzantine", "share": 0.02, "lie": "sick"}]},
    "caps": {"defect": {"harm_rate": 0.04}, "cap": [{"group_devices": 50, "at_most": 8}]},
    "crash": {
        "defect": {"harm_rate": 0.04},
        "fault": [{"kind": "server_crash", "start_s": 500, "duration_s": 200}],
    },
}


@pytest.mark.parametrize("case", ["silent", "reverted", "good"])
def test_messages_and_counts_agree_in_distribution(case: str) -> None:
    scenario = small(**CASES[case])
    assert agreement(run(scenario, "counts", 2000), run(scenario, "messages", 8)) > LEAST_P


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", CASES)
def test_messages_and_counts_agree_with_more_power(case: str) -> None:
    scenario = small(**CASES[case])
    assert agreement(run(scenario, "counts", 10_000), run(scenario, "messages", 120)) > LEAST_P


def test_every_run_has_its_own_seed_which_plays_it_alone() -> None:
    """Through `simulate`, as the command line does."""
    scenario = replace(small(fleet={"devices": 100}, defect={"harm_rate": 0.1}), seed=3, replicates=4)
    alone = [play(replace(scenario, seed=3 + k), 3 + k).harmed for k in range(4)]
    assert len(set(alone)) > 1
    assert list(simulate(scenario, "messages", 1)[0].harmed) == alone


def test_a_fleet_that_nobody_confirms_took_until_its_last_lease_ran_out() -> None:
    scenario = scenario_of({"fleet": {"devices": 20}, "rollout": {"max_harmed": 50}})
    for fidelity in ("counts", "messages"):
        runs = run(scenario, fidelity, 1)
        assert runs.verdict[0] == Ending.COMPLETED and runs.harmed[0] == 20
        assert runs.coverage_s[0] == pytest.approx(600.0, rel=0.05)


def test_a_wrong_fidelity_would_be_seen() -> None:
    right, wrong = small(**CASES["reverted"]), small(defect={"harm_rate": 0.005, "outcome": "reverted", "delay_s": 60})
    assert agreement(run(right, "counts", 2000), run(wrong, "messages", 8)) < LEAST_P


def test_a_good_update_takes_the_same_time_in_both() -> None:
    scenario = small(defect={"harm_rate": 0.0}, background={"silent_rate": 0.0})
    one, other = run(scenario, "counts", 1), run(scenario, "messages", 2)
    assert other.coverage_s == pytest.approx(one.coverage_s[0], rel=0.05)


FAULTS: dict[str, list[dict[str, Any]]] = {
    "a bad network": [{"kind": "bad_network", "share": 0.2}],
    "a server that crashes": [{"kind": "server_crash", "start_s": s, "duration_s": 25} for s in range(30, 3000, 290)],
    "clocks ahead": [{"kind": "clock_skew", "share": 0.3, "offset_s": 7200}],
    "clocks behind": [{"kind": "clock_skew", "share": 0.3, "offset_s": -7200}],
    "clocks that jump": [{"kind": "clock_skew", "share": 0.5, "offset_s": 5000, "start_s": 700, "duration_s": 900}],
    "announcing without end": [{"kind": "byzantine", "share": 0.1, "lie": "announce"}],
    "all at once": [
        {"kind": "bad_network", "share": 0.1},
        {"kind": "server_crash", "start_s": 700, "duration_s": 60},
        {"kind": "telemetry_outage", "share": 0.3, "start_s": 900, "duration_s": 600},
        {"kind": "clock_skew", "share": 0.2, "offset_s": 3600, "start_s": 100},
        {"kind": "byzantine", "share": 0.05, "lie": "announce"},
    ],
}


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_that_was_promised_breaks_under_faults(name: str) -> None:
    """Every limit is checked at every event by books of their own; here the harm is bounded besides."""
    for seed, rate in ((1, 0.3), (2, 0.05)):
        world: dict[str, Any] = {"fleet": {"devices": 100}, "rollout": {"rollout_deadline_s": 3600}}
        assert play(small(defect={"harm_rate": rate}, fault=FAULTS[name], **world), seed).harmed <= 20


@pytest.mark.parametrize("name", ["a bad network", "a server that crashes", "clocks behind", "announcing without end"])
def test_a_good_update_gets_through_faults_and_is_never_halted(name: str) -> None:
    calm: dict[str, Any] = {"defect": {"harm_rate": 0.0}, "background": {"silent_rate": 0.0}}
    result = play(small(**calm, fleet={"devices": 100}, fault=FAULTS[name]), 3)
    assert result.ending is Ending.COMPLETED and result.exposed == 100
    if name == "a server that crashes":
        assert result.deaths > 3


def test_an_outage_of_everyone_holds_and_halts_nothing() -> None:
    fault = [{"start_s": 100, "duration_s": 100_000}]
    result = play(small(defect={"harm_rate": 0.0}, fault=fault), 1)
    assert result.ending is Ending.HELD and result.exposed <= 20


def test_one_seed_is_one_run_and_another_is_another() -> None:
    scenario = small(defect={"harm_rate": 0.3}, fault=FAULTS["all at once"], fleet={"devices": 60})
    assert play(scenario, 5).digest == play(scenario, 5).digest != play(scenario, 6).digest


def test_a_run_that_breaks_something_names_the_command_that_replays_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is broken on purpose: the checks must see it, and what they print must show it again."""
    scenario = small(defect={"harm_rate": 0.04})
    monkeypatch.setattr(Checks, "_within_window", lambda self, event: self._that(False, event, "one too many"))
    with pytest.raises(Broken, match=r"one too many.*replay: .*tidegate simulate /dev/stdin .*--seed 4"):
        play(scenario, 4)


@pytest.mark.parametrize("from_file", [True, False])
def test_the_replaying_command_replays(from_file: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = small(fleet={"devices": 60}, defect={"harm_rate": 0.5}, fault=[{"kind": "bad_network", "share": 0.1}])
    if from_file:
        path = tmp_path / "a scenario.toml"
        path.write_text("[fleet]\ndevices = 60\n[rollout]\nmax_harmed = 20\n", encoding="utf-8")
        scenario = read_scenario(path)
    command = replay_command(scenario, 4).removeprefix("replay: ")
    program = Path(sys.executable).with_name("tidegate")
    command = command.replace("tidegate simulate", f"{program} simulate")
    said = subprocess.run(["sh", "-c", f"{command} --json"], capture_output=True, text=True, check=True, timeout=100)
    assert json.loads(said.stdout)["harmed"]["max"] == play(scenario, 4).harmed


def _broken(self: Checks, *_: object) -> None:
    raise Broken(f"a device acts on a lease that no log holds; {self.replay}")


def test_only_a_mutilated_line_says_that_something_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bare.toml"
    path.write_text("[fleet]\ndevices = 50\n[rollout]\nmax_harmed = 5\n", encoding="utf-8")
    monkeypatch.setattr(Checks, "acted", _broken)
    with pytest.raises(SystemExit) as ended:
        run_command(["simulate", str(path), "--fidelity", "messages", "--replicates", "1"])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert re.search(r"replay: tidegate simulate .*bare.toml --fidelity messages --replicates 1 --seed 1", said)
    assert said.count("\n") == 1


def test_a_candidate_that_takes_its_site_down_silences_placebos_too() -> None:
    """Interference, which the promise excludes: both arms fall silent alike, and the comparison sees little of it."""
    calm = small(defect={"harm_rate": 0.3}, background={"silent_rate": 0.0}, rollout={"false_halt": 1e-9})
    spilling = replace(calm, faults=small(fault=[{"kind": "interference", "start_s": 0, "site_devices": 10}]).faults)

    def silent(scenario: Scenario) -> tuple[int, int, Spill | None]:
        world = make_world(scenario, 2)
        world.timeline.at(world.start.begin_ms, world.server.tick_at, world.start.begin_ms)
        world.timeline.run(world.start.begin_ms + 601_000, lambda: False)
        counts = [world.server.rollout.evidence.arm(1, arm, world.timeline.now_ms, 600_000) for arm in ARMS]
        spill = spill_of(world.server.state, world.server.rollout, world.timeline.now_ms)
        return counts[0].silent, counts[1].silent, spill

    treated, placebo, spill = silent(calm)
    assert treated > 0 and placebo == 0 and spill is None, "without the label nobody has neighbours"
    _, placebo, spill = silent(spilling)
    assert placebo > 0 and spill is not None, "both arms fall silent, and the comparison of arms is blurred"
    assert spill.chance < NAMED_BELOW and "pause and look" in spill.sentence, "but those beside the treated fail more"
    harmless = replace(spilling, defect=replace(spilling.defect, harm_rate=0.0))
    _, _, spill = silent(harmless)
    assert spill is None or spill.chance >= NAMED_BELOW
