"""Logs that earlier versions wrote replay to what they meant then, in columns and one by one, and go on."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.snapshots import difference, snapshot

from tidegate.control.batch_fold import fold_batches
from tidegate.control.controller import Controller
from tidegate.control.ledger_events import entries_of
from tidegate.control.state import ServerState, fold
from tidegate.core.roster import Roster
from tidegate.log.batch import unpack
from tidegate.log.events import NEWEST_ACT, Act, ClosedRing, RingClosed, decode, encode, ring_closed
from tidegate.log.pack import pack
from tidegate.log.sqlite import SqliteLog

pytestmark = [pytest.mark.room("log"), pytest.mark.room("control")]
LOGS = sorted((Path(__file__).parents[1] / "golden").glob("log-*.json.gz"))


def read(path: Path) -> tuple[dict[str, Any], list[tuple[int, int, bytes]]]:
    whole = json.loads(gzip.decompress(path.read_bytes()))
    return whole["summary"], [(seq, count, base64.b64decode(body)) for seq, count, body in whole["records"]]


def summary_of(state: ServerState, events: int) -> dict[str, Any]:
    return {
        "events": events,
        "devices": [
            [row.device.device_id, dict(row.device.labels), row.last_seq, dict(row.installed)] for row in state.devices
        ],
        "rollouts": {
            name: {
                "phase": rollout.phase.value,
                "exposed": rollout.evidence.exposed,
                "confirmed": rollout.evidence.confirmed,
                "reverted": rollout.evidence.reverted,
                "rings": rollout.ring_open,
                "closed": len(rollout.closed),
                "late": sorted(rollout.overdue),
            }
            for name, rollout in state.rollouts.items()
        },
        "published": {component: found.version for component, found in state.published.items()},
    }


class NoRepository:
    """Nobody reads the plans of a log of long ago."""

    next_version = 10**6

    def publish(self, plans: Any, now: int) -> int:
        return self.next_version

    def refresh(self, now: int) -> int | None:
        return None

    def catch_up(self) -> None: ...


def test_there_are_logs_of_earlier_versions() -> None:
    assert len(LOGS) >= 3


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name.partition(".")[0])
def test_a_log_of_an_earlier_version_means_what_it_meant(path: Path) -> None:
    expected, records = read(path)
    batches = [(seq, unpack(body)) for seq, _, body in records]
    assert [(seq, batch.count) for seq, batch in batches] == [(seq, count) for seq, count, _ in records]
    events = [event for _, batch in batches for event in batch.events]
    kinds = {type(event).__name__ for event in events}
    assert {"Enrolled", "Leased", "Reported", "RingClosed", "VerdictTaken", "PlanPublished", "Act"} <= kinds
    one_by_one, whole = fold(events), fold_batches(batches)
    assert summary_of(one_by_one, len(events)) == expected
    assert not difference(snapshot(one_by_one), snapshot(whole))


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name.partition(".")[0])
def test_a_log_of_an_earlier_version_is_continued(path: Path, tmp_path: Path) -> None:
    expected, records = read(path)
    file = tmp_path / "log.db"
    SqliteLog(file).close()
    database = sqlite3.connect(file)
    rows = [(seq, count, unpack(body).last_ms, body) for seq, count, body in records]
    database.executemany("INSERT INTO record (seq, count, at_ms, body) VALUES (?, ?, ?, ?)", rows)
    database.commit()
    database.close()
    log = SqliteLog(file)
    controller = Controller(log, NoRepository())

    async def go_on() -> int:
        work = asyncio.create_task(controller.run())
        act = Act(at_ms=controller.now_ms(), what="noted", who="ada", why="a newer version goes on", body={})
        try:
            return await controller.ask(lambda state, now_ms: ([act], len(state.devices)))
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    assert asyncio.run(go_on()) == len(expected["devices"])
    assert log.last > expected["events"]
    log.close()
    again = SqliteLog(file)
    events = [event for _, event in again.read()]
    assert [event.why for event in events if isinstance(event, Act)][-1] == "a newer version goes on"
    again.close()


def test_an_event_of_a_later_version_is_refused_by_its_number() -> None:
    later = Act(at_ms=1, v=NEWEST_ACT + 1, what="noted", who="ada", why="", body={})
    with pytest.raises(msgspec.ValidationError, match=f"version is {NEWEST_ACT + 1}, and {NEWEST_ACT} is the newest"):
        decode(encode(later))
    ring = RingClosed(at_ms=1, v=3, rollout="r", closed=ClosedRing(1, 1, 0, 1, 0, Roster()), arm_salt="")
    with pytest.raises(msgspec.ValidationError, match="version is 3, and 2 is the newest"):
        decode(encode(ring))


@pytest.mark.parametrize("share", [1.0, 0.3], ids=["a whole fleet", "some"])
def test_who_is_late_takes_little_room_and_is_read_in_either_version(share: float) -> None:
    positions = np.flatnonzero(np.random.default_rng(1).random(100_000) < share)
    closed = ClosedRing(2, 5, 1, 20, 0, Roster(positions), 1, 0)
    made = ring_closed(7, "r", closed, "ab")
    whole = encode(made)
    assert made.v == 2 and len(whole) < (6_000 if share == 1.0 else 40_000)
    listed = json.loads(whole) | {"v": 1}
    listed["closed"]["late"] = positions.tolist()
    for event in (decode(whole), decode(json.dumps(listed).encode()), unpack(pack([made])).events[0]):
        assert isinstance(event, RingClosed)
        assert (event.closed, event.closed.late.array.dtype) == (closed, np.int32)


def test_a_ring_with_few_late_devices_is_written_as_it_was_in_version_1() -> None:
    few = ring_closed(7, "r", ClosedRing(2, 5, 1, 20, 0, Roster(range(3, 1003)), 1, 0), "ab")
    assert few.v == 1 and json.loads(encode(few))["closed"]["late"] == list(range(3, 1003))
    assert ring_closed(7, "r", ClosedRing(2, 5, 1, 20, 0, Roster(range(1001)), 1, 0), "ab").v == 2


@pytest.mark.parametrize("late", [{"devices": 2, "steps": "AAAA"}, {"steps": ""}, ["3"], [-1], "all"])
def test_who_is_late_is_refused_where_it_cannot_be_read(late: Any) -> None:
    event = json.loads(encode(ring_closed(7, "r", ClosedRing(2, 5, 1, 20, 0, Roster((1, 2)), 1, 0), "ab")))
    event["closed"]["late"] = late
    with pytest.raises(msgspec.ValidationError, match="who is late is no roster"):
        decode(json.dumps(event).encode())


LEDGERS = {
    "log-1": "d9053d9d72cbef6c8370f969a2c042c9d887283c895f866ffc9f01dbf5dcb85a",
    "log-2": "f071abef124d500322f03c357aec2b962138787a15f3a1aa2b2daedee15058c2",
    "log-3": "3e2e97ea87ac3f1c67e17958ba439f1402b7e7ba7b9c38bd7d9a8b03b18c047a",
}
"""SHA-256 over the entries, a line each, as the Tidegate of 26 November 2026 derived them."""


@pytest.mark.parametrize("name", LEDGERS)
def test_a_log_of_an_earlier_version_gives_the_ledger_that_was_signed_then(name: str) -> None:
    path = next(path for path in LOGS if path.name.startswith(name))
    assert hashlib.sha256(b"\n".join(ledger_of(path))).hexdigest() == LEDGERS[name]


def test_an_act_of_version_2_names_its_object_and_says_who_and_why() -> None:
    entries = [json.loads(entry) for entry in ledger_of(next(path for path in LOGS if path.name.startswith("log-4")))]
    acts = {entry["what"]: entry for entry in entries if entry["kind"] == "act"}
    created, aside = acts["operator_created"], acts["devices_quarantined"]
    assert (created["v"], created["name"], created["role"]) == (2, "bob", "approver")
    assert (created["who"], created["why"]) == ("ada", "night shift")
    assert (aside["group"], aside["devices"]) == ("site=ATL", 2)
    assert acts["device_secret_rotated"]["epoch"] == 2
    assert "hash" not in acts["token_created"], "what could be tried in vain stays out of the ledger"


def ledger_of(path: Path) -> list[bytes]:
    batches = ((seq, unpack(body)) for seq, _, body in read(path)[1])
    return entries_of((at, event) for seq, batch in batches for at, event in enumerate(batch.events, start=seq))
