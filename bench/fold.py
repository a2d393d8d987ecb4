"""What folding costs: reports a second, recovery from a log of two reports a device, memory, and the fleet's size."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench import _fleets as fleets
from bench.rows import Row
from tidegate.control.batch_fold import apply_batch, fold_batches
from tidegate.control.checkpoints import Checkpoints
from tidegate.control.state import ServerState
from tidegate.log.batch import unpack
from tidegate.log.sqlite import SqliteLog

SMALL, WHOLE = 1_000_000, 8_500_000


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Measure; `full` with 8.5 million devices, else with one million."""
    del write
    devices = WHOLE if full else SMALL
    found = [*folding(devices), *sizes(full=full)]
    with tempfile.TemporaryDirectory() as place:
        found += recovery(devices, Path(place))
    return found


def _state(devices: int) -> ServerState:
    state = fold_batches(fleets.numbered(itertools.chain(fleets.enrolments(devices), [fleets.start(devices)])))
    state.rollouts[fleets.ROLLOUT].open_ring(1, devices - 1, fleets.START_MS)
    return state


def folding(devices: int) -> list[Row]:
    """Fold a lease and a report of every device, out of records as they lie on disk."""
    state = _state(devices)
    found = []
    for kind, records in (
        ("leases", list(fleets.leases(devices, 1, 2, treated=True))),
        ("reports", list(fleets.reports(devices, 1, 3))),
    ):
        started = time.process_time()
        for record in records:
            apply_batch(state, unpack(record))
        took = time.process_time() - started
        copied = _copy_rate(records)
        found.append(
            Row(f"fold {kind}, {devices:,} devices", devices / took, f"{kind}/s", "unpacking them alone", copied)
        )
    assert state.rollouts[fleets.ROLLOUT].evidence.confirmed == devices
    held = state.devices
    size = sum(
        getattr(held, name)[: len(held)].nbytes
        for name in ("ids", "keys", "label_set", "fact_set", "token_set", "enrolled_ms", "last_seq", "last_heard_s")
    )
    size += sum(column[: len(held)].nbytes for column in held.installed.values())
    found.append(Row(f"columns of {devices:,} devices", size / devices, "bytes/device", "a credential's 16 bytes", 16))
    return found


def _copy_rate(records: list[bytes]) -> float:
    started = time.process_time()
    count = sum(unpack(record).count for record in records)
    return count / (time.process_time() - started)


def sizes(*, full: bool) -> list[Row]:
    """The cost of one report against the size of the fleet, in the same batches of 512 reports."""
    found = []
    base = 0.0
    for devices in (10_000, 1_000_000, *((WHOLE,) if full else ())):
        state = _state(devices)
        random = np.random.default_rng(1)
        chosen = random.permutation(devices)[:10_000]
        # The same 10,000 devices' worth of work, spread over the whole fleet's arrays.
        for record in fleets.leases(devices, 1, 2, treated=True):
            apply_batch(state, unpack(record))
        records = [unpack(record) for record in fleets.some_reports(chosen, 1)]
        started = time.process_time()
        for record in records:
            apply_batch(state, record)
        took = (time.process_time() - started) / len(chosen) * 1e6
        base = base or took
        found.append(Row(f"one report, {devices:,} devices", took, "us", "the same with 10,000 devices", base))
    return found


def recovery(devices: int, place: Path) -> list[Row]:
    """Start anew on a log with two leases and reports of every device, in a process of its own: time, peak memory."""
    log = SqliteLog(place / "log.db")
    records: Iterator[bytes] = itertools.chain(
        fleets.enrolments(devices),
        [fleets.start(devices)],
        *(
            step
            for ring in (1, 2)
            for step in (fleets.leases(devices, ring, ring), fleets.reports(devices, ring, ring + 9))
        ),
    )
    for some in _batched(records, 64):
        log.append_records(some)
    size = (place / "log.db").stat().st_size
    started = time.perf_counter()
    with (place / "log.db").open("rb") as file:
        while file.read(1 << 20):
            pass
    read_s = time.perf_counter() - started
    whole_s, whole_mb = _start(place)
    kept = Checkpoints(place / "kept")
    assert kept.save(log, fold_batches(log.read_batches())), kept.trouble
    log.close()
    quick_s, quick_mb = _start(place)
    name = f"{2 * devices:,} reports"
    return [
        Row(f"recovery from the whole log, {name}", whole_s, "s", f"reading its {size / 1e6:.0f} MB", read_s),
        Row(f"recovery from a checkpoint, {name}", quick_s, "s", "recovery from the whole log", whole_s),
        Row("peak memory of the whole recovery", whole_mb, "MB", "500 MB", 500),
        Row("peak memory of the recovery from a checkpoint", quick_mb, "MB", "500 MB", 500),
    ]


def _batched(records: Iterator[bytes], size: int) -> Iterator[tuple[bytes, ...]]:
    while some := tuple(itertools.islice(records, size)):
        yield some


def _start(place: Path) -> tuple[float, float]:
    code = "import sys, bench.fold; bench.fold.start_process(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True)
    seconds, megabytes = done.stdout.split()
    return float(seconds), float(megabytes)


def start_process(place: str) -> None:
    """What a server does before it answers; prints seconds and peak memory in MB."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    started = time.perf_counter()
    log = SqliteLog(Path(place) / "log.db")
    found = Checkpoints(Path(place) / "kept").newest(log)
    state = fold_batches(log.read_batches(found.seq if found else 0), found.state if found else None)
    took = time.perf_counter() - started
    assert len(state.devices) * 4 <= log.last
    status = Path("/proc/self/status").read_text()  # getrusage would carry the parent's peak over
    print(took, int(status.partition("VmHWM:")[2].split()[0]) / 1024)
