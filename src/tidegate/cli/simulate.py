"""`tidegate simulate`: play a scenario many times and say what came of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tidegate.cli.show import console, duration, out, out_json, table
from tidegate.core.errors import BadInput, TidegateError
from tidegate.sim.messages_checks import Broken
from tidegate.sim.outcome import summarise
from tidegate.sim.plot import check_plot_path, plot_run
from tidegate.sim.run import simulate as play
from tidegate.sim.scenario import Scenario, read_scenario


def simulate(
    scenario: str,
    /,
    *,
    replicates: int | None = None,
    seed: int | None = None,
    fidelity: str = "auto",
    plot: Path | None = None,
    processes: int = 0,
    json: bool = False,
) -> None:
    """Play a scenario: the shipped rules on a made-up fleet with a made-up defect.

    Args:
        scenario: A TOML file, or the name of a scenario that comes with Tidegate; /dev/stdin reads a pipe.
        replicates: How often; default: the scenario's.
        seed: One seed gives one result; default: the scenario's.
        fidelity: counts (a billion devices), columns (each device), messages (each message), or auto.
        plot: Draw the first run's exposure, harm and window over time to this .png or .svg file.
        processes: How many to use; 0 for as many as there are processors.
        json: Print JSON.
    """
    found = read_scenario(scenario)
    if replicates is not None:
        if not 1 <= replicates <= 10_000_000:
            raise BadInput(f"--replicates: must be 1 to 10,000,000, not {replicates}")
        found = replace(found, replicates=replicates)
    if seed is not None:
        if seed < 0:
            raise BadInput(f"--seed: must not be negative, not {seed}")
        found = replace(found, seed=seed)
    if plot is not None:
        check_plot_path(plot)
    try:
        with console.status("plays") as status:
            told = (lambda _: None) if json else lambda n: status.update(f"{n:,} of {found.replicates:,} runs")
            runs, wall_s = play(found, fidelity, processes, told)
    except Broken as error:
        raise TidegateError(str(error)) from error
    result = summarise(found, runs, wall_s)
    if plot is not None:
        plot_run(found, runs, plot)
    if json:
        out_json(result)
        return
    _show(found, result)
    if plot is not None:
        out(f"The first run is drawn in {plot}.")


def _show(scenario: Scenario, result: dict[str, Any]) -> None:
    terms, harmed, verdicts = scenario.rollout, result["harmed"], result["verdicts"]
    coverage, replicates = result["coverage_s"], result["replicates"]
    rows = [
        ("harmed, mean", f"{harmed['mean']:,.1f}"),
        ("harmed, median / 99 % / most", f"{harmed['p50']:,.0f} / {harmed['p99']:,.0f} / {harmed['max']:,}"),
        (f"more than {terms.max_harmed:,} harmed", f"{result['exceeded']:,} of {replicates:,} runs"),
        ("completed / halted / held", " / ".join(f"{verdicts[one]:,}" for one in ("completed", "halted", "held"))),
        ("halted although harmless", f"{result['false_halts']:,}"),
        ("least time there can be (T*)", duration(result["time_limit_s"])),
    ]
    if coverage is None:
        rows.append(("time to everyone", "no run reached everyone"))
    else:
        took = f"{duration(coverage['p50'])} (99 %: {duration(coverage['p99'])}), {result['time_ratio']:.2f} times T*"
        rows.append(("time to everyone", took))
    title = f"{scenario.name}: {terms.policy}, {scenario.fleet.devices:,} devices, {replicates:,} runs"
    table(title, ("measure", "value"), rows, empty="")
    if scenario.defect.harm_rate > 0 and scenario.defect.delay_s > terms.observe_s:
        shows, looks = duration(scenario.defect.delay_s), duration(terms.observe_s)
        out(
            f"Harm shows {shows} after the apply, and devices confirm after {looks}: no evidence of it is seen in time."
        )
        out("max_harmed does not bound such harm. A longer observe_s, with a soak as long, does.")
    out(f"Took {result['wall_s']:.1f} s.")
