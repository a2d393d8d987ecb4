"""The documentation's tables and pictures of the promise: made from a run of `bench/promise.py`, never typed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.promise import ALPHA, FLEET, Worst
from tidegate.sim.outcome import Series
from tidegate.sim.plot import EXPOSED, HARMED, figure, save
from tidegate.sim.port import load_policy
from tidegate.sim.scenario import scenario_of

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE = DOCS / "promise.md"
BLOCK = re.compile(r"(<!-- measured: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
CURVES = (
    (0.0, EXPOSED, "good update", 7.0),
    (1e-5, "#5fbf8b", "harms 1 in 100,000", 3.5),
    (1e-3, HARMED, "harms 1 in 1,000", 1.6),
)
"""Harm rate, colour, label and width: the curves run over each other until one is stopped."""


@dataclass(frozen=True, slots=True)
class Measured:
    """All that the page shows."""

    kept: Sequence[Worst]
    broken: Sequence[Worst]
    restarts: tuple[tuple[float, float], tuple[float, float]]
    """Inherited and fresh: the worst share of runs over budget, and the harm rate there."""
    false: Sequence[tuple[float, float, float]]
    times: Sequence[tuple[int, float, float | None, float]]
    replicates: int


def write(found: Measured) -> None:
    """Write tables and pictures into `docs/`."""
    blocks = {
        "kept": _kept(found),
        "broken": _broken(found),
        "halts": _halts(found),
        "times": _times(found),
    }
    text = PAGE.read_text(encoding="utf-8")
    text = BLOCK.sub(lambda match: match[1] + blocks[match["name"]] + match[3], text)
    PAGE.write_text(text, encoding="utf-8")
    draw_course(DOCS / "pictures" / "promise-course.svg")
    draw_harm(DOCS / "pictures" / "promise-harm.svg")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _kept(found: Measured) -> str:
    head = ("case", "max_harmed", "silent rate", "worst share of runs over budget", "at harm rate", "harm rates")
    rows = [_row(worst) for worst in found.kept]
    said = f"Stated: at most {ALPHA:g}. {found.replicates:,} runs at each harm rate, {FLEET:,} devices, no halting.\n\n"
    return said + table(head, rows)


def _broken(found: Measured) -> str:
    rows = [_row(worst)[:5] for worst in found.broken]
    names = ("as shipped: restarts inherit the budget", "each restart a fresh budget")
    for name, (share, p) in reversed(list(zip(names, found.restarts, strict=True))):
        rows.append((name, "850", "0", f"{share:.4f}", f"{p:.2g}" if share else "any"))
    return table(("rule", "max_harmed", "silent rate", "worst share of runs over budget", "at harm rate"), rows)


def _row(worst: Worst) -> tuple[str, ...]:
    case = worst.case
    return (
        case.name,
        f"{case.max_harmed:,}",
        f"{case.q:g}",
        f"{worst.broken:.4f}",
        f"{worst.at:.2g}" if worst.broken else "any",
        str(worst.points),
    )


def _halts(found: Measured) -> str:
    rows = [(f"{q:g}", f"{calm:.4f}", f"{struck:.4f}") for q, calm, struck in found.false]
    said = f"Stated: at most {ALPHA:g}, looked at after every report.\n\n"
    return said + table(("silent rate", "good updates halted", "with an outage of half the fleet"), rows)


def _times(found: Measured) -> str:
    rows = [
        (f"{budget:,}", f"{q:g}", "not reached" if ratio is None else f"{ratio:.2f}", f"{share:.1%}")
        for budget, q, ratio, share in found.times
    ]
    return table(("max_harmed", "silent rate", "time to everyone, in T*", "runs that reach everyone"), rows)


def _course(p: float) -> Series:
    tables = {"fleet": {"devices": FLEET}, "defect": {"harm_rate": p}, "rollout": {"max_harmed": 850, "canary": 16}}
    series = load_policy("tidegate").run(scenario_of(tables), np.random.default_rng(1), 1).series
    if series is None:
        raise RuntimeError("counts keep the course of the first run")
    return series


def draw_course(path: Path) -> None:
    """Draw how far a good and two bad updates get."""
    drawn, axes = figure(9.0, 4.6)
    for p, colour, label, width in CURVES:
        series = _course(p)
        hours = series.t_s / 3600.0
        axes.step(hours, series.exposed, where="post", color=colour, linewidth=width, label=f"{label}: exposed")
        if series.window[-1] == 0:
            axes.plot(hours[-1], series.exposed[-1], marker="X", markersize=10, color=colour, zorder=5)
            axes.annotate("halted", (hours[-1], series.exposed[-1]), xytext=(8, -4), textcoords="offset points")
        if p:
            dashes = {"linestyle": "--", "linewidth": 1.6}
            axes.step(hours, series.harmed, where="post", color=colour, label=f"{label}: harmed", **dashes)
    _budget(axes, 850)
    axes.set_xlabel("hours since the start")
    axes.set_ylim(0, FLEET * 3)
    axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    save(drawn, path)


def draw_harm(path: Path) -> None:
    """Draw harmed devices against the harm rate, for the shipped and the naive rule."""
    rates = np.geomspace(1e-7, 1.0, 36)
    drawn, axes = figure(9.0, 4.6)
    for policy, colour, label in (("naive", "#9a9a9a", "each ring its own budget"), ("tidegate", EXPOSED, "Tidegate")):
        found = [_harmed(policy, float(p)) for p in rates]
        middle, least, most = (np.asarray(column) for column in zip(*found, strict=True))
        axes.plot(rates, middle, color=colour, linewidth=2.2, label=f"{label}: median and all of 500 runs")
        axes.fill_between(rates, least, most, color=colour, alpha=0.25, linewidth=0)
    axes.plot(rates, rates * FLEET, color=HARMED, linestyle=":", linewidth=1.2, label="everyone at once")
    _budget(axes, 850)
    axes.set_xscale("log")
    axes.set_xlabel("share of the fleet that the update harms")
    axes.set_ylim(0, FLEET * 3)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    save(drawn, path)


def _harmed(policy: str, p: float) -> tuple[float, int, int]:
    tables = {"fleet": {"devices": FLEET}, "defect": {"harm_rate": p}, "rollout": {"max_harmed": 850, "policy": policy}}
    harmed = load_policy(policy).run(scenario_of(tables), np.random.default_rng(2), 500).harmed
    return float(np.median(harmed)), int(harmed.min()), int(harmed.max())


def _budget(axes, value: int) -> None:
    axes.axhline(value, color=HARMED, linewidth=1.2)
    axes.annotate(
        f"max_harmed = {value:,}", (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom",
        color=HARMED, fontsize=9,
    )  # fmt: skip
    axes.set_yscale("symlog", linthresh=1)
    axes.yaxis.set_major_formatter(lambda number, _place: f"{number:,.0f}")
    axes.set_ylabel("devices")
