"""Pictures of comparisons: policies by harm rate, and harm over time; readable on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tidegate.core.errors import BadInput
from tidegate.sim.compare import HARM_RATES, Line
from tidegate.sim.outcome import Ending, Ints, Runs
from tidegate.sim.port import OWN
from tidegate.sim.scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#757b84"
"""Grey with the same contrast, above 4, against white and against nearly black; the colours are as light."""
HARM, BLUE, GREEN, AMBER = "#e04f44", "#2f7fe0", "#2a8f4a", "#a87400"
LINES = (BLUE, GREEN, AMBER, "#a063d6", "#0f8f96")
SAFE, REDS = "#1c7a3e", ("#a05a52", "#aa463d", "#b0322a", "#a81f1a", "#8c1010")
KINDS = (".svg", ".png")


def check_picture(path: Path) -> Path:
    """Say before anything is played whether a picture can be written there. Raises BadInput."""
    if path.suffix not in KINDS:
        raise BadInput(f"--plot must end in .svg or .png, not {path.name!r}")
    if not path.parent.is_dir():
        raise BadInput(f"--plot: there is no directory {str(path.parent)!r}; make it first")
    return path


def plot_courses(played: Sequence[tuple[Scenario, Runs]], path: Path) -> None:
    """Draw the harmed devices of several scenarios over time, on a log scale, with labels on the lines.

    The README's picture: `tidegate compare july-2024-instant july-2024-850 july-2024-100 july-2024-canary-16 --plot
    docs/pictures/july-2024.svg`. Tidegate is drawn at its worst: a whole ring harmed at the moment it opens.

    Args:
        played: scenarios with their runs; those that kept no series are left out.
        path: ends in .svg or .png.
    """
    figure, axes = _figure(10.0, 5.4)
    kept = [(scenario, runs) for scenario, runs in played if runs.series is not None]
    end_min = max((float(_series(runs).t_s[-1]) for _, runs in kept), default=60.0) / 60.0 * 1.04
    peak = max((int(_series(runs).harmed.max()) for _, runs in kept), default=1)
    colours = iter(LINES * len(kept))
    for scenario, runs in kept:
        own = scenario.rollout.policy in OWN
        _course(axes, scenario, runs, next(colours) if own else HARM, end_min)
    axes.set_yscale("log")
    axes.tick_params(which="minor", length=0)
    axes.set_ylim(3, max(peak, 10) * 4)
    axes.set_xlim(0, end_min)
    axes.set_xlabel("minutes after the first device was told")
    axes.set_ylabel("devices harmed (log scale)")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    devices = {scenario.fleet.devices for scenario, _ in kept}
    of_them = f" on {next(iter(devices)):,} devices" if len(devices) == 1 else ""
    axes.set_title(f"The same faulty update{of_them}", loc="left", fontsize=14, fontweight="bold", color=INK)
    figure.savefig(path, transparent=True, **_about(path))


def _course(axes: Axes, scenario: Scenario, runs: Runs, colour: str, end_min: float) -> None:
    series = _series(runs)
    minutes, harmed = series.t_s / 60.0, series.harmed.astype(float)
    halted = runs.verdict[0] == Ending.HALTED
    stop_min = minutes[-1]
    kept = np.append(True, np.diff(harmed) > 0)
    minutes, harmed = np.append(minutes[kept], end_min), np.append(harmed[kept], harmed[-1])
    shown = np.where(harmed > 0, harmed, np.nan)
    spread = scenario.rollout.policy not in OWN
    if spread:
        minutes, shown = np.append(minutes[:-1], [series.t_s[-1] / 60.0, end_min]), np.append(shown, harmed[-1])
    axes.plot(minutes, shown, color=colour, linewidth=3, drawstyle="default" if spread else "steps-post")
    if halted:
        axes.plot([stop_min], [harmed[-1]], marker="s", markersize=9, color=colour)
    end = "; halted" if halted else "; nothing stopped it" if runs.verdict[0] == Ending.COMPLETED else "; held"
    axes.annotate(
        f"{_name(scenario)}: {int(harmed[-1]):,} harmed{end}",
        xy=(end_min * 0.985, harmed[-1]),
        xytext=(0, 8),
        textcoords="offset points",
        ha="right",
        color=colour,
        fontsize=12,
        fontweight="bold",
    )


def _name(scenario: Scenario) -> str:
    terms = scenario.rollout
    if terms.policy == "instant":
        minutes = terms.poll_s / 60.0
        return f"instant push, {minutes:,.0f} minutes" if minutes else "instant push"
    if terms.policy != "tidegate":
        return terms.policy
    canary = f", canary {terms.canary:,}" if terms.canary else ""
    return f"Tidegate, max_harmed {terms.max_harmed:,}{canary}"


def plot_policies(scenario: Scenario, lines: Sequence[Line], path: Path) -> None:
    """Draw harmed devices by policy and harm rate as a table whose cells are coloured on a log scale.

    Args:
        scenario: what was played.
        lines: the policies.
        path: ends in .svg or .png.
    """
    figure, axes = _figure(10.0, 1.7 + 0.42 * len(lines))
    budget = scenario.rollout.max_harmed
    for row, line in enumerate(lines):
        own = line.policy == "tidegate"
        axes.text(-0.6, row, line.policy, ha="right", va="center", color=INK, fontweight="bold" if own else "normal")
        for column, runs in enumerate(line.harmful):
            axes.add_patch(_cell(column, row, _heat(runs.harmed, budget, scenario.fleet.devices)))
            written = short(float(runs.harmed.mean()))
            axes.text(column, row, written, ha="center", va="center", color="white", fontweight="bold")
        hours = line.hours_to_everyone
        axes.text(len(HARM_RATES) + 0.1, row, written_hours(hours), ha="center", va="center", color=INK)
    for column, rate in enumerate(HARM_RATES):
        axes.text(column, -0.85, f"{rate:.4%}".rstrip("0%").rstrip(".") + " %", ha="center", va="center", color=INK)
    axes.text(len(HARM_RATES) + 0.1, -0.85, "good: all after", ha="center", va="center", color=INK)
    axes.set_xlim(-2.2, len(HARM_RATES) + 0.8)
    axes.set_ylim(len(lines) - 0.4, -1.3)
    axes.axis("off")
    axes.set_title(
        f"Devices harmed of {scenario.fleet.devices:,}, by the share that the update harms"
        f" (green: max_harmed = {budget:,} kept in every run)",
        loc="left",
        color=INK,
        fontweight="bold",
        fontsize=11,
    )
    figure.savefig(path, transparent=True, **_about(path))


def short(count: float) -> str:
    """Write a count in four characters or so."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if count >= size:
            scaled = count / (1e3 if unit == "k" else size)
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:,.0f}{unit}"
    return f"{count:,.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"


def written_hours(hours: float | None) -> str:
    """Write how long everyone took."""
    if hours is None:
        return "never"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:,.0f} h"


def _heat(harmed: Ints, budget: int, devices: int) -> str:
    """Colour of a cell under white writing: green within the budget in every run, a deeper red the further beyond."""
    if harmed.max() <= budget:
        return SAFE
    beyond = np.log10(max(float(harmed.mean()), 1.0) / budget) / max(np.log10(devices / budget), 1e-9)
    return REDS[int(np.clip(beyond * len(REDS), 0, len(REDS) - 1))]


def _cell(column: int, row: int, colour: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.48, row - 0.45), 0.96, 0.9, color=colour, linewidth=0)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "tidegate"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), dpi=120, layout="constrained")
    axes.tick_params(colors=INK, labelsize=11)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    axes.xaxis.label.set_fontsize(12)
    axes.yaxis.label.set_fontsize(12)
    axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.8)
    return figure, axes


def _about(path: Path) -> dict[str, Any]:
    """Without a date in it, the same scenarios always give the same file."""
    return {"metadata": {"Date": None, "Creator": "tidegate compare"}} if path.suffix == ".svg" else {}


def _series(runs: Runs) -> Any:
    assert runs.series is not None
    return runs.series
