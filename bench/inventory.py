"""The inventory: devices found by label, counted, labelled, exported; against a bare comparison of the same column."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.rows import Row
from tidegate.cli.label_file import read_rows
from tidegate.control.acts import Who
from tidegate.control.deciding import decide_all
from tidegate.control.fleet import Fleet
from tidegate.control.inventory import classes, write_parquet
from tidegate.control.joining import PART, join
from tidegate.control.labelling import Partial, fold_labels, labels_set, rows_of
from tidegate.control.ledger import Ledger
from tidegate.control.questions import Asked
from tidegate.control.state import ServerState
from tidegate.log.sqlite import SqliteLog
from tidegate.trust.note import NoteSigner

SITES, SYSTEMS = 2000, 4
ENTERED = 100_000
FLEET = 8_500_000


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Measure with 850,000 devices, or (`full`) 8.5 million, in 8,000 groups of labels."""
    del write
    count = FLEET if full else FLEET // 10
    fleet = _fleet(count)
    column = fleet.label_set[:count]
    bare_s = _best(lambda: np.flatnonzero(column == 5))
    one, many = {"site": "s0007"}, {"os": "os1"}
    for wanted in (one, many):
        fleet.labelled(wanted)
    found: list[tuple[str, float]] = [
        ("devices of one site of 2,000", _best(lambda: np.flatnonzero(fleet.labelled(one)))),
        ("devices of one of 4 systems", _best(lambda: np.flatnonzero(fleet.labelled(many)))),
        ("count by class, a page of 10,000", _best(lambda: classes(fleet, -1, 10_000), 2)),
    ]
    ids = fleet.ids[:count].copy()
    order = np.random.default_rng(2).permutation(count)
    sets: Any = [{"sector": f"sector-{n}"} for n in range(10)]
    found.append(("devices found by their ids, all", _best(lambda: rows_of(fleet, ids[order]), 1)))
    events, _ = labels_set(fleet, 1, Who("bench"), order.astype(np.int64), sets, order % 10, replace=False)
    found.append(("a label set on all of them", _best(lambda: [fold_labels(fleet, e.body) for e in events], 1)))  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "fleet.parquet"
        found.append(("export to Parquet", _best(lambda: write_parquet(fleet, {}, file), 1)))
        found.append(("reading that file, each row checked", _best(lambda: read_rows(file), 1)))
        entering_s = _entering(fleet, Path(place))
    return [
        *(Row(f"{name}, {count:,} devices", took_s * 1000, "CPU ms", "comparing one column", bare_s * 1000)
          for name, took_s in found),
        Row(f"a device entered by its key, among {count:,}", entering_s * 1e6, "CPU us", "its id's SHA-256",
            _best(lambda: [hashlib.sha256(ids[0]).digest() for _ in range(10_000)]) * 100),
    ]  # fmt: skip


def _entering(fleet: Fleet, place: Path) -> float:
    """Seconds for each of 100,000 devices, in parts: decided, folded, in the log, in the ledger."""
    log, state, drawn = SqliteLog(place / "log.db"), ServerState(), np.random.default_rng(3)
    ledger = Ledger(place / "ledger", place / "seen", NoteSigner("bench.example/l", Ed25519PrivateKey.generate()))
    assert not list(ledger.begin(log))
    state.devices = fleet
    sets: list[Partial] = [{"site": f"s{n:04}"} for n in range(SITES)]
    started = time.process_time()
    for part in range(ENTERED // PART):
        keys = drawn.integers(0, 256, (PART, 32), dtype=np.uint8)
        numbers = np.arange(PART) % SITES
        more: Any = {"token_id": "bench", "ids": drawn.bytes(16 * PART), "replace": False}
        asked = Asked(partial(_joined, keys, sets, numbers, more), cast("Any", None))
        events, answers = decide_all(state, [asked], part)
        assert answers[0][1] == (PART, 0)
        ledger.take(log, log.append(events), events)
        ledger.publish()
    took_s = time.process_time() - started
    log.close()
    return took_s / ENTERED


def _joined(keys: Any, sets: Any, numbers: Any, more: Any, state: ServerState, now_ms: int) -> Any:
    return join(state, now_ms, Who("bench", "measured"), keys, sets, numbers, **more)


def _best(work: Callable[[], object], times: int = 5) -> float:
    took: list[float] = []
    for _ in range(times):
        started = time.process_time()
        work()
        took.append(time.process_time() - started)
    return min(took)


def _fleet(count: int) -> Fleet:
    fleet = Fleet()
    ids = np.random.default_rng(1).integers(0, 256, (count, 16), dtype=np.uint8)
    nothing = np.zeros((count, 4), dtype=np.uint64)
    fleet.add_many(0, ids, nothing, np.zeros(count, dtype=np.bool_), np.full(count, 1_800_000_000_000))
    for number in range(SITES * SYSTEMS):
        fleet.labels.number({"site": f"s{number // SYSTEMS:04}", "os": f"os{number % SYSTEMS}"})
    for interned in (fleet.facts, fleet.tokens):
        interned.number("")
    fleet.label_set[:count] = np.arange(count) % (SITES * SYSTEMS)
    return fleet
