"""The forecast: what can be done, how long it takes, what waiting costs, and the three ways out."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core.forecast import Cap, forecast
from tidegate.core.looks import plan_looks
from tidegate.core.ways_out import certain_rounds

FLEET = 8_500_000


def test_a_feasible_rollout() -> None:
    found = forecast(FLEET, 850, 0.999, 4.0, 1e-4, observe_s=600)
    assert found.feasible
    assert found.rule == "statistical"
    assert found.time_limit_s == 1800
    assert found.forecast_s == 2400
    assert found.time_ratio is not None
    assert found.time_ratio <= 1.5
    assert found.certain_s is None, "8.5 million devices at this background lose 850 by themselves"
    assert found.min_max_harmed < 850
    assert found.ways_out == ()
    assert sum(wait.share for wait in found.protection) == pytest.approx(1.0)
    assert 0 < (found.mean_wait_s or 0) < 2400


@pytest.mark.parametrize(("max_harmed", "time_limit_s"), [(100, 3600), (850, 1800), (8500, 1200)])
def test_no_background_takes_the_time_limit(max_harmed: int, time_limit_s: float) -> None:
    found = forecast(FLEET, max_harmed)
    assert found.forecast_s == found.time_limit_s == time_limit_s
    assert found.time_ratio == 1.0


def test_an_infeasible_rollout_names_three_ways_out_that_work() -> None:
    found = forecast(100_000, 65, 0.999, 0.5, 1e-3)
    assert not found.feasible
    assert found.rings is found.forecast_s is found.mean_wait_s is None
    assert "65" in found.reason
    ways = {way.kind: way.value for way in found.ways_out}
    assert set(ways) == {"max_harmed", "placebo_per_treated", "silent_rate"}
    assert ways["max_harmed"] == found.min_max_harmed > 65
    assert ways["placebo_per_treated"] is not None
    assert ways["silent_rate"] is not None
    assert plan_looks(100_000, found.min_max_harmed, 0.999, 0.5, 1e-3).feasible
    assert plan_looks(100_000, 65, 0.999, ways["placebo_per_treated"], 1e-3).feasible
    assert plan_looks(100_000, 65, 0.999, 0.5, ways["silent_rate"]).feasible


def test_a_background_above_the_gate_is_left_to_the_certain_rule() -> None:
    """No ring would ever be read, so that the statistical rule must not promise its speed."""
    found = forecast(1737, 218, 0.999, q=0.1)
    assert found.rule == "certain" and found.feasible and found.forecast_s == found.certain_s
    assert forecast(1737, 218, 0.999, q=0.1, q_gate=0.1).rule == "statistical"
    hopeless = forecast(1737, 100, 0.999, q=0.1)
    assert not hopeless.feasible and "q_gate = 0.05" in hopeless.reason
    assert forecast(1737, hopeless.min_max_harmed, 0.999, q=0.1).feasible


def test_what_takes_longer_than_the_deadline_cannot_be_done() -> None:
    assert forecast(FLEET, 850, rollout_deadline_s=1800).feasible
    short = forecast(FLEET, 850, rollout_deadline_s=1799)
    assert not short.feasible and short.forecast_s is None and "time for 2" in short.reason
    assert forecast(FLEET, short.min_max_harmed, rollout_deadline_s=1799).feasible
    assert not forecast(300, 100, rollout_deadline_s=599).feasible
    capped = forecast(FLEET, 850, caps=[Cap("site=ATL", 200, 1)])
    assert not capped.feasible and "120000 s" in capped.reason and capped.ways_out[0].value is None


def test_ways_that_lead_nowhere_are_said_to() -> None:
    found = forecast(FLEET, 3, 0.999, 4.0, 1e-3)
    assert [way.value is None for way in found.ways_out] == [False, True, True]


def test_small_fleets_are_carried_by_the_certain_rule() -> None:
    found = forecast(500, 10, 0.999, 4.0, 0.01, observe_s=600)
    assert found.feasible
    assert found.rule == "certain"
    assert found.certain_s == found.forecast_s
    assert forecast(500, 10, 0.999, 4.0, 0.0).certain_s == 50 * 600
    assert not forecast(500, 10, 0.999, 4.0, 0.01, rollout_deadline_s=3600).feasible


def test_background_uses_up_the_certain_rule() -> None:
    assert certain_rounds(500, 10, 10, 0.0) == 50
    assert certain_rounds(500, 10, 10, 0.01) == 70
    assert certain_rounds(FLEET, 850, 850, 1e-4) is None
    assert certain_rounds(10, 20, 20, 0.5) == 1


def test_late_devices_are_forecast_by_themselves() -> None:
    found = forecast(10_000, 50, 0.999, 4.0, 0.0, late_share=0.2, late_return_s=14_400)
    assert found.late_s == 14_400 + 2000 / 10 * 600
    assert forecast(10_000, 50).late_s is None


def test_caps_are_waited_for() -> None:
    found = forecast(FLEET, 850, caps=[Cap("site=ATL", 200, 10)])
    assert found.forecast_s == 20 * 600
    assert any(wait.who == "group site=ATL" and wait.seconds == 19 * 600 for wait in found.protection)


def test_it_is_plain_json() -> None:
    told = json.loads(json.dumps(forecast(FLEET, 850).to_dict()))
    assert {"feasible", "reason", "rings", "time_limit_s", "forecast_s", "certain_s", "min_max_harmed"} <= set(told)


@settings(max_examples=12, deadline=None)
@given(
    devices=st.integers(1, 3_000_000),
    max_harmed=st.integers(1, 2000),
    q=st.sampled_from([0.0, 1e-6, 1e-4, 1e-2, 0.2]),
    placebo=st.sampled_from([0.0, 1.0, 4.0]),
)
def test_any_input_gets_an_answer_that_holds_together(devices: int, max_harmed: int, q: float, placebo: float) -> None:
    found = forecast(devices, max_harmed, 0.99, placebo, q)
    assert found.feasible == (found.rings is not None) == (found.forecast_s is not None)
    assert found.feasible == (found.min_max_harmed <= max_harmed)
    assert (found.ways_out == ()) == found.feasible
    assert found.forecast_s is None or found.forecast_s >= 600


def test_a_billion_devices_are_forecast_at_once() -> None:
    assert forecast(10**9, 8500, q=1e-4).feasible
