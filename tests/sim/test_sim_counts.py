"""The simulator by counts: what a rollout comes to for good and bad updates, faults, late devices, caps and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tidegate.sim.counts import Tidegate
from tidegate.sim.outcome import Ending, Runs, summarise
from tidegate.sim.play import Play
from tidegate.sim.pools import Pools
from tidegate.sim.rule import looks_of
from tidegate.sim.run import simulate
from tidegate.sim.scenario import Scenario, scenario_of

FLEET = 8_500_000
D = 600.0


def scenario(devices: int = FLEET, max_harmed: int = 850, q: float = 1e-4, p: float = 0.0, **more: Any) -> Scenario:
    """A scenario with 100 replicates; `rollout`, `defect` and the like add keys to their tables."""
    tables: dict[str, Any] = {"replicates": 100, **more}
    tables["fleet"] = {"devices": devices}
    tables["background"] = {"silent_rate": q, **more.get("background", {})}
    tables["defect"] = {"harm_rate": p, **more.get("defect", {})}
    tables["rollout"] = {"max_harmed": max_harmed, **more.get("rollout", {})}
    return scenario_of(tables)


def played(**more: Any) -> tuple[Runs, dict[str, Any]]:
    found = scenario(**more)
    runs, wall_s = simulate(found, processes=1)
    return runs, summarise(found, runs, wall_s)


def test_a_good_update_without_background_takes_the_least_time_there_can_be() -> None:
    for max_harmed in (100, 850, 8500):
        _, result = played(max_harmed=max_harmed, q=0.0)
        assert result["verdicts"] == {"completed": 100, "halted": 0, "held": 0}
        assert result["time_ratio"] == 1.0
        assert result["harmed"]["max"] == 0


def test_background_costs_at_most_half_as_much_again() -> None:
    _, result = played()
    assert result["verdicts"]["completed"] >= 99
    assert result["time_ratio"] <= 1.5
    assert result["false_halts"] == 0


def test_a_budget_that_is_just_large_enough_mostly_gets_there() -> None:
    """The last ring but one takes over two placebo devices more than planned: their evidence must still count."""
    _, result = played(q=1e-3)
    assert result["verdicts"]["completed"] >= 85


@pytest.mark.parametrize("p", [1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5])
def test_a_bad_update_harms_no_more_than_the_budget(p: float) -> None:
    _, result = played(p=p)
    assert result["exceeded"] == 0
    assert result["verdicts"]["completed"] == (100 if p == 1e-5 else 0)


def test_a_canary_is_all_that_a_bad_update_gets() -> None:
    runs, result = played(p=1.0, rollout={"canary": 16})
    assert result["harmed"] == {"mean": 16.0, "p50": 16.0, "p99": 16.0, "max": 16}
    assert np.all(runs.verdict == Ending.HALTED)


def test_the_naive_rule_breaks_the_promise() -> None:
    for p in (1e-3, 1e-2):
        _, result = played(p=p, rollout={"policy": "naive"})
        assert result["exceeded"] == 100
    _, result = played(p=1.0, rollout={"policy": "naive"})
    assert result["harmed"]["mean"] > 20 * 850


def test_the_certain_rule_keeps_it_whatever_the_defect() -> None:
    for p in (0.004, 0.03, 1.0):
        _, result = played(devices=500, max_harmed=10, q=1e-3, p=p, rollout={"policy": "certain"})
        assert result["harmed"]["max"] <= 10
    _, result = played(devices=500, max_harmed=10, q=0.0, rollout={"policy": "certain"})
    assert result["coverage_s"]["p50"] == 50 * D


def test_a_small_fleet_is_carried_by_whichever_rule_is_sooner() -> None:
    _, result = played(devices=300, max_harmed=10, q=0.0)
    _, alone = played(devices=300, max_harmed=10, q=0.0, rollout={"policy": "certain"})
    assert result["verdicts"]["completed"] == alone["verdicts"]["completed"] == 100
    assert result["coverage_s"]["p50"] < alone["coverage_s"]["p50"] == 30 * D
    _, tiny = played(devices=1, max_harmed=1, q=0.0)
    assert tiny["coverage_s"]["p50"] == D


def test_harm_that_shows_after_the_observation_is_confirmed_and_harms_all_the_same() -> None:
    _, shows = played(p=1e-3, defect={"delay_s": D})
    assert shows["exceeded"] == 0 and shows["verdicts"]["halted"] == 100
    runs, hidden = played(p=1e-3, defect={"delay_s": D + 1})
    assert np.all(runs.verdict == Ending.COMPLETED)
    assert hidden["harmed"]["mean"] == 8500


def test_reverted_devices_halt_as_soon_as_they_say_so() -> None:
    silent, _ = played(p=0.01)
    runs, result = played(p=0.01, defect={"outcome": "reverted", "delay_s": 5})
    assert result["verdicts"]["halted"] == 100
    assert runs.series is not None and runs.series.t_s[-1] <= D
    assert np.all(silent.verdict == Ending.HALTED) and silent.series is not None and silent.series.t_s[-1] >= D


def outage(share: float, **more: Any) -> dict[str, Any]:
    return {"kind": "telemetry_outage", "start_s": 600, "duration_s": 900, "share": share, **more}


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_an_outage_delays_a_good_update_and_never_halts_it(share: float) -> None:
    _, calm = played()
    _, result = played(fault=[outage(share)])
    assert result["verdicts"]["halted"] == 0
    assert result["verdicts"]["completed"] >= 99
    assert result["coverage_s"]["p50"] == calm["coverage_s"]["p50"] + 900.0


def test_an_outage_below_the_gate_is_read_as_background() -> None:
    narrow = {"q_gate": 1e-3}
    _, result = played(fault=[outage(0.02)])
    _, waits = played(fault=[outage(0.02)], rollout=narrow)
    assert result["verdicts"]["halted"] == waits["verdicts"]["halted"] == 0
    assert result["verdicts"]["completed"] < waits["verdicts"]["completed"], "so choose the gate near the background"
    assert waits["verdicts"]["completed"] >= 99


@pytest.mark.parametrize("p", [1e-4, 1e-3, 0.1])
def test_nothing_advances_blind(p: float) -> None:
    _, result = played(p=p, fault=[outage(1.0, start_s=0, duration_s=80_000)])
    assert result["exceeded"] == 0
    assert result["verdicts"]["completed"] == 0
    assert result["harmed"]["max"] <= 850


def test_an_outage_that_never_ends_is_a_hold() -> None:
    runs, _ = played(fault=[outage(1.0, start_s=0, duration_s=1e9)])
    assert np.all(runs.verdict == Ending.HELD)


@pytest.mark.parametrize("kind", ["partition", "site_down", "clock_skew"])
@pytest.mark.parametrize("p", [0.0, 1e-3])
def test_other_faults_break_nothing(kind: str, p: float) -> None:
    fault: dict[str, object] = {"kind": kind, "start_s": 300, "duration_s": 3000, "share": 0.3}
    if kind == "clock_skew":
        fault["offset_s"] = 90_000
    runs, result = played(devices=20_000, max_harmed=100, p=p * 100, fault=[fault])
    assert result["exceeded"] == 0
    assert result["false_halts"] == 0
    if p == 0 and kind != "clock_skew":
        assert np.all(runs.verdict == Ending.COMPLETED)


def test_a_clock_that_is_wrong_by_less_than_a_plan_lives_changes_nothing() -> None:
    _, right = played()
    for offset_s in (-90_000, 600):
        _, wrong = played(fault=[{"kind": "clock_skew", "share": 0.3, "offset_s": offset_s}])
        assert {**wrong, "wall_s": 0} == {**right, "wall_s": 0}


def test_liars_who_call_themselves_sick_can_only_stop_a_rollout() -> None:
    _, result = played(fault=[{"kind": "byzantine", "share": 0.01, "lie": "sick"}])
    assert result["verdicts"]["completed"] == 0 and result["harmed"]["max"] == 0
    _, result = played(fault=[{"kind": "byzantine", "share": 1.0, "lie": "announce"}])
    assert result["verdicts"]["completed"] >= 99


def test_liars_who_call_themselves_healthy_are_covered_by_the_gate_up_to_its_share() -> None:
    for p in (2e-4, 1e-3, 1e-2):
        _, result = played(p=p, fault=[{"kind": "byzantine", "share": 0.05, "lie": "healthy"}])
        assert result["exceeded"] == 0
    _, result = played(p=1e-3, fault=[{"kind": "byzantine", "share": 1.0, "lie": "healthy"}])
    assert result["harmed"]["mean"] == 8500, "if all lie, nobody can know"


def test_late_devices_that_alone_are_harmed_cost_their_own_share_at_most() -> None:
    late = {"share": 0.2, "return_s": 3600, "harm_rate": 1.0}
    runs, result = played(late=late)
    assert result["harmed"]["max"] <= 170, "a fifth of the budget"
    assert not np.any(runs.verdict == Ending.COMPLETED)
    _, naive = played(late=late, rollout={"policy": "naive"})
    assert naive["exceeded"] == 100


def test_late_devices_come_at_last_if_they_are_few() -> None:
    late = {"share": 0.05, "return_s": 3 * 3600, "harm_rate": 0.0}
    _, result = played(devices=20_000, max_harmed=100, q=0.0, late=late)
    assert result["verdicts"]["completed"] == 100
    assert result["coverage_s"]["p50"] == 3 * 3600 + 1000 / 20 * D


def test_a_cap_makes_the_last_ring_wait() -> None:
    _, result = played(devices=20_000, max_harmed=100, q=0.0, cap=[{"group_devices": 200, "at_most": 10}])
    assert result["verdicts"]["completed"] == 100
    assert result["coverage_s"]["p50"] >= 20 * D
    _, wide = played(devices=20_000, max_harmed=100, q=0.0, cap=[{"group_devices": 200, "at_most": 200}])
    _, none = played(devices=20_000, max_harmed=100, q=0.0)
    assert wide["coverage_s"] == none["coverage_s"]


def test_a_cap_used_up_by_the_silent_holds() -> None:
    runs, _ = played(devices=5000, max_harmed=1000, q=0.2, cap=[{"group_devices": 50, "at_most": 2}])
    assert np.all(runs.verdict == Ending.HELD)


def test_a_billion_devices() -> None:
    _, result = played(devices=1_000_000_000, max_harmed=20_000, q=1e-5)
    assert result["verdicts"]["completed"] == 100
    _, result = played(devices=1_000_000_000, max_harmed=20_000, q=1e-5, p=1e-3)
    assert result["exceeded"] == 0 and result["verdicts"]["completed"] == 0


def test_an_infeasible_budget_holds() -> None:
    runs, result = played(max_harmed=100, q=1e-2)
    assert np.all(runs.verdict == Ending.HELD)
    assert result["coverage_s"] is None and result["time_ratio"] is None


def test_polling_adds_to_each_ring() -> None:
    _, at_once = played(q=0.0)
    _, polled = played(q=0.0, rollout={"poll_s": 60})
    assert polled["coverage_s"]["p50"] == at_once["coverage_s"]["p50"] + 3 * 60
    assert polled["time_limit_s"] == at_once["time_limit_s"]


def test_a_deadline_ends_in_a_hold() -> None:
    runs, _ = played(rollout={"rollout_deadline_s": 2 * D})
    assert np.all(runs.verdict == Ending.HELD)


def test_a_share_of_the_fleet_is_exact_and_its_rounding_random() -> None:
    runs, _ = played(devices=10, max_harmed=10, q=0.0, p=0.25, defect={"delay_s": 1e6}, replicates=400)
    assert set(runs.harmed) == {2, 3}
    assert abs(float(runs.harmed.mean()) - 2.5) < 0.1


def test_one_seed_gives_one_result_whatever_the_processes() -> None:
    found = scenario(p=1e-3, replicates=150)
    alone, _ = simulate(found, processes=1)
    both, _ = simulate(found, processes=2)
    again, _ = simulate(found)
    for other in (both, again):
        assert np.array_equal(alone.harmed, other.harmed) and np.array_equal(alone.verdict, other.verdict)
    different, _ = simulate(scenario(p=1e-3, replicates=150, seed=2), processes=1)
    assert not np.array_equal(alone.harmed, different.harmed)


@pytest.mark.parametrize("poll_s", [0, 3600])
def test_the_course_over_time_adds_up(poll_s: int) -> None:
    runs, _ = played(p=1e-5, rollout={"poll_s": poll_s})
    series = runs.series
    assert series is not None
    early = int(series.exposed[series.t_s <= poll_s / 2].max())
    assert early == (850 if poll_s == 0 else pytest.approx(425, rel=0.2)), "exposed when leased, as they ask for it"
    assert np.all(np.diff(series.t_s) >= 0)
    for values in (series.exposed, series.confirmed, series.harmed):
        assert np.all(np.diff(values) >= 0)
    assert np.all(series.confirmed <= series.exposed) and np.all(series.harmed <= series.exposed)
    assert series.exposed[-1] == FLEET and series.harmed[-1] == runs.harmed[0]


def test_a_halt_while_leases_are_spread_over_the_poll_stops_them() -> None:
    told = {"outcome": "reverted", "delay_s": 0}
    _, at_once = played(p=1.0, defect=told)
    _, spread = played(p=1.0, defect=told, rollout={"poll_s": 300})
    assert at_once["harmed"]["max"] == 850
    assert spread["harmed"]["max"] < 50


def test_each_replicate_keeps_to_its_own_ring() -> None:
    found = scenario(
        devices=5000, max_harmed=60, q=5e-3, p=0.01, rollout={"rollout_deadline_s": 20_000, "false_halt": 1e-9}
    )
    looks = looks_of(found)
    assert looks is not None
    play = Play(found, np.random.default_rng(1), 2000, Tidegate(), found.budgets, looks, Pools)
    play.run()
    ends = np.array([0, *looks.sizes, looks.devices])
    assert len(np.unique(play.stage)) > 2, "replicates come to different rings at the same moments"
    assert np.all(ends[play.stage] <= play.members) and np.all(play.members <= ends[play.stage + 1])
    assert np.array_equal(play.rings[:, 0].sum(axis=0), play.exposed)
