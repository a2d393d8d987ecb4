"""Other update servers beside Tidegate in one run: polls and reports by fleet size, one core each, the same client.

A peer that is not here and cannot be made is skipped with its reason. gooseBit is installed from PyPI; hawkBit and
Nebraska are built from clones of their public repositories, named `hawkbit` and `nebraska`, in the directory that
TIDEGATE_PEER_SOURCES names. What was made is kept in TIDEGATE_PEER_CACHE, by default `.peers` here.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench._scale_page import put, table
from bench.peers._drive import Rate, rate
from bench.peers._goosebit import GooseBit
from bench.peers._hawkbit import HawkBit
from bench.peers._nebraska import Nebraska
from bench.peers._port import CORE, Peer, Skip
from bench.peers._tidegate import Tidegate
from bench.rows import Row

SIZES, SIZES_FULL = (1_000,), (1_000, 10_000, 100_000)
POLLS, REPORTS, MOST_S = 20_000, 4_000, 10.0
PEERS: tuple[Callable[[Path, Path], Peer], ...] = (Tidegate, GooseBit, HawkBit, Nebraska)
STRIDE = 7919
"""A prime: devices poll in no order."""
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Found:
    """One peer with one fleet."""

    name: str
    devices: int
    polls: Rate
    reports: Rate


def rows(*, full: bool = False, write: bool = False) -> list[Row]:
    """Measure fleets of 1,000 devices, or (`full`, `write`) of 1,000, 10,000 and 100,000."""
    cache = Path(os.environ.get("TIDEGATE_PEER_CACHE", ROOT / ".peers")).absolute()
    cache.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)) - {CORE} or {CORE})
    found: list[Found] = []
    skipped: dict[str, str] = {}
    for make in PEERS:
        try:
            for one in _measure(make, cache, SIZES_FULL if full or write else SIZES):
                found.append(one)
        except Skip as reason:
            skipped[getattr(make, "name", make.__name__)] = str(reason)
            sys.stderr.write(f"skipped: {reason}\n")
    if write:
        put("peers", _table(found, skipped))
    return _rows(found)


def _measure(make: Callable[[Path, Path], Peer], cache: Path, sizes: Sequence[int]) -> Iterator[Found]:
    with tempfile.TemporaryDirectory(prefix="peer-") as place:
        peer = make(Path(place), cache)
        try:
            for devices in sizes:
                peer.stand(devices)
                yield _measured(peer, devices)
        finally:
            peer.end()


def _measured(peer: Peer, devices: int) -> Found:
    sys.stderr.write(f"{peer.name}, {devices:,} devices ...\n")
    polls = [peer.poll(n * STRIDE % devices) for n in range(min(POLLS, devices) if peer.once else POLLS)]
    polled = rate(peer.port, polls, peer.cpu_s, MOST_S)
    reports = [(one,) for one in peer.reports(0, min(REPORTS, devices))]
    before = peer.kept()
    reported = rate(peer.port, reports, peer.cpu_s, MOST_S)
    kept = peer.kept() - before
    if kept < len(reports) and not reported.cut:
        raise Skip(f"{peer.name} answered {len(reports)} reports and took up {kept}")
    return Found(peer.name, devices, polled, reported)


def _rows(found: list[Found]) -> list[Row]:
    own = {one.devices: one for one in found if one.name == Tidegate.name}
    rows: list[Row] = []
    for one in found:
        beside = own[one.devices]
        for what, value, reference in (
            ("polls", one.polls, beside.polls),
            ("reports", one.reports, beside.reports),
        ):
            failed = f", {value.failed} failed" if value.failed else ""
            rows.append(
                Row(f"{one.name}, {one.devices:,} devices: {what}{failed}", value.per_cpu_s, f"{what}/CPU s",
                    "Tidegate", reference.per_cpu_s)
            )  # fmt: skip
    return rows


def _table(found: list[Found], skipped: dict[str, str]) -> str:
    """Write what was found for docs/scale.md: rates of one core, each beside Tidegate's with the same fleet."""
    own = {one.devices: one for one in found if one.name == Tidegate.name}
    rows = [
        (
            one.name,
            f"{one.devices:,}",
            *_beside(one.polls, own[one.devices].polls),
            *_beside(one.reports, own[one.devices].reports),
        )
        for one in found
    ]
    columns = ("server", "devices", "polls/s of a core", "of Tidegate's", "reports/s of a core", "of Tidegate's")
    cores = os.cpu_count() or 1
    said = f"Measured on {time.strftime('%d %B %Y', time.gmtime())}, on a machine of {cores} cores with other work.\n\n"
    left_out = "".join(f"\n{name} was left out: {reason.splitlines()[0][:200]}\n" for name, reason in skipped.items())
    return said + table(columns, rows) + left_out


def _beside(value: Rate, reference: Rate) -> tuple[str, str]:
    failed = f" ({value.failed:,} failed)" if value.failed else ""
    return f"{_two(value.per_cpu_s)}{failed}", f"{value.per_cpu_s / reference.per_cpu_s:.2g}"


def _two(value: float) -> str:
    """Give two figures: more are not to be had."""
    return f"{float(f'{value:.2g}'):,.0f}"
