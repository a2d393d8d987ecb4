"""`tidegate compare`: one scenario under every policy and many defects, or several scenarios beside each other."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from rich.text import Text

from tidegate.cli.show import console, duration, out, out_json, table
from tidegate.core.errors import BadInput
from tidegate.sim.compare import COMPARED, HARM_RATES, Line, as_dict, compare_policies, play_scenarios
from tidegate.sim.compare_plot import check_picture, plot_courses, plot_policies, short, written_hours
from tidegate.sim.outcome import Ending
from tidegate.sim.scenario import POLICIES, Scenario, read_scenario


def compare(
    *scenarios: str,
    policy: list[str] | None = None,
    replicates: int | None = None,
    seed: int | None = None,
    plot: Path | None = None,
    json: bool = False,
) -> None:
    """Compare policies on one scenario: harmed devices for several defects, hours to everyone, false halts.

    With several scenarios each is played as it is written, and they are compared with each other.

    Args:
        scenarios: A TOML file, or the name of a packaged scenario, as july-2024-850.
        policy: Only this policy. Can be given several times.
        replicates: Runs of each; default: the scenario's.
        seed: Where randomness starts; default: the scenario's.
        plot: Draw a picture here, .svg or .png.
        json: Print one JSON object.
    """
    if not scenarios:
        raise BadInput("compare needs a scenario: a TOML file, or the name of a packaged one, as july-2024-850")
    for name in policy or ():
        if name not in POLICIES:
            raise BadInput(f"--policy must be one of {', '.join(POLICIES)}, not {name!r}")
    for option, value, least in (("--replicates", replicates, 1), ("--seed", seed, 0)):
        if value is not None and value < least:
            raise BadInput(f"{option} must be {least} or more, not {value}")
    if plot is not None:
        check_picture(plot)
    read = [_changed(read_scenario(name), replicates, seed) for name in scenarios]
    if len(read) > 1:
        if policy:
            raise BadInput("--policy goes with one scenario; several are played with the policies they name")
        _beside(read, plot, json)
    else:
        _under_policies(read[0], tuple(policy or COMPARED), plot, json)


def _changed(scenario: Scenario, replicates: int | None, seed: int | None) -> Scenario:
    return replace(
        scenario,
        replicates=scenario.replicates if replicates is None else replicates,
        seed=scenario.seed if seed is None else seed,
    )


def _under_policies(scenario: Scenario, policies: tuple[str, ...], plot: Path | None, json: bool) -> None:
    began = time.perf_counter()
    with console.status("") as status:
        lines = compare_policies(scenario, policies, lambda name: None if json else status.update(f"plays {name}"))
    wall_s = time.perf_counter() - began
    if plot is not None:
        plot_policies(scenario, lines, plot)
    if json:
        out_json(as_dict(scenario, lines, wall_s))
        return
    budget = scenario.rollout.max_harmed
    columns = ("policy", *(f"{rate:.2%}".replace(".00", "") for rate in HARM_RATES), "good: all after", "good: stopped")
    title = f"Harmed devices of {scenario.fleet.devices:,}, mean of {scenario.replicates} runs, by the share harmed"
    table(title, columns, [_row(line, budget) for line in lines], empty="No policy was named.")
    out(f"Green: within max_harmed = {budget:,} in every run; red: more on average. How each was set:")
    for line in lines:
        out(f"  {line.policy}: {line.settings}")
    out(f"Devices report after {duration(scenario.rollout.observe_s)} under every policy; {wall_s:.1f} s.")


def _row(line: Line, budget: int) -> tuple[str | Text, ...]:
    cells: list[Text] = []
    for runs in line.harmful:
        mean, worst = float(runs.harmed.mean()), int(runs.harmed.max())
        colour = "green" if worst <= budget else "red" if mean > budget else "yellow"
        cells.append(Text(short(mean), style=colour))
    hours, verdict = line.hours_to_everyone, line.good.verdict
    halted, held = (int((verdict == ending).sum()) for ending in (Ending.HALTED, Ending.HELD))
    stopped = ", ".join(f"{count} {word}" for count, word in ((halted, "halted"), (held, "held")) if count) or "0"
    return (line.policy, *cells, written_hours(hours), stopped)


def _beside(scenarios: list[Scenario], plot: Path | None, json: bool) -> None:
    played = play_scenarios(scenarios)
    if plot is not None:
        plot_courses([(scenario, runs) for scenario, runs, _ in played], plot)
    if json:
        out_json({"scenarios": [{"scenario": scenario.name, **summary} for scenario, _, summary in played]})
        return
    rows = [
        (
            scenario.name,
            short(summary["harmed"]["mean"]),
            f"{summary['harmed']['max']:,}",
            ", ".join(f"{count} {word}" for word, count in summary["verdicts"].items() if count),
            duration(summary["coverage_s"]["p50"]) if summary["coverage_s"] else "never",
        )
        for scenario, _, summary in played
    ]
    columns = ("scenario", "harmed, mean", "most", "runs", "all after")
    table("Scenarios, each as it is written", columns, rows, empty="No scenario was given.")
