"""What a simulation gives: outcomes by replicate, one replicate's course over time, and the summary of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.core.errors import BadInput
from tidegate.core.looks import time_limit_rings
from tidegate.sim.scenario import Scenario

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Ending(IntEnum):
    """How a rollout ended: everyone exposed and observed, stopped by its evidence, or neither by the deadline."""

    COMPLETED = 0
    HALTED = 1
    HELD = 2


@dataclass(frozen=True, slots=True)
class Series:
    """One replicate over time, all of shape (points,); steps: a value holds from its t_s to the next.

    `window` is the number of devices that may be exposed; `harmed` those exposed that the candidate harms, whether
    it shows yet or not.
    """

    t_s: Floats
    exposed: Ints
    confirmed: Ints
    harmed: Ints
    window: Ints


@dataclass(frozen=True, slots=True)
class Runs:
    """Outcomes by replicate, arrays of shape (replicates,).

    Attributes:
        harmed: exposed devices that the candidate harms; background is not in it.
        verdict: values of `Ending`, int8.
        coverage_s: from the start to the last device confirmed; NaN if not completed.
        false_halt: halted although the candidate harms nobody in the fleet.
        series: the first replicate over time, where the fidelity keeps it.
    """

    harmed: Ints
    verdict: npt.NDArray[np.int8]
    coverage_s: Floats
    false_halt: Flags
    series: Series | None = None

    @property
    def replicates(self) -> int:
        """How many runs there are."""
        return len(self.harmed)


def joined(parts: Sequence[Runs]) -> Runs:
    """Put runs behind each other; the series is the first part's."""
    return Runs(
        harmed=np.concatenate([part.harmed for part in parts]),
        verdict=np.concatenate([part.verdict for part in parts]),
        coverage_s=np.concatenate([part.coverage_s for part in parts]),
        false_halt=np.concatenate([part.false_halt for part in parts]),
        series=parts[0].series,
    )


class Recorder:
    """Collects the points of a series as a policy goes along; times must not fall."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int, int, int, int]] = []

    def add(self, t_s: float, exposed: int, confirmed: int, harmed: int, window: int) -> None:
        """Keep one point."""
        self._points.append((float(t_s), int(exposed), int(confirmed), int(harmed), int(window)))

    def series(self) -> Series | None:
        """Give what was kept, or None if nothing was."""
        if not self._points:
            return None
        columns = list(zip(*sorted(self._points, key=lambda point: point[0]), strict=True))
        t_s, rest = np.asarray(columns[0], dtype=np.float64), [np.asarray(c, dtype=np.int64) for c in columns[1:]]
        return Series(t_s, rest[0], rest[1], rest[2], rest[3])


def time_limit_s(scenario: Scenario) -> float:
    """T*: the observation time times the rings that the exact rule needs with no background, canary included.

    Raises:
        BadInput: if that is more than ten million rings.
    """
    terms = scenario.rollout
    try:
        rings = time_limit_rings(scenario.fleet.devices, terms.max_harmed, terms.confidence, terms.canary)
    except ValueError as error:
        raise BadInput(f"rollout.max_harmed: {error}; raise it") from error
    return rings * terms.observe_s


def summarise(scenario: Scenario, runs: Runs, wall_s: float = 0.0) -> dict[str, Any]:
    """Sum runs up as `tidegate simulate --json` prints them.

    Args:
        scenario: what was played.
        runs: its outcomes; at least one replicate.
        wall_s: how long the simulation took.

    Returns:
        replicates, harmed {mean, p50, p99, max}, exceeded, verdicts {completed, halted, held}, coverage_s {p50, p99}
        (None if none completed), time_limit_s, time_ratio (median coverage to T*; None likewise), false_halts, wall_s.
    """
    harmed, done = runs.harmed, runs.coverage_s[runs.verdict == Ending.COMPLETED]
    limit_s = time_limit_s(scenario)
    middle = float(np.quantile(done, 0.5)) if len(done) else None
    return {
        "replicates": runs.replicates,
        "harmed": {
            "mean": float(harmed.mean()),
            "p50": float(np.quantile(harmed, 0.5)),
            "p99": float(np.quantile(harmed, 0.99)),
            "max": int(harmed.max()),
        },
        "exceeded": int(np.count_nonzero(harmed > scenario.rollout.max_harmed)),
        "verdicts": {one.name.lower(): int(np.count_nonzero(runs.verdict == one)) for one in Ending},
        "coverage_s": {
            "p50": middle,
            "p99": float(np.quantile(done, 0.99)) if len(done) else None,
        }
        if len(done)
        else None,
        "time_limit_s": limit_s,
        "time_ratio": None if middle is None else middle / limit_s,
        "false_halts": int(np.count_nonzero(runs.false_halt)),
        "wall_s": round(wall_s, 3),
    }
