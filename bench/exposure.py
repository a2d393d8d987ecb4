"""What falls with each vendor and each pair: as ratios to the bare sparse product on the same arrays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import sparse

from bench.rows import Row
from tidegate.exposure.estate import (
    AtLeast,
    Component,
    DeviceClass,
    Estate,
    Group,
    Kind,
    Named,
    Need,
    Privilege,
    Service,
)
from tidegate.exposure.kernel import Arrays, arrays_of

DEVICES, SERVICES, GROUPS, VENDORS, LEVELS = 100_000, 1_000, 1_000, 200, 18
LARGEST = 8_500_000
REPEATS = 7


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """The sweep and the pairs at 100,000 devices, and the sweep as the fleet grows to 8.5 million."""
    del full, write
    arrays = fleet(DEVICES)
    bare_s = _best(lambda: arrays.incidence @ arrays.hits)
    words = "the bare sparse product groups x devices x vendors"
    size = f"{SERVICES:,} services, {DEVICES:,} devices, {VENDORS} vendors"
    found = [
        Row(f"sweep of single vendors: {size}", _best(arrays.sweep), "s", words, bare_s),
        Row(
            f"all {VENDORS * (VENDORS - 1) // 2:,} pairs of vendors: {size}", _best(arrays.pairs, 3), "s", words, bare_s
        ),
    ]
    base_s = found[0].value / DEVICES
    for devices in (1_000_000, LARGEST):
        larger = fleet(devices)
        each_s = _best(larger.sweep, 3) / devices
        found.append(
            Row(f"sweep per device, {devices:,} devices", each_s, "s/device", f"per device at {DEVICES:,}", base_s)
        )
    return found


def _best(what: Callable[[], object], repeats: int = REPEATS) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        what()
        times.append(time.perf_counter() - began)
    return min(times)


def fleet(devices: int, seed: int = 7) -> Arrays:
    """Services in 18 levels over 1,000 groups; each device in one group, with one to three vendors, unevenly spread."""
    draw = np.random.default_rng(seed)
    arrays = arrays_of(_services(draw))
    carried = draw.integers(1, 4, devices)
    popular = 1.0 / np.arange(1, VENDORS + 1)
    vendors = draw.choice(VENDORS, size=carried.sum(), p=popular / popular.sum()).astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(carried)])
    hits = sparse.csr_array((np.ones(len(vendors), dtype=np.int32), vendors, starts), shape=(devices, VENDORS))
    hits.sum_duplicates()
    hits.data[:] = 1
    group = np.sort(draw.integers(0, GROUPS, devices)).astype(np.int32)
    index = np.concatenate([[0], np.cumsum(np.bincount(group, minlength=GROUPS))])
    places = np.arange(devices, dtype=np.int32)
    incidence = sparse.csr_array((np.ones(devices, dtype=np.int32), places, index), shape=(GROUPS, devices))
    alive = draw.uniform(0.3, 0.8, GROUPS)
    tolerates = np.floor(np.bincount(group, minlength=GROUPS) * (1 - alive)).astype(np.int32)
    return replace(arrays, incidence=incidence, hits=hits, tolerates=tolerates)


def _services(draw: np.random.Generator) -> Estate:
    names = [f"v{place}" for place in range(VENDORS)]
    components = {name: Component(name, name, Privilege.KERNEL) for name in names}
    groups = {f"g{place}": Group(f"g{place}", 1, (0,)) for place in range(GROUPS)}
    services: dict[str, Service] = {}
    below: list[str] = []
    for level in range(LEVELS):
        here = [f"s{level}.{place}" for place in range(SERVICES // LEVELS + (level < SERVICES % LEVELS))]
        for name in here:
            own: list[Need] = [Named(Kind.GROUP, f"g{draw.integers(GROUPS)}") for _ in range(3)]
            needs: list[Need] = [AtLeast(int(draw.integers(1, 4)), tuple(own))]
            needs += [Named(Kind.SERVICE, str(draw.choice(below))) for _ in range(2 if below else 0)]
            services[name] = Service(name, AtLeast(len(needs), tuple(needs)))
        below = here
    return Estate(dict.fromkeys(names), components, (DeviceClass("d", 1, ()),), groups, services)
