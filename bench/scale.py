"""What a rollout to 100 million and 1 billion devices takes, from unit costs measured now: the tables of docs/scale.md.

The arithmetic is here, so that the page stays true: `dev.py bench scale --write` measures and writes both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench import _fleets as fleets
from bench import fold, intake, leases
from bench._scale_page import put, table
from bench.rows import Row
from tidegate.log.batch import unpack
from tidegate.log.pack import pack

SIZES = (8_500_000, 100_000_000, 1_000_000_000)
SMALL_BATCH, BATCH = 32, 256
"""Events in a record, under a low and a high load."""
PEAK_PER_S, BURST = 20_000, 2
"""Leases granted in a second at the peak, with as many reports; and how often the collectors are there."""
REPLICAS, YEARS = 3, 10
CORE_HOUR_EUR, STORED_GB_MONTH_EUR, TRAFFIC_GB_EUR = 0.04, 0.10, (0.01, 0.05)
"""Prices are assumptions; they differ by ten."""
PAYLOAD_MB, POLL_KB, POLLS_PER_DAY = 5, 0.5, 24
PARTITION_PER_S = 20_000
"""Events that one partition takes in a second: those of one allocator, which is what it is for."""


@dataclass(frozen=True, slots=True)
class Units:
    """What one thing costs: microseconds of one core, and bytes."""

    lease_us: float
    report_us: float
    echo_us: float
    decide_us: float
    fold_us: float
    poll_us: float
    nginx_us: float
    log_bytes: float
    log_small_bytes: float
    enrolment_bytes: float
    memory_bytes: float

    @property
    def device_us(self) -> float:
        """One device's lease and report in one process."""
        return self.lease_us + self.report_us

    @property
    def allocator_us(self) -> float:
        """What of that only the allocator can do: decide, and fold lease and report."""
        return self.decide_us + 2 * self.fold_us


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Measure the unit costs, and say what they make of 1 billion devices; with 1 million, or (`full`) 8.5 million."""
    units = _units(full=full)
    if write:
        put("units", _unit_table(units))
        put("rollout", _rollout_table(units))
    whole = SIZES[-1]
    return [
        Row("a device's lease and report", units.device_us, "us", "an HTTP echo, twice", 2 * units.echo_us),
        Row("of that what only the allocator can do", units.allocator_us, "us", "the whole", units.device_us),
        Row("1 billion devices: all leases", whole / _grants(units) / 3600, "h", "a day", 24),
        Row("1 billion devices: log of a rollout", whole * units.log_bytes / 1e9, "GB", "its enrolments",
            whole * units.enrolment_bytes / 1e9),
        Row("1 billion devices: memory of one controller", whole * units.memory_bytes / 1e9, "GB", "a server's 256 GB",
            256),
    ]  # fmt: skip


def _units(*, full: bool) -> Units:
    served = {row.name: row for row in intake.rows(full=full)}
    decided = leases.rows(full=full)[0]
    folded = min(row.value for row in fold.folding(1_000_000) if row.name.startswith("fold "))
    reports = served["durable reports"]
    polls = served.get("static polls")
    log_bytes, small = _log_bytes(BATCH), _log_bytes(SMALL_BATCH)
    return Units(
        lease_us=1e6 / served["durable leases"].value,
        report_us=1e6 / reports.value,
        echo_us=1e6 / reports.reference_value,
        decide_us=1e6 / decided.value,
        fold_us=1e6 / folded,
        poll_us=1e6 / polls.value if polls else 0.0,
        nginx_us=1e6 / polls.reference_value if polls else 0.0,
        log_bytes=log_bytes,
        log_small_bytes=small,
        enrolment_bytes=_bytes_each(fleets.enrolments(100_000)),
        memory_bytes=_memory_bytes(1_000_000),
    )


def _log_bytes(batch: int) -> float:
    """Give the bytes that a device's lease and its report take in the log, in records of so many events."""
    devices = 20_000
    both: Iterable[bytes] = (*fleets.leases(devices, 1, 1, treated=True), *fleets.reports(devices, 1, 2))
    events = [event for record in both for event in unpack(record).events]
    return sum(len(pack(events[at : at + batch])) for at in range(0, len(events), batch)) / devices


def _bytes_each(records: Iterable[bytes]) -> float:
    found = list(records)[1:]  # the first holds the token
    return sum(len(record) for record in found) / sum(unpack(record).count for record in found)


def _memory_bytes(devices: int) -> float:
    """Give what a device with its place in one rollout takes in columns, those in files included."""
    state: Any = fold._state(devices)
    for record in fleets.leases(devices, 1, 2, treated=True):
        fold.apply_batch(state, unpack(record))
    seen: set[int] = set()
    return _nbytes(state.devices, seen, 0) / devices + _nbytes(state.rollouts[fleets.ROLLOUT], seen, 0) / devices


def _nbytes(thing: Any, seen: set[int], depth: int) -> float:
    """Sum the arrays that an object of ours holds, each once."""
    if id(thing) in seen or depth > 6:
        return 0.0
    seen.add(id(thing))
    if isinstance(thing, np.ndarray):
        return 0.0 if thing.base is not None and id(thing.base) in seen else float(thing.nbytes)
    if isinstance(thing, (bytes, bytearray, memoryview)):
        return float(len(thing))
    if isinstance(thing, dict):
        return sum(_nbytes(value, seen, depth + 1) for value in thing.values())
    if not type(thing).__module__.startswith("tidegate"):
        return 0.0
    names = [*getattr(thing, "__dict__", {}), *getattr(type(thing), "__slots__", ())]
    return sum(_nbytes(getattr(thing, name, None), seen, depth + 1) for name in names)


def _grants(units: Units) -> float:
    """Leases that one allocator grants in a second, with a fifth of its core left."""
    return 0.8 * 1e6 / units.allocator_us


def _unit_table(units: Units) -> str:
    return table(
        ("what", "figure", "from"),
        [
            ("a lease, asked and answered, in the server", f"{units.lease_us:,.0f} µs of one core", "`bench intake`"),
            ("a report, likewise", f"{units.report_us:,.0f} µs", "the same"),
            ("an HTTP request of that size without any of our work", f"{units.echo_us:,.0f} µs", "a bare ASGI echo"),
            ("a lease decision alone, 1,000 groups capped", f"{units.decide_us:,.0f} µs", "`bench leases`"),
            ("folding a lease or a report out of a record, at most", f"{units.fold_us:.2f} µs", "`bench fold`"),
            ("a poll of the timestamp, by ourselves and by nginx", f"{units.poll_us:,.0f} and {units.nginx_us:,.0f} µs",
             "`bench intake`"),
            (f"a lease and a report in the log, in records of {BATCH} and of {SMALL_BATCH} events",
             f"{units.log_bytes:,.0f} and {units.log_small_bytes:,.0f} bytes", "packed here"),
            ("an enrolment in the log", f"{units.enrolment_bytes:,.0f} bytes", "packed here"),
            ("a device with its key and its place in one rollout, in columns", f"{units.memory_bytes:,.0f} bytes",
             "summed here; the columns seldom looked at lie in files"),
        ],
    )  # fmt: skip


def _rollout_table(units: Units) -> str:
    grants = min(_grants(units), float(PEAK_PER_S))
    collected_us = units.device_us - units.allocator_us

    def each(tell: Any) -> tuple[str, ...]:
        return tuple(tell(size) for size in SIZES)

    low, high = TRAFFIC_GB_EUR
    asked = PEAK_PER_S * BURST * collected_us / 1e6
    lines = [
        ("leases and reports", *each(lambda n: _count(2 * n))),
        (f"processor time, all of it ({units.device_us:,.0f} µs a device)",
         *each(lambda n: _hours(n, units.device_us))),
        (f"of that the allocator alone ({units.allocator_us:,.0f} µs)", *each(lambda n: _hours(n, units.allocator_us))),
        (f"of that what collectors can take ({collected_us:,.0f} µs)", *each(lambda n: _hours(n, collected_us))),
        (f"shortest time for all leases, one allocator at {_two(grants)}/s", *each(lambda n: _time(n / grants))),
        (f"collectors of one core, at {PEAK_PER_S:,} leases and reports a second, twice",
         *each(lambda n: f"{np.ceil(asked):.0f}" if n / PEAK_PER_S > 60 else "1")),
        ("allocators, and partitions of the log, for all leases within 4 hours",
         *each(lambda n: f"{max(1, np.ceil(n / grants / 14_400)):.0f}")),
        (f"log of the rollout ({units.log_bytes:,.0f} bytes a device)", *each(lambda n: _bytes(n * units.log_bytes))),
        ("enrolments in the log, once", *each(lambda n: _bytes(n * units.enrolment_bytes))),
        (f"columns of one controller ({units.memory_bytes:,.0f} bytes a device)",
         *each(lambda n: _bytes(n * units.memory_bytes))),
        ("folding the rollout's log on a start without a checkpoint",
         *each(lambda n: _hours(n, 2 * units.fold_us))),
        ("all enrolments through one order, each at the cost of a lease", *each(lambda n: _hours(n, units.lease_us))),
        (f"processor time, at {CORE_HOUR_EUR} € for a core's hour",
         *each(lambda n: _euros(n * units.device_us / 3.6e9 * CORE_HOUR_EUR))),
        (f"log on {REPLICAS} replicas for {YEARS} years, at {STORED_GB_MONTH_EUR:.2f} € for a GB and month",
         *each(lambda n: _euros(n * units.log_bytes / 1e9 * REPLICAS * YEARS * 12 * STORED_GB_MONTH_EUR))),
        (f"payload of {PAYLOAD_MB} MB over a CDN, at {low} to {high} € a GB",
         *each(lambda n: f"{_euros(n * PAYLOAD_MB / 1e3 * low)} to {_euros(n * PAYLOAD_MB / 1e3 * high)}")),
        (f"a month of polls, one an hour, {POLL_KB} kB each, at the same",
         *each(lambda n: f"{_euros(n * POLLS_PER_DAY * 30 * POLL_KB / 1e6 * low)} to"
                         f" {_euros(n * POLLS_PER_DAY * 30 * POLL_KB / 1e6 * high)}")),
        ("cores of nginx for those polls, two requests each",
         *each(lambda n: f"{max(1, np.ceil(2 * n / 3600 * units.nginx_us / 1e6)):.0f}")),
    ]  # fmt: skip
    return table(("", *(f"{_count(size)} devices" for size in SIZES)), lines)


def _count(number: float) -> str:
    """Give a number of devices or messages in words."""
    if number >= 1e9:
        return f"{number / 1e9:g} billion"
    return f"{number / 1e6:g} million"


def _hours(devices: int, each_us: float) -> str:
    return _time(devices * each_us / 1e6)


def _time(seconds: float) -> str:
    """Give a duration with two figures, in the largest unit that tells it."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{_two(seconds / size)} {unit}"
    return f"{_two(seconds)} s"


def _bytes(count: float) -> str:
    return f"{_two(count / 1e12)} TB" if count >= 1e12 else f"{_two(count / 1e9)} GB"


def _euros(amount: float) -> str:
    return f"{_two(amount)} €" if amount >= 1 else f"{amount:.2f} €"


def _two(value: float) -> str:
    """Give two figures: more are not known."""
    return f"{float(f'{value:.2g}'):,.10g}"
