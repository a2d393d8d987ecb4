"""The recovery schedule at 40,000 devices, 500 technicians, 200 sites, beside first come, first served."""

from __future__ import annotations

import time

import numpy as np

from bench.rows import Row
from tidegate.contingency.case import Batch, Case, Service, Technician
from tidegate.contingency.replan import as_it_stands
from tidegate.contingency.schedule import first_come, plan_recovery

FIRST_COME = "first come, first served, same run"


def large_case(devices: int = 40_000, technicians: int = 500, sites: int = 200, services: int = 300) -> Case:
    """Draw a case: sites on a map, four hours across; services from a few to thousands of devices, half with needs."""
    draw = np.random.default_rng(19)
    place = draw.random((sites, 2))
    travel_h = np.sqrt(((place[:, None] - place[None]) ** 2).sum(-1)) * 4
    names = tuple(f"site-{n}" for n in range(sites))
    people = tuple(
        Technician(f"t{n}", names[draw.integers(sites)], frozenset({"keys"} if draw.random() < 0.3 else ()))
        for n in range(technicians)
    )
    share = draw.pareto(1.2, services) + 0.3
    sizes = np.maximum(share / share.sum() * devices, 1).astype(int)
    sizes[sizes.argmax()] += devices - sizes.sum()
    found: dict[str, Service] = {}
    batches: list[Batch] = []
    for n, size in enumerate(sizes):
        below = tuple(dict.fromkeys(f"s{j}" for j in draw.integers(0, n, 2))) if n and draw.random() < 0.5 else ()
        needs = max(1, int(size * draw.choice([0.5, 0.8, 1.0])))
        found[f"s{n}"] = Service(f"s{n}", float(draw.integers(1, 100)), needs, below)
        parts = min(int(draw.integers(1, 130)), int(size))
        for count in draw.multinomial(size, np.ones(parts) / parts):
            minutes, skill = draw.choice([4, 5, 20]), frozenset({"keys"} if draw.random() < 0.1 else ())
            if count:
                batches.append(Batch(f"s{n}", names[draw.integers(sites)], float(minutes) / 60, int(count), skill))
    return Case(people, found, tuple(batches), names, travel_h, "large", tuple(found))


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Measure, in CPU time, as it all runs on one core; `full` and `write` change nothing here."""
    case = large_case()
    began = time.process_time()
    cost, makespan_h = first_come(case)
    first_s = time.process_time() - began
    began = time.process_time()
    made = plan_recovery(case)
    plan_s = time.process_time() - began
    began = time.process_time()
    again = plan_recovery(as_it_stands(made, at_h=6.0), bound=False)
    again_s = time.process_time() - began
    assert again.case.devices < case.devices
    size = f"{case.devices:,} devices"
    return [
        Row(f"recovery schedule, {size}: CPU time", plan_s, "s", FIRST_COME, first_s),
        Row("re-planned after 6 h: CPU time", again_s, "s", FIRST_COME, first_s),
        Row("cost of the schedule", made.cost, "value", FIRST_COME, cost),
        Row("last device repaired after", made.makespan_h, "h", FIRST_COME, makespan_h),
        Row("last device repaired after", made.makespan_h, "h", "lower bound", made.makespan_bound_h),
        Row("cost of the schedule", made.cost, "value", "lower bound", made.lower_bound),
    ]
