"""The optimum of a small recovery case, proven by OR-tools' CP-SAT: another model, another solver."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from tidegate.contingency.case import Batch, Case, Service, Technician

MINUTES = 60


def optimum(case: Case, limit_s: float = 30.0) -> float | None:
    """Give the least cost there is, or None where it could not be proven in time."""
    from ortools.sat.python import cp_model

    model: Any = cp_model.CpModel()
    jobs = [batch for batch in case.batches for _ in range(batch.count)]
    at = {site: i for i, site in enumerate(case.sites)}
    longest = max(float(case.travel_h.max()), 0.1)
    latest = max([b.release_h for b in jobs] + [t.arrives_h for t in case.technicians])
    horizon = round((sum(b.hours for b in jobs) + len(jobs) * longest + latest) * MINUTES) + 10
    start = [model.new_int_var(round(b.release_h * MINUTES), horizon, "") for b in jobs]
    end = [start[j] + round(b.hours * MINUTES) for j, b in enumerate(jobs)]
    taken: dict[int, list[Any]] = {j: [] for j in range(len(jobs))}
    for technician in case.technicians:
        arcs: list[Any] = [(0, 0, model.new_bool_var(""))]
        for j, job in enumerate(jobs):
            mine, first, last = (model.new_bool_var("") for _ in range(3))
            taken[j].append(mine)
            arcs += [(j + 1, j + 1, ~mine), (0, j + 1, first), (j + 1, 0, last)]
            if not job.skills <= technician.skills:
                model.add(mine == 0)
            ready = technician.arrives_h + float(case.travel_h[at[technician.site], at[job.site]])
            model.add(start[j] >= round(ready * MINUTES)).only_enforce_if(first)
            for k, after in enumerate(jobs):
                if k != j:
                    follows = model.new_bool_var("")
                    arcs.append((j + 1, k + 1, follows))
                    way = round(float(case.travel_h[at[job.site], at[after.site]]) * MINUTES)
                    model.add(start[k] >= end[j] + way).only_enforce_if(follows)
        model.add_circuit(arcs)
    for j in range(len(jobs)):
        model.add_exactly_one(taken[j])
    back: dict[str, Any] = {}
    for name in case.order:
        service = case.services[name]
        back[name] = model.new_int_var(0, horizon, name)
        counted: list[Any] = []
        for j, job in enumerate(jobs):
            if job.service == name:
                counted.append(model.new_bool_var(""))
                model.add(back[name] >= end[j]).only_enforce_if(counted[-1])
        model.add(sum(counted) >= service.needs)
        for below in service.depends_on:
            model.add(back[name] >= back[below])
    model.minimize(sum(int(case.services[name].value_per_h) * hours for name, hours in back.items()))
    solver: Any = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit_s
    solver.parameters.num_workers = 1
    return solver.objective_value / MINUTES if solver.solve(model) == cp_model.OPTIMAL else None


def small_case(seed: int) -> Case:
    """Draw a small case: up to 3 sites, 3 technicians, 4 services, 9 devices; skills, dependencies, release dates."""
    random = Random(seed)
    sites = ("HQ", "ATL", "BOS")[: random.randint(1, 3)]
    travel = np.zeros((len(sites), len(sites)))
    for i in range(len(sites)):
        for j in range(len(sites)):
            if i != j:  # neither symmetric nor a metric
                travel[i, j] = random.randint(10, 90) / 60
    technicians = tuple(
        Technician(
            f"t{n}",
            random.choice(sites),
            frozenset({"keys"}) if n == 0 or random.random() < 0.5 else frozenset(),
            random.choice([0, 0, 1]),
        )
        for n in range(random.randint(1, 3))
    )
    services: dict[str, Service] = {}
    batches: list[Batch] = []
    for n in range(random.randint(2, 4)):
        devices = random.randint(1, 2)
        name = f"s{n}"
        below = tuple(f"s{j}" for j in range(n) if random.random() < 0.3)
        services[name] = Service(name, random.randint(1, 20), random.randint(1, devices), below)
        for _ in range(devices):
            skills = frozenset({"keys"}) if random.random() < 0.3 else frozenset[str]()
            hours = random.randint(1, 12) / 6
            batches.append(Batch(name, random.choice(sites), hours, 1, skills, random.choice([0, 0, 0, 1])))
    return Case(technicians, services, tuple(batches), sites, travel, f"small-{seed}", tuple(services))
