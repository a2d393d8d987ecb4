"""The picture of one run: exposure, harm and the window over time, as PNG or SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tidegate.core.errors import BadInput
from tidegate.sim.outcome import Ending, Floats, Ints, Runs, Series
from tidegate.sim.scenario import Scenario

FORMATS = (".png", ".svg")
WINDOW, EXPOSED, CONFIRMED, HARMED = "#9a9a9a", "#1f5fa8", "#2e8b57", "#c0392b"


def check_plot_path(path: Path) -> None:
    """Refuse a picture that cannot be written before anything is simulated. Raises BadInput."""
    if path.suffix.lower() not in FORMATS:
        raise BadInput(f"--plot: must end in .png or .svg, not {path.name!r}")
    if not path.absolute().parent.is_dir():
        raise BadInput(f"--plot: the directory {path.parent} does not exist")


def figure(width: float = 9.0, height: float = 5.0) -> tuple[Any, Any]:
    """Give an empty figure and its axes, drawn without a display and the same on every machine."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "tidegate"
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    return drawn, axes


def save(drawn: Any, path: Path) -> None:
    """Write a figure without a date in it, so that the same figures give the same bytes. Raises BadInput."""
    from matplotlib import pyplot

    try:
        drawn.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as error:
        raise BadInput(f"--plot: {path} cannot be written: {error.strerror}") from error
    finally:
        pyplot.close(drawn)


def plot_run(scenario: Scenario, runs: Runs, path: Path) -> None:
    """Draw the first replicate, and the budget as a line, to `path`.

    Raises:
        BadInput: if the fidelity kept no course over time, or the file cannot be written.
    """
    series = runs.series
    if series is None:
        raise BadInput("--plot: this policy keeps no course over time; use --fidelity counts")
    drawn, axes = figure()
    hours = series.t_s / 3600.0
    budget = scenario.rollout.max_harmed
    curves: list[tuple[str, Ints, str, str, float]] = [
        ("exposed", series.exposed, EXPOSED, "-", 2.4),
        ("confirmed", series.confirmed, CONFIRMED, "-", 1.6),
        ("harmed", series.harmed, HARMED, "-", 2.4),
    ]
    axes.fill_between(hours, series.window, step="post", color=WINDOW, alpha=0.3, linewidth=0, label="window")
    for label, values, colour, style, width in curves:
        axes.step(
            hours, values, where="post", label=label, color=colour, linestyle=style, linewidth=width, clip_on=False
        )
    axes.axhline(budget, color=HARMED, linestyle=":", linewidth=1.2)
    axes.annotate(
        f"max_harmed = {budget:,}", (1, budget), xycoords=("axes fraction", "data"), ha="right", va="bottom",
        color=HARMED, fontsize=9,
    )  # fmt: skip
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, scenario.fleet.devices * 3)
    axes.yaxis.set_major_formatter(lambda value, _place: f"{value:,.0f}")
    axes.set_xlim(0, max(float(hours[-1]), 1e-9) * 1.02)
    axes.set_xlabel("hours since the start")
    axes.set_ylabel("devices")
    axes.set_title(_title(scenario, runs, series), loc="left", fontsize=10)
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    save(drawn, path)


def stepped(times: Floats, series: Series, name: str) -> Ints:
    """Read one curve of a series at given moments: the newest value at or before each; shape of `times`."""
    place = np.searchsorted(series.t_s, times, side="right") - 1
    return getattr(series, name)[np.maximum(place, 0)]


def _title(scenario: Scenario, runs: Runs, series: Series) -> str:
    ending = Ending(int(runs.verdict[0])).name.lower()
    return (
        f"{scenario.name}: {scenario.rollout.policy} on {scenario.fleet.devices:,} devices,"
        f" harm rate {scenario.defect.harm_rate:g}: {ending}, {int(series.harmed[-1]):,} harmed"
    )
