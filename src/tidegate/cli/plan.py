"""`tidegate plan`: what a rollout would take, before it starts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tidegate.cli.show import duration, out, out_json, table
from tidegate.core.forecast import Cap, Forecast, Wait, forecast
from tidegate.sim.outcome import time_limit_s
from tidegate.sim.scenario import Scenario, read_scenario

WIDTH = 50


def plan(scenario: str, /, *, json: bool = False) -> int:
    """Forecast the rollout of a good update: can it be done, how long it takes, what waiting costs, and the ways out.

    Exit code 1 if the budget cannot carry the update to everyone.

    Args:
        scenario: A TOML file, or the name of a scenario that comes with Tidegate.
        json: Print JSON.
    """
    found = read_scenario(scenario)
    outlook = forecast_of(found)
    if json:
        out_json(outlook.to_dict())
    else:
        _show(found, outlook)
    return 0 if outlook.feasible else 1


def forecast_of(scenario: Scenario) -> Forecast:
    """Ask the planner about a scenario's rollout. T* is counted in observation times, whatever the devices' poll."""
    terms, late = scenario.rollout, scenario.late
    found = forecast(
        scenario.fleet.devices,
        terms.max_harmed,
        terms.confidence,
        terms.placebo_per_treated,
        scenario.background.rate,
        terms.q_gate,
        terms.canary,
        terms.observe_s,
        poll_s=terms.poll_s,
        late_share=late.share if late else 0.0,
        late_return_s=late.return_s if late else 0.0,
        late_budget_share=scenario.budgets[1] / terms.max_harmed,
        rollout_deadline_s=terms.rollout_deadline_s,
        caps=[Cap(f"of {cap.group_devices:,}", cap.group_devices, cap.at_most) for cap in scenario.caps],
    )
    limit_s = time_limit_s(scenario)
    ratio = None if found.forecast_s is None else found.forecast_s / limit_s
    return replace(found, time_limit_s=limit_s, time_ratio=ratio)


def _show(scenario: Scenario, outlook: Forecast) -> None:
    terms = scenario.rollout
    out(f"{scenario.name}: {scenario.fleet.devices:,} devices, at most {terms.max_harmed:,} harmed")
    out(f"at confidence {terms.confidence:g}, observation time {duration(terms.observe_s)}")
    out()
    out(("Can be done: " if outlook.feasible else "Cannot be done: ") + outlook.reason + ".")
    rows = [
        ("time to everyone", _time(outlook.forecast_s) + _ratio(outlook)),
        ("least time there can be (T*)", _time(outlook.time_limit_s)),
        ("by the certain rule alone", _time(outlook.certain_s)),
        ("smallest max_harmed that would do", f"{outlook.min_max_harmed:,}"),
        ("mean wait for protection", _time(outlook.mean_wait_s)),
    ]
    if scenario.late is not None:
        rows.append(("late devices, on their share", _time(outlook.late_s)))
    table("Forecast for a good update", ("measure", "value"), rows, empty="")
    if outlook.rule == "statistical" and outlook.feasible:
        _rings(outlook, terms.round_s)
    if outlook.protection:
        _chart(scenario, outlook.protection)
    for way in outlook.ways_out:
        out(f"Way out: {way.sentence}.")
    out(outlook.late_harm)


def _rings(outlook: Forecast, round_s: float) -> None:
    rows: list[tuple[Any, ...]] = []
    before = 0
    for place, size in enumerate(outlook.sizes):
        opens = duration(place * round_s)
        rows.append((place + 1, opens, f"{size - before:,}", f"{outlook.placebo[place]:,}", f"{size:,}"))
        before = size
    table("Rings", ("ring", "opens after", "treated", "placebo", "treated so far"), rows, empty="")


def _chart(scenario: Scenario, waits: tuple[Wait, ...]) -> None:
    """Draw the price of waiting: for each ring or group how long its protection waits, and its share of the fleet."""
    out("The price of waiting (how long before protection begins)")
    longest = max(max(wait.seconds for wait in waits), 1e-9)
    name = max(len(wait.who) for wait in waits)
    for wait in waits:
        bar = "█" * max(1, round(WIDTH * wait.seconds / longest)) if wait.seconds else "▏"
        share = f"{wait.share * scenario.fleet.devices:,.0f} devices"
        out(f"{wait.who:<{name}}  {bar} {duration(wait.seconds)}, {share}")
    out()


def _time(seconds: float | None) -> str:
    return "never" if seconds is None else duration(seconds)


def _ratio(outlook: Forecast) -> str:
    return "" if outlook.time_ratio is None else f", {outlook.time_ratio:.2f} times T*"
