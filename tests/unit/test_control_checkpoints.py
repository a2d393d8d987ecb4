"""Checkpoints: a start with one gives what a start without gives; one that does not belong is passed over."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server import Plant
from tests.snapshots import difference, snapshot
from tests.unit.test_control_batch_fold import history

from tidegate.cli.ledger_home import open_ledger
from tidegate.control import checkpoints
from tidegate.control.checkpoints import Checkpoints
from tidegate.control.controller import Controller
from tidegate.control.graph import NoGraph, read_graph, write_graph
from tidegate.control.ledger import Ledger
from tidegate.control.state import ServerState, fold
from tidegate.log.events import Act, Event
from tidegate.log.port import LogError
from tidegate.log.sqlite import SqliteLog


class WithLedger(Plant):
    def ledger(self) -> Ledger | None:
        return open_ledger(self.home)


def filled(place: Path, events: list[Event], size: int = 97) -> SqliteLog:
    log = SqliteLog(place / "log.db")
    for at in range(0, len(events), size):
        log.append(events[at : at + size])
    return log


def test_a_state_is_read_again_to_the_last_bit(tmp_path: Path) -> None:
    state = fold(history(3))
    with (tmp_path / "x").open("wb") as file:
        write_graph(file, {"state": state, "odd": (1, {2.5, None}, deque([b"x"], 3), Counter("aab"), np.int64(3))})
    found = read_graph(tmp_path / "x")
    assert difference(snapshot(found["state"]), snapshot(state)) == ""
    assert found["odd"] == (1, {2.5, None}, deque([b"x"], 3), Counter("aab"), 3)
    assert found["odd"][2].maxlen == 3
    with pytest.raises(TypeError, match="cannot hold"), (tmp_path / "y").open("wb") as file:
        write_graph(file, Path())


@pytest.mark.parametrize("seed", [0, 1])
def test_a_start_from_a_checkpoint_is_a_start_from_the_first_event(tmp_path: Path, seed: int) -> None:
    events = history(seed)
    half = len(events) // 2 // 97 * 97
    log, kept = filled(tmp_path, events[:half]), Checkpoints(tmp_path / "kept")
    assert kept.save(log, fold(events[:half])), kept.trouble
    log.append(events[half:])
    found = kept.newest(log)
    assert found is not None
    assert found.seq == half
    for _, event in log.read(found.seq):
        found.state.apply(event)
    assert difference(snapshot(found.state), snapshot(fold(events))) == ""
    log.close()


def test_what_does_not_belong_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = history(2)
    log, kept = filled(tmp_path, events), Checkpoints(tmp_path / "kept")
    path = kept.save(log, fold(events))
    assert path is not None
    whole = path.read_bytes()
    assert kept.newest(log) is not None
    for damaged in (whole[:-1], whole[:100], b"", whole[:500] + b"\xff" + whole[501:], b"x" * 400):
        path.write_bytes(damaged)
        assert kept.newest(log) is None
        with pytest.raises(NoGraph):
            read_graph(path, mark=whole[36:68])
    path.write_bytes(whole)
    with pytest.raises(NoGraph, match="another's"):
        read_graph(path)
    (tmp_path / "other").mkdir()
    other = filled(tmp_path / "other", history(1)[: len(events)])
    assert kept.newest(other) is None, "it was made from another log"
    other.close()
    monkeypatch.setattr(checkpoints, "code_print", lambda: "another version")
    assert kept.newest(log) is None
    log.close()


def test_one_that_was_not_finished_leaves_nothing_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, kept = filled(tmp_path, history(1)), Checkpoints(tmp_path / "kept")
    first = kept.save(log, fold(event for _, event in log.read()))
    assert first is not None
    (first.parent / "00000000000000000001.tmp").write_bytes(b"of a process that was killed")

    def full(file: Any, *_: Any) -> None:
        file.write(b"x" * 10_000)
        file.flush()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "write_graph", full)
    assert kept.save(log, ServerState()) is None
    assert "no room left on the disk for a checkpoint" in kept.trouble
    assert list(first.parent.iterdir()) == [first]
    log.close()


def test_a_file_makes_no_object_that_is_not_ours(tmp_path: Path) -> None:
    for name in ("os:system", "tidegate.cli.main:os.system", "tidegate.control.graph:importlib.import_module"):
        evil = ServerState()
        path = tmp_path / "x"
        with path.open("wb") as file:
            write_graph(file, evil)
        import hashlib
        import struct

        import msgspec

        head = msgspec.msgpack.encode(["o", name, []])
        body = bytes(32) + struct.pack("<Q", len(head)) + head
        path.write_bytes(b"TGC2" + hashlib.blake2b(body, digest_size=32).digest() + body)
        with pytest.raises(NoGraph):
            read_graph(path)


async def note(controller: Controller, count: int) -> None:
    for at in range(count):
        event = Act(at_ms=controller.now_ms(), what="note", who="ada", why=str(at), body={})
        await controller.ask(lambda state, now_ms, event=event: ([event], None))


def test_a_server_that_stops_writes_one_and_the_next_goes_on_with_its_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.control.keeping.LEAST_TO_SAVE", 1)
    plant = WithLedger(tmp_path)
    kept = Checkpoints(plant.home.checkpoints)

    async def life(controller: Controller) -> None:
        work = asyncio.create_task(controller.run())
        await note(controller, 30)
        await asyncio.sleep(0.4)
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    sizes: list[int] = []
    for _ in range(3):
        ledger = plant.ledger()
        controller = Controller(plant.log, plant.publisher, plant.clock, ledger=ledger, checkpoints=kept)
        before: Any = snapshot(controller.state)
        assert difference(before, snapshot(fold(event for _, event in plant.log.read()))) == ""
        asyncio.run(life(controller))
        assert ledger is not None
        sizes.append(ledger.checkpoint.size)
    assert sizes == [30, 60, 90]
    found = kept.newest(plant.log)
    assert found is not None
    assert found.seq == plant.log.last
    plant.log.close()


@pytest.mark.parametrize("at", ["publication", "append"])
def test_a_server_that_stops_in_its_first_publication_keeps_what_its_cold_start_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """In an append it must not: nobody knows whether the log holds what the state holds."""
    monkeypatch.setattr("tidegate.control.keeping.LEAST_TO_SAVE", 1)
    plant = WithLedger(tmp_path)
    plant.log.append([Act(at_ms=at_ms, what="note", who="ada", why="", body={}) for at_ms in range(30)])
    kept, ledger = Checkpoints(plant.home.checkpoints), plant.ledger()
    controller = Controller(plant.log, plant.publisher, plant.clock, ledger=ledger, checkpoints=kept)
    begun, go_on = threading.Event(), threading.Event()
    place, name = {"publication": (ledger, "publish"), "append": (plant.log, "append")}[at]
    whole = getattr(place, name)

    def slowly(*given: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return whole(*given)

    monkeypatch.setattr(place, name, slowly)

    async def life() -> None:
        work = asyncio.create_task(controller.run())
        asked = asyncio.create_task(note(controller, 1)) if at == "append" else None
        assert await asyncio.to_thread(begun.wait, 60)
        work.cancel()
        await asyncio.wait([work])
        go_on.set()
        if asked is not None:
            with pytest.raises(LogError, match="the server is stopping"):
                await asked

    asyncio.run(life())
    found = kept.newest(plant.log)
    assert (found.seq if found else None) == (30 if at == "publication" else None)
    plant.log.close()
