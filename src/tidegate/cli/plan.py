"""`tidegate plan`: what a rollout would take, before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tidegate.cli.inventory_file import read_inventory
from tidegate.cli.plan_pairs import cover_of, show_pairs
from tidegate.cli.plan_speed import limit_for, rings_under, show_speed, speed_plain
from tidegate.cli.show import duration, out, out_json, table
from tidegate.core.errors import BadInput
from tidegate.core.forecast import Cap, Forecast, Wait, forecast
from tidegate.sim.outcome import time_limit_s
from tidegate.sim.scenario import Scenario, read_scenario

WIDTH = 50


def plan(
    scenario: str,
    /,
    *,
    inventory: Path | None = None,
    scout: list[str] | None = None,
    order_salt: str = "",
    speed: str = "",
    ceiling: str = "",
    json: bool = False,
) -> int:
    """Forecast the rollout of a good update: can it be done, how long it takes, what waiting costs, and the ways out.

    Exit code 1 if the budget cannot carry the update to everyone.

    Args:
        scenario: A TOML file, or the name of a scenario that comes with Tidegate.
        inventory: The fleet, as tidegate device list --json gives it: its number of devices counts instead of the
            scenario's, and which pairs of label values the scouts and each ring cover is shown.
        scout: A label whose values, in pairs, are to be covered. Can be given several times; default: os, version,
            hardware and locale, as far as the inventory has them.
        order_salt: The release's order, 32 hexadecimal digits; default: an order of the plan's own, as an example.
        speed: The speed limit that the release will be signed with, as for tidegate release sign; default: the
            scenario's, or what release sign gives if not told otherwise.
        ceiling: The greatest share that it may reach without a promotion.
        json: Print JSON.
    """
    if inventory is None and (scout or order_salt):
        raise BadInput("--scout and --order-salt need the fleet: --inventory FILE")
    found = read_scenario(scenario)
    devices = read_inventory(inventory) if inventory else []
    if inventory:
        if not devices:
            raise BadInput(f"the inventory {inventory} holds no device")
        found = replace(found, fleet=replace(found.fleet, devices=len(devices)))
    outlook = forecast_of(found)
    told = cover_of(devices, found, outlook, scout, order_salt) if devices else None
    limit, assumed = limit_for(found, speed, ceiling)
    limited = speed_plain(limit, assumed, rings_under(found, outlook, limit), found.rollout.round_s)
    if json:
        plain = {**outlook.to_dict(), "speed": limited}
        out_json(plain if told is None else {**plain, "coverage": told})
    else:
        _show(found, outlook)
        show_speed(limited)
        if told is not None:
            show_pairs(told)
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
