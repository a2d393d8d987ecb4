"""What lying devices can do to a rollout: hide harm, and fake it. The figures of `docs/byzantine.md`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.promise import ALPHA, Case
from bench.rows import Row
from tidegate.sim.counts import Tidegate
from tidegate.sim.outcome import Ending, Runs
from tidegate.sim.port import load_policy
from tidegate.sim.scenario import Scenario, scenario_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "byzantine.md"
BLOCK = re.compile(r"(<!-- measured: (?P<name>[a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
BUDGET, FLEET, QUIET = 850, 8_500_000, 1e-4
HIDING = (0.0, 0.01, 0.05, 0.1, 0.2, 0.5, 0.9)
FAKING = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
RATES = tuple(float(p) for p in np.geomspace(1e-5, 1.0, 16))


@dataclass(frozen=True, slots=True)
class Hidden:
    """A share of liars who say "healthy" when harmed: the worst over all harm rates."""

    share: float
    over: float
    most: int

    @property
    def loosened(self) -> float:
        """What is left of the bound."""
        return loosened(self.share)


@dataclass(frozen=True, slots=True)
class Faked:
    """A share of liars who say "sick" when treated, under a good update."""

    share: float
    halted: float
    exposed: float


def loosened(share: float) -> float:
    """Bound all harm where a share hides it: the budget over what shows, and two standard deviations of what hides."""
    return (BUDGET + 2.0 * float(np.sqrt(share * BUDGET))) / (1.0 - share)


def world(lie: str, share: float, harm_rate: float, **rollout: Any) -> Scenario:
    """A fleet in which this share tells this lie."""
    tables: dict[str, Any] = {
        "fleet": {"devices": FLEET},
        "background": {"silent_rate": QUIET},
        "defect": {"harm_rate": harm_rate},
        "rollout": {"max_harmed": BUDGET, "confidence": 1.0 - ALPHA, "rollout_deadline_s": 21_600, **rollout},
    }
    if share:
        tables["fault"] = [{"kind": "byzantine", "lie": lie, "share": share}]
    return scenario_of(tables)


def hidden(share: float, replicates: int) -> Hidden:
    """Play liars who hide harm, without halting, at all harm rates and at those between the looks."""
    grid = {*RATES, *Case("hiding", BUDGET, QUIET).grid(0)}
    grid |= {min(1.0, p / (1.0 - share)) for p in grid}
    rule, over, most = Tidegate(halting=False), 0.0, 0
    for place, p in enumerate(sorted(grid)):
        runs = rule.run(world("healthy", share, p), np.random.default_rng(place), replicates)
        over = max(over, float(np.mean(runs.harmed > loosened(share))))
        most = max(most, int(np.quantile(runs.harmed, 1.0 - ALPHA)))
    return Hidden(share, over, most)


def faked(share: float, replicates: int) -> Faked:
    """Play liars who call a good update harmful."""
    runs: Runs = load_policy("tidegate").run(world("sick", share, 0.0), np.random.default_rng(5), replicates)
    series = runs.series
    exposed = float(series.exposed[-1]) if series is not None else float("nan")
    return Faked(share, float(np.mean(runs.verdict == Ending.HALTED)), exposed)


def rows(*, full: bool, write: bool) -> list[Row]:
    """Measure what liars can do.

    Args:
        full: with 4,000 runs at each point instead of 400.
        write: write what was measured into docs/byzantine.md.
    """
    replicates = 4000 if full else 400
    hiding = [hidden(share, replicates) for share in HIDING]
    faking = [faked(share, replicates) for share in FAKING]
    if write:
        _write(hiding, faking, replicates)
    found = [Row(f"over the loosened budget, {one.share:g} hide harm", one.over, "share of runs", "stated", ALPHA)
             for one in hiding]  # fmt: skip
    found += [
        Row(f"95 % of runs harm at most, {one.share:g} hide harm", one.most, "devices", "max_harmed", BUDGET)
        for one in hiding
    ]
    return found + [
        Row(f"good updates halted, {one.share:g} cry harm", one.halted, "share of runs", "all", 1.0) for one in faking
    ]


def _write(hiding: Sequence[Hidden], faking: Sequence[Faked], replicates: int) -> None:
    from bench.promise_page import table

    said = (
        f"{FLEET:,} devices, max_harmed {BUDGET}, silent rate {QUIET:g}, confidence {1 - ALPHA:g}, {replicates:,} runs"
    )
    hide = [(f"{one.share:.0%}", f"{one.loosened:,.0f}", f"{one.over:.4f}", f"{one.most:,}") for one in hiding]
    fake = [(f"{one.share:g}", f"{one.share * FLEET:,.0f}", f"{one.halted:.3f}") for one in faking]
    blocks = {
        "hiding": f"{said} at each harm rate, no halting.\n\n"
        + table(("share that hides", "the bound that is left", "runs above it", "95 % of runs harm at most"), hide),
        "faking": f"{said}, a good update.\n\n"
        + table(("share that cries harm", "such devices", "good updates halted"), fake),
    }
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(BLOCK.sub(lambda match: match[1] + blocks[match["name"]] + match[3], text), encoding="utf-8")
