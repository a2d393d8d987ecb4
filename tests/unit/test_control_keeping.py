"""Checkpoints that a child writes while the controller goes on: of one moment, whole or not at all, in nobody's way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from bench import _fleets as fleets
from tests.server import Plant
from tests.snapshots import difference, snapshot
from tests.unit.test_control_checkpoints import note

from tidegate.control import checkpoints, scratch
from tidegate.control.batch_fold import fold_batches
from tidegate.control.beside import Child, can_fork
from tidegate.control.checkpoints import Checkpoints
from tidegate.control.controller import Controller
from tidegate.control.keeping import Keeping
from tidegate.control.state import ServerState
from tidegate.log.sqlite import SqliteLog

pytestmark = pytest.mark.skipif(not can_fork(), reason="needs fork and prctl")
LONG_S = 60.0


async def until(happened: Callable[[], Any]) -> None:
    for _ in range(int(LONG_S / 0.01)):
        if happened():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it has not happened")


class Desk:
    """A log of a fleet with leases, its state with columns in files, and who keeps it."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scratch, "LEAST_BYTES", 64)
        self.log = SqliteLog(place / "log.db")
        self.log.append_records([*fleets.enrolments(2000), fleets.start(2000), *fleets.leases(2000, 1, 2)])
        self.kept = Checkpoints(place / "kept", every=100)
        self.keeping = Keeping(self.log, self.kept)
        self.state = fold_batches(self.log.read_batches(), self.keeping.empty())

    async def look(self) -> None:
        await self.keeping.look(self.state)

    def child(self) -> Child:
        found = self.keeping._child  # pyright: ignore[reportPrivateUsage]
        assert found is not None
        return found

    async def heard(self) -> None:
        child = self.child()
        await until(lambda: child.ended)
        await self.look()

    def files(self) -> list[str]:
        return sorted(path.suffix for path in self.kept.directory.iterdir())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made = Desk(tmp_path, monkeypatch)
    yield made
    made.keeping.stop()
    made.log.close()


def run(work: Awaitable[None]) -> None:
    async def whole() -> None:
        await work

    asyncio.run(whole())


def test_a_child_writes_the_state_of_one_moment_while_it_changes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = checkpoints.write_graph

    def slowly(*given: Any) -> None:
        time.sleep(0.3)  # what the parent writes meanwhile is there before the child looks
        whole(*given)

    monkeypatch.setattr(checkpoints, "write_graph", slowly)

    async def work() -> None:
        then, before, fleet = desk.log.last, snapshot(desk.state), desk.state.devices
        for one in (fleet, fleet._by_key):  # room for one more in the files that the child sees  # pyright: ignore[reportPrivateUsage]
            one._reach(2001)  # pyright: ignore[reportPrivateUsage]
        await desk.look()
        more = [*fleets.reports(2000, 1, 3)]
        desk.log.append_records(more)
        fold_batches(desk.log.read_batches(then), desk.state)
        for column in (fleet.ids, fleet.enrolled_ms):  # a device whose enrolment never becomes durable
            column[len(fleet)] = 77
        fleet._by_key.add("ab" * 32, len(fleet))  # pyright: ignore[reportPrivateUsage]
        await desk.heard()
        found = desk.kept.newest(desk.log)
        assert found is not None
        assert found.seq == then
        assert difference(snapshot(found.state), before) == ""
        assert found.state.devices.by_public_key("ab" * 32) is None
        assert not found.state.devices.ids[2000:].any()
        after = fold_batches(desk.log.read_batches(found.seq), found.state)
        assert difference(snapshot(after), snapshot(desk.state)) == ""
        assert desk.files() == [".checkpoint"]

    run(work())


def test_a_child_that_is_killed_changes_nothing_and_the_next_one_writes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = checkpoints.write_graph

    def stuck(file: Any, *_: Any) -> None:
        file.write(b"half of it")
        file.flush()
        time.sleep(1000)

    async def work() -> None:
        monkeypatch.setattr(checkpoints, "write_graph", stuck)
        before = snapshot(desk.state)
        await desk.look()
        child = desk.child()
        await until(lambda: desk.files() == [".tmp"])
        await desk.look()
        assert desk.child() is child, "it is let alone while it works"
        os.kill(child._pid, signal.SIGKILL)  # pyright: ignore[reportPrivateUsage]
        await desk.heard()
        assert desk.kept.newest(desk.log) is None
        assert difference(snapshot(desk.state), before) == ""
        await desk.look()
        assert desk.keeping._child is None, "it waits for more events first"  # pyright: ignore[reportPrivateUsage]
        monkeypatch.setattr(checkpoints, "write_graph", whole)
        desk.log.append_records(list(fleets.reports(2000, 1, 3)))
        desk.state = fold_batches(desk.log.read_batches())
        await desk.look()
        await desk.heard()
        assert desk.files() == [".checkpoint"]
        found = desk.kept.newest(desk.log)
        assert found is not None
        assert difference(snapshot(found.state), snapshot(desk.state)) == ""

    run(work())


def test_a_child_that_fails_or_takes_too_long_says_so_and_leaves_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    async def fails() -> None:
        monkeypatch.setattr(checkpoints, "write_graph", full)
        await desk.look()
        child = desk.child()
        await until(lambda: child.ended)
        assert "no room left on the disk for a checkpoint" in child.end()
        assert desk.files() == []

    run(fails())
    slow = Child(lambda: time.sleep(1000), 7)
    assert not slow.ended
    assert "was ended" in slow.end()
    with pytest.raises(ProcessLookupError):
        os.kill(slow._pid, 0)  # pyright: ignore[reportPrivateUsage]


OF_A_PARENT = """
import socket, sys, threading, time
from tidegate.control.beside import Child
from tidegate.log.sqlite import SqliteLog
log = SqliteLog(__import__("pathlib").Path(sys.argv[1]))
ears = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
child = Child(lambda: time.sleep(1000), 1)
print(child._pid, flush=True)
sys.stdin.readline()
"""


def test_a_child_holds_no_file_or_socket_of_its_parent_and_dies_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OF_A_PARENT, str(tmp_path / "log.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        held = Path(f"/proc/{pid}/fd")

        def others() -> list[str]:
            return [os.readlink(one) for one in held.iterdir() if int(one.name) > 2]

        asyncio.run(until(lambda: len(others()) == 1))
        assert others()[0].startswith("pipe:")
        parent.kill()
        parent.wait()

    def gone() -> bool:
        with contextlib.suppress(OSError):
            return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
        return True

    asyncio.run(until(gone))


def test_a_controller_at_work_has_checkpoints_written_and_its_log_stays_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = Plant(tmp_path)
    kept = Checkpoints(plant.home.checkpoints, every=20)

    def newest() -> str:
        return max((path.name for path in kept.directory.glob("*.checkpoint")), default="")

    async def life() -> None:
        seen = ""
        controller = Controller(plant.log, plant.publisher, plant.clock, checkpoints=kept)
        work = asyncio.create_task(controller.run())
        for _ in range(3):
            await note(controller, 25)
            await until(lambda known=seen: newest() != known)
            seen = newest()
        await note(controller, 5)
        taken = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import sys; from pathlib import Path; from tidegate.log.sqlite import SqliteLog;"
            "SqliteLog(Path(sys.argv[1]))", str(plant.home.log), stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert b"is another server running on it?" in (await taken.communicate())[1]
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        found = kept.newest(plant.log)
        assert found is not None
        for _, event in plant.log.read(found.seq):
            found.state.apply(event)
        assert difference(snapshot(found.state), snapshot(controller.state)) == ""

    asyncio.run(life())
    plant.log.close()


def test_a_start_that_had_to_read_much_is_kept_at_once(desk: Desk) -> None:
    async def work() -> None:
        again = Keeping(desk.log, desk.kept)
        assert again.newest() is None
        await again.look(desk.state)
        await until(lambda: desk.files() == [".checkpoint"])
        again.stop()
        assert again.newest() is not None
        assert isinstance(again.empty(), ServerState)

    run(work())
