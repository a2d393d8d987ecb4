"""The port of policies: whatever decides who is exposed when, Tidegate or a peer, by counts, columns or messages."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Protocol, cast, runtime_checkable

import numpy as np

from tidegate.core.errors import BadInput
from tidegate.sim.outcome import Runs
from tidegate.sim.scenario import POLICIES, Scenario

FIDELITIES = ("auto", "counts", "columns", "messages")
OWN = ("tidegate", "certain", "naive")


@runtime_checkable
class Policy(Protocol):
    """A way to roll out. Objects without state: what a run gives depends on its arguments alone."""

    @property
    def name(self) -> str:
        """The name in `rollout.policy`."""
        ...

    def run(self, scenario: Scenario, rng: np.random.Generator, replicates: int) -> Runs:
        """Play a scenario so many times.

        Args:
            scenario: what to play; `scenario.replicates` and `scenario.seed` are the caller's business.
            rng: all randomness.
            replicates: how many independent runs, at least 1.

        Raises:
            BadInput: if the scenario asks for what this policy or fidelity cannot play, saying what can.
        """
        ...


def load_policy(name: str, fidelity: str = "counts") -> Policy:
    """Load a policy: from `counts`, `columns` or `messages` (their `POLICIES`), a peer from `peers.<name>` (`POLICY`).

    Raises:
        BadInput: for a name or fidelity that there is not.
    """
    if name not in POLICIES:
        raise BadInput(f"rollout.policy: must be one of {', '.join(POLICIES)}, not {name!r}")
    if fidelity not in FIDELITIES:
        raise BadInput(f"fidelity: must be one of {', '.join(FIDELITIES)}, not {fidelity!r}")
    level = "counts" if fidelity == "auto" else fidelity
    if name in OWN:
        known = importlib.import_module(f"tidegate.sim.{level}").POLICIES
        if name in known:
            return cast(Policy, known[name])
        raise BadInput(f"rollout.policy: {name} is not played in {level}; use --fidelity counts")
    module = f"tidegate.sim.peers.{name.replace('-', '_')}"
    if level != "counts":
        raise BadInput(f"rollout.policy: {name} is played by counts alone; use --fidelity counts")
    if importlib.util.find_spec("tidegate.sim.peers") is None or importlib.util.find_spec(module) is None:
        raise BadInput(f"rollout.policy: {name} is not built in here; use another policy")
    return cast(Policy, importlib.import_module(module).POLICY)
