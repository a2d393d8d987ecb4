"""Plays a scenario: picks policy and fidelity, splits the replicates into seeded chunks, and uses several processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np

from tidegate.core.errors import BadInput
from tidegate.sim.outcome import Runs, joined
from tidegate.sim.port import OWN, load_policy
from tidegate.sim.rule import know, looks_of, planned
from tidegate.sim.scenario import Scenario

CHUNK, LARGEST_CHUNK, CHUNKS = 50, 1000, 8
"""Replicates by counts that share a seed. It must not follow from the number of processes, so that a run replays."""
POOL_WORTH_S = 4.0
MOST_PROCESSES = 64


def simulate(
    scenario: Scenario, fidelity: str = "auto", processes: int = 0, told: Callable[[int], None] = lambda _runs: None
) -> tuple[Runs, float]:
    """Play all replicates of a scenario. The same scenario and fidelity give the same runs, whatever the processes.

    Args:
        scenario: with its seed and number of replicates.
        fidelity: auto (counts, unless a fault or a speed limit asks for messages), counts, columns or messages.
        processes: how many to use; 0 for as many as there are processors, once the first chunk shows it is worth it.
        told: hears how many runs are through, again and again.

    Returns:
        The runs, and how long they took in seconds.

    Raises:
        BadInput: if the policy cannot be played so.
    """
    if not 0 <= processes <= MOST_PROCESSES:
        raise BadInput(f"processes: must be 0 (as many as there are processors) to {MOST_PROCESSES}, not {processes}")
    started = time.perf_counter()
    if fidelity == "auto" and (scenario.speeds or any(fault.kind == "interference" for fault in scenario.faults)):
        fidelity = "messages"
    if scenario.speeds and fidelity != "messages":
        raise BadInput(f"speed: {fidelity} do not play a speed limit; use --fidelity messages")
    load_policy(scenario.rollout.policy, fidelity)
    jobs = _jobs(scenario, fidelity)
    if scenario.rollout.policy in OWN:
        looks_of(scenario)  # planned once; it is no measure of what a chunk costs
    before_s = time.process_time()
    done = [_play(jobs[0])]
    rest = jobs[1:]
    workers = min(processes or os.cpu_count() or 1, len(rest))
    worth = processes > 0 or (time.process_time() - before_s) * len(rest) > POOL_WORTH_S
    if workers > 1 and worth:
        with ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=know, initargs=planned(scenario)
        ) as pool:
            _collect(done, pool.map(_play, rest), told)
    else:
        _collect(done, map(_play, rest), told)
    return joined(done), time.perf_counter() - started


def _collect(done: list[Runs], coming: Iterable[Runs], told: Callable[[int], None]) -> None:
    count = sum(part.replicates for part in done)
    for part in coming:
        done.append(part)
        count += part.replicates
        told(count)


Job = tuple[Scenario, str, np.random.SeedSequence, int]


def _jobs(scenario: Scenario, fidelity: str) -> list[Job]:
    """Split into chunks with a seed each; one replicate a chunk where a fidelity plays them one by one."""
    size = max(CHUNK, min(LARGEST_CHUNK, scenario.replicates // CHUNKS))
    if fidelity in ("columns", "messages"):
        size = 1
    counts = [min(size, scenario.replicates - start) for start in range(0, scenario.replicates, size)]
    seeds = np.random.SeedSequence(scenario.seed).spawn(len(counts))
    # By messages a run has its seed from the scenario, so that each can be played again alone.
    step = 1 if fidelity == "messages" else 0
    own = [replace(scenario, seed=scenario.seed + step * place) for place in range(len(counts))]
    return [(one, fidelity, seed, count) for one, seed, count in zip(own, seeds, counts, strict=True)]


def _play(job: Job) -> Runs:
    scenario, fidelity, seed, count = job
    return load_policy(scenario.rollout.policy, fidelity).run(scenario, np.random.default_rng(seed), count)
