"""Exact draws that every fidelity and policy shares: who the candidate harms, who is late, who is in a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tidegate.sim.outcome import Ints
from tidegate.sim.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Population:
    """The fleet by kind, each of shape (replicates,) where it is random.

    Attributes:
        present: devices that are there when their turn comes.
        late: devices that are not.
        harmed_present: of the present, how many the candidate harms.
        harmed_late: of the late.
    """

    present: int
    late: int
    harmed_present: Ints
    harmed_late: Ints

    @property
    def harmed(self) -> Ints:
        """All that the candidate harms if everyone gets it, shape (replicates,)."""
        return self.harmed_present + self.harmed_late


def draw_population(rng: np.random.Generator, scenario: Scenario, replicates: int) -> Population:
    """Draw the fleet: the harmed share is exact, but for the rounding, which is random."""
    devices, late = scenario.fleet.devices, late_devices(scenario)
    harmed = share_of(rng, devices, scenario.defect.harm_rate, replicates)
    harmed_late = hypergeometric(rng, harmed, devices - harmed, late)
    harmed_present = harmed - harmed_late
    if scenario.late is not None and scenario.late.harm_rate > 0:
        unharmed = late - harmed_late
        exact = unharmed * scenario.late.harm_rate
        harmed_late = harmed_late + np.minimum(_rounded(rng, exact), unharmed)
    return Population(devices - late, late, harmed_present, harmed_late)


def late_devices(scenario: Scenario) -> int:
    """How many devices `[late]` takes away."""
    return 0 if scenario.late is None else round(scenario.fleet.devices * scenario.late.share)


def share_of(rng: np.random.Generator, devices: int, share: float, replicates: int) -> Ints:
    """Give `share` of `devices`, rounded up or down at random so that the mean is right. Shape (replicates,)."""
    return np.minimum(_rounded(rng, np.full(replicates, devices * share)), devices)


def hypergeometric(rng: np.random.Generator, good: Ints | int, bad: Ints | int, drawn: Ints | int) -> Ints:
    """Count the good among `drawn` of good + bad. Broadcastable, exact, each kind up to a billion.

    NumPy takes fewer than 10**9 of a kind; a batch of one kind alone needs no draw.
    """
    g, b, n = np.broadcast_arrays(*(np.asarray(value, dtype=np.int64) for value in (good, bad, drawn)))
    mixed = (g > 0) & (b > 0) & (n > 0) & (n < g + b)
    found = np.where(n >= g + b, g, np.where(b == 0, n, 0))
    if np.any(mixed):
        found[mixed] = rng.hypergeometric(g[mixed], b[mixed], n[mixed])
    return found


def _rounded(rng: np.random.Generator, exact: np.ndarray) -> Ints:
    whole = np.floor(exact + 1e-9)
    return (whole + (rng.random(exact.shape) < exact - whole)).astype(np.int64)
