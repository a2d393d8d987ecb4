"""What the signed speed limit does to a planned rollout: each ring, when each of the two opens it, and which binds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tidegate.cli.release_files import LEAST_DEVICES, USUAL_SPEED, read_share, read_speed
from tidegate.cli.show import duration, out, table
from tidegate.core.assign import SHARE_ONE
from tidegate.core.errors import BadInput
from tidegate.core.forecast import Forecast
from tidegate.core.looks_limits import certain_rings
from tidegate.core.model import SpeedLimit
from tidegate.core.timetable import RingTime, timetable
from tidegate.sim.scenario import Scenario
from tidegate.sim.scenario_speed import LASTS_S

MOST_ROWS, MOST_RINGS = 24, 10_000


def limit_for(scenario: Scenario, speed: str, ceiling: str) -> tuple[SpeedLimit, bool]:
    """Give the limit that a plan reckons with, and whether it is assumed: what release sign gives by itself.

    Raises:
        BadInput: for steps or a ceiling that cannot be.
    """
    devices = scenario.fleet.devices
    found = scenario.speed_limit(0)
    assumed = found is None and not speed
    if found is None or speed:
        slack_s = round(scenario.rollout.clock_slack_s)
        try:
            steps = read_speed(speed or USUAL_SPEED)
            found = SpeedLimit(steps, 0, LASTS_S, SHARE_ONE, 0, slack_s, min(LEAST_DEVICES, devices), devices)
        except ValueError as error:
            raise BadInput(f"--speed: {error}") from error
    if ceiling:
        found = replace(found, ceiling_2p32=read_share("--ceiling", ceiling))
    return found, assumed


def rings_under(scenario: Scenario, outlook: Forecast, limit: SpeedLimit) -> tuple[RingTime, ...]:
    """Lay the plan's rings out under a limit that is signed at the rollout's start; empty where they are too many."""
    devices, terms = scenario.fleet.devices, scenario.rollout
    sizes, beside = list(outlook.sizes), list(outlook.placebo)
    if not sizes:
        try:
            sizes = list(certain_rings(devices, terms.max_harmed, terms.canary or terms.max_harmed))
        except ValueError:
            return ()
        if len(sizes) > MOST_RINGS:
            return ()
        beside = [round(terms.placebo_per_treated * (b - a)) for a, b in zip([0, *sizes], sizes, strict=False)]
    reach = [min(devices, size + placebo) for size, placebo in zip(sizes, beside, strict=True)]
    shares = [-(-most * SHARE_ONE // devices) for most in reach]
    return timetable(limit, 0.0, terms.round_s, shares)


def speed_plain(limit: SpeedLimit, assumed: bool, rings: Sequence[RingTime], round_s: float) -> dict[str, Any]:
    """Give it as plain values; seconds count from the signing, which is taken to be the start."""
    last_s = rings[-1].opens_s if rings else None
    return {
        "assumed": assumed,
        "everyone_s": None if last_s is None else last_s + round_s,
        "steps": [{"after_s": seconds, "share": share / SHARE_ONE} for seconds, share in limit.steps],
        "ceiling": limit.ceiling_2p32 / SHARE_ONE,
        "clock_slack_s": limit.clock_slack_s,
        "rings": [
            {
                "ring": one.ring,
                "share": one.share_2p32 / SHARE_ONE,
                "by_statistics_s": one.statistics_s,
                "by_limit_s": one.limit_s,
                "opens_s": one.opens_s,
                "binds": one.binds,
            }
            for one in rings
        ],
    }


def show_speed(told: Mapping[str, Any]) -> None:
    """Print it for people."""
    steps = ", ".join(f"{_percent(step['share'])} after {duration(step['after_s'])}" for step in told["steps"])
    ceiling = "" if told["ceiling"] >= 1 else f"; never above {_percent(told['ceiling'])} without a promotion"
    out(f"Speed limit{' (what release sign gives by itself)' if told['assumed'] else ''}: {steps}{ceiling}.")
    rings = told["rings"]
    rows = [
        (one["ring"], _percent(one["share"]), _after(one), _allowed(one, told["steps"]), one["binds"])
        for one in rings[:MOST_ROWS]
    ]
    columns = ("ring", "reaches", "opens by the statistics", "opens by the limit", "binds")
    table("Rings under the speed limit", columns, rows, empty="The rings are too many to list.")
    if len(rings) > MOST_ROWS:
        out(f"... and {len(rings) - MOST_ROWS:,} more rings (--json lists all).")
    if any(one["binds"] != "statistics" for one in rings):
        out("While a ring waits for the limit, smaller ones go ahead with as many as it allows.")
    if rings and told["everyone_s"] is not None:
        out(f"Time to everyone under the limit: {duration(told['everyone_s'])}.")
    elif rings:
        out(
            "Not everyone is reached: promote the release when it has proved itself (tidegate release promote), or sign"
        )
        out("it with more steps.")
    out()


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _after(one: Mapping[str, Any]) -> str:
    return "after the ring before" if one["by_statistics_s"] is None else duration(one["by_statistics_s"])


def _allowed(one: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> str:
    if one["by_limit_s"] is not None:
        return duration(one["by_limit_s"])
    return "not without a promotion" if one["share"] <= steps[-1]["share"] else "never: no step reaches it"
