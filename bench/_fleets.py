"""Large logs for benchmarks, made in columns: a fleet enrolled, a rollout under way, leases and reports of everyone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.core.model import Budget, Candidate
from tidegate.core.rollout import RolloutSpec
from tidegate.core.roster import Roster
from tidegate.core.wire import plain
from tidegate.log.batch import Batch, unpack
from tidegate.log.events import Act
from tidegate.log.pack import MOST_EVENTS, pack, pack_columns

Ints = npt.NDArray[np.int64]
START_MS = 1_800_000_000_000
ROLLOUT, COMPONENT = "edr-rules-a1b2c3", "edr-rules"
SITES = 1000


def constant(count: int, value: int) -> Ints:
    return np.full(count, value, dtype=np.int64)


def enrolments(devices: int, seed: int = 1) -> Iterator[bytes]:
    """Records of a fleet's enrolment; each device has a site of 1,000 and a key of its own."""
    token = {"token_id": "t", "hash": "x", "labels": {}, "uses": devices, "expires_ms": START_MS}
    yield pack([Act(at_ms=START_MS, what="token_created", who="bench", why="", body=token)])
    texts: list[Any] = ["t", {"os": "linux"}, *({"site": f"s{n:03}"} for n in range(SITES))]
    random = np.random.default_rng(seed)
    for first in range(0, devices, MOST_EVENTS):
        count = min(MOST_EVENTS, devices - first)
        index = np.arange(first, first + count, dtype=np.int64)
        words = {name: random.integers(-(1 << 63), (1 << 63) - 1, count, dtype=np.int64)
                 for name in ("id0", "id1", "key0", "key1", "key2", "key3")}  # fmt: skip
        yield pack_columns(
            texts,
            enrolled={
                "at_ms": constant(count, START_MS),
                "index": index,
                "token_id": constant(count, 0),
                "facts": constant(count, 1),
                "labels": 2 + index % SITES,
                "has_key": constant(count, 1),
                **words,
            },
        )


def spec(devices: int) -> RolloutSpec:
    return RolloutSpec(
        rollout=ROLLOUT,
        component=COMPONENT,
        candidate=Candidate(f"releases/{COMPONENT}/1.json", hashlib.sha256(b"x").hexdigest(), 100, 1),
        replaces=("any", "absent"),
        order_salt="0123456789abcdef" * 2,
        arm_secret="5a" * 32,
        budget=Budget(max_harmed=devices),
        planned_rings=1,
        roster=Roster(np.arange(devices)),
        observe_s=3600,
        soak_s=60,
        lease_ttl_s=3600,
    )


def start(devices: int) -> bytes:
    """The record of a rollout's start."""
    body = {"rollout": ROLLOUT, "spec": plain(spec(devices))}
    return pack([Act(at_ms=START_MS, what="rollout_started", who="bench", why="", body=body)])


def leases(devices: int, ring: int, seed: int, *, per_ms: int = 15, treated: bool = False) -> Iterator[bytes]:
    """Records of one lease of each device, in an order of chance."""
    order = np.random.default_rng(seed).permutation(devices).astype(np.int64)
    texts: list[Any] = [ROLLOUT, None, *({"site": f"s{n:03}"} for n in range(SITES))]
    for first in range(0, devices, MOST_EVENTS):
        index = order[first : first + MOST_EVENTS]
        count = len(index)
        yield pack_columns(
            texts,
            leased={
                "at_ms": START_MS + ring * 10**7 + (first + np.arange(count, dtype=np.int64)) // per_ms,
                "position": index,
                "index": index,
                "ring": constant(count, ring),
                "arm": constant(count, 0 if treated else 1),
                "late": constant(count, 0),
                "plan_version": constant(count, ring),
                "attempt": constant(count, 1),
                "seq": constant(count, 2 * ring),
                "rollout": constant(count, 0),
                "installed": constant(count, 1),
                "labels": 2 + index % SITES,
            },
        )


def reports(devices: int, ring: int, seed: int, *, per_ms: int = 15) -> Iterator[bytes]:
    """Records of one report of each device, in an order of chance."""
    order = np.random.default_rng(seed).permutation(devices).astype(np.int64)
    yield from some_reports(order, ring, per_ms=per_ms)


def some_reports(order: Ints, ring: int, *, per_ms: int = 15) -> Iterator[bytes]:
    """Records of one report of each of these devices, in their order."""
    for first in range(0, len(order), MOST_EVENTS):
        index = order[first : first + MOST_EVENTS].astype(np.int64)
        count = len(index)
        yield pack_columns(
            [ROLLOUT, [], ""],
            reported={
                "at_ms": START_MS + ring * 10**7 + 10**6 + (first + np.arange(count, dtype=np.int64)) // per_ms,
                "position": index,
                "index": index,
                "ring": constant(count, ring),
                "outcome": constant(count, 0),
                "seq": constant(count, 2 * ring + 1),
                "boot_s": constant(count, 100) + index % 7,
                "condemned": constant(count, 0),
                "rollout": constant(count, 0),
                "probes": constant(count, 1),
                "note": constant(count, 2),
            },
        )


def numbered(records: Iterator[bytes], first: int = 1) -> Iterator[tuple[int, Batch]]:
    """Records as a log gives them."""
    for record in records:
        batch = unpack(record)
        yield first, batch
        first += batch.count
