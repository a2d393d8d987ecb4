"""What folding costs: reports a second, recovery from a log of two reports a device, memory, and the fleet's size.

Recovery is of the state and the ledger, without HTTP, in a process of its own on one core.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench import _fleets as fleets
from bench.rows import Row
from tidegate.control.batch_fold import apply_batch, fold_batches
from tidegate.control.checkpoints import Checkpoints
from tidegate.control.deciding import decide_all
from tidegate.control.devices import Claim, Report, lease_id, report
from tidegate.control.ledger import Ledger
from tidegate.control.questions import Asked
from tidegate.control.state import ServerState
from tidegate.log.batch import unpack
from tidegate.log.events import Event
from tidegate.log.sqlite import SqliteLog
from tidegate.trust.note import NoteSigner

SMALLEST, SMALL, WHOLE = 10_000, 1_000_000, 8_500_000
BATCH = 256


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


class _Reporters:
    """A fleet whose devices all hold a lease, and who report in an order of chance, in batches of the server's size."""

    def __init__(self, devices: int) -> None:
        self.state, self.took_s = _state(devices), list[float]()
        for record in fleets.leases(devices, 1, 2, treated=True):
            apply_batch(self.state, unpack(record))
        self._order = np.random.default_rng(1).permutation(devices).tolist()
        self._now_ms = self.state.last_ms + 1000

    def batch(self) -> None:
        some, self._order = self._order[:BATCH], self._order[BATCH:]
        asked = [Asked(self._report(index), cast("Any", None), frozenset({index})) for index in some]
        started = time.process_time()
        events, answers = decide_all(self.state, asked, self._now_ms)
        self.took_s.append((time.process_time() - started) / BATCH)
        assert len(events) == len(answers) == BATCH

    def _report(self, index: int) -> Callable[[ServerState, int], tuple[list[Event], Any]]:
        claim = Claim(index, self.state.devices.device_id(index), 10)
        said = (Report(lease_id(fleets.ROLLOUT, 1, index), "confirmed", 10),)
        return lambda state, now_ms: report(state, now_ms, claim, said)


def sizes(*, full: bool) -> list[Row]:
    """The cost of one report, decided and folded, against the fleet's size; the sizes take turns, batch by batch."""
    known = {devices: _Reporters(devices) for devices in (SMALLEST, SMALL, *((WHOLE,) if full else ()))}
    for _ in range(SMALLEST // BATCH):
        for reporters in known.values():
            reporters.batch()
    base = statistics.median(known[SMALLEST].took_s) * 1e6
    name = "decide and fold one report, {:,} devices"
    return [
        Row(name.format(size), statistics.median(one.took_s) * 1e6, "us", f"with {SMALLEST:,} devices, in turns", base)
        for size, one in known.items()
    ]


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
    _sign_ledger(place, log)
    whole = _start(place)
    kept = Checkpoints(place / "kept")
    state = fold_batches(log.read_batches(), ServerState(kept.room()))
    state.devices.prepare()
    assert kept.save(log, state), kept.trouble
    log.close()
    quick = _start(place)
    name, whole_s = f"{2 * devices:,} reports", whole["seconds"]
    found = [
        Row(f"recovery from the whole log, {name}", whole_s, "s", f"reading its {size / 1e6:.0f} MB", read_s),
        Row(f"the same, processor time, {name}", whole["cpu_s"], "s", "15 s", 15),
        Row(
            f"recovery from a checkpoint, {name}",
            quick["seconds"],
            "s",
            "recovery from the whole log",
            whole["seconds"],
        ),
    ]
    for how, said in (("whole log", whole), ("checkpoint", quick)):
        found += [
            Row(f"recovery from the {how}: peak memory", said["peak_mb"], "MB", "500 MB", 500),
            Row(f"recovery from the {how}: of that its own, at the end", said["own_mb"], "MB", "500 MB", 500),
            Row(f"recovery from the {how}: of that files, at the end", said["files_mb"], "MB", "500 MB", 500),
        ]
    return found


def _batched(records: Iterator[bytes], size: int) -> Iterator[tuple[bytes, ...]]:
    while some := tuple(itertools.islice(records, size)):
        yield some


def _ledger(place: Path) -> Ledger:
    key = place / "key"
    if not key.exists():
        key.write_bytes(os.urandom(32))
    signer = NoteSigner("bench.example/ledger", Ed25519PrivateKey.from_private_bytes(key.read_bytes()))
    return Ledger(place / "ledger", place / "ledger.checkpoint", signer)


def _sign_ledger(place: Path, log: SqliteLog) -> None:
    """What a server that has lived through this log has beside it."""
    ledger = _ledger(place)
    for _ in ledger.begin(log):
        pass
    ledger.publish()
    assert not ledger.trouble, ledger.trouble


def _start(place: Path) -> dict[str, float]:
    code = "import sys, bench.fold; bench.fold.start_process(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def start_process(place: str) -> None:
    """What a server does before it answers; prints seconds and memory in MB."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    started, busy = time.perf_counter(), time.process_time()
    log = SqliteLog(Path(place) / "log.db")
    kept = Checkpoints(Path(place) / "kept")
    found = kept.newest(log)
    batches = _ledger(Path(place)).begin(log, found.seq if found else 0)
    state = fold_batches(batches, found.state if found else ServerState(kept.room()))
    state.devices.prepare()
    took, cpu_s = time.perf_counter() - started, time.process_time() - busy
    assert len(state.devices) * 4 <= log.last
    status = Path("/proc/self/status").read_text()  # getrusage would carry the parent's peak over
    sizes = {name: int(status.partition(f"{key}:")[2].split()[0]) / 1024
             for name, key in (("peak_mb", "VmHWM"), ("own_mb", "RssAnon"), ("files_mb", "RssFile"))}  # fmt: skip
    print(json.dumps({"seconds": took, "cpu_s": cpu_s, **sizes}))
