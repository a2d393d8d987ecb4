"""The other systems' disks, on Linux: each step in the order that a power cut asks for, told by a fake system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.e2e.agent_device import Device, HandClock
from tests.e2e.agent_server import World

from tidegate.trust import durable
from tidegate.trust.disk import (
    F_FULLFSYNC,
    HELD_TRIES,
    MOVEFILE_REPLACE_EXISTING,
    MOVEFILE_WRITE_THROUGH,
    Disk,
    MacDisk,
    PosixDisk,
    WindowsDisk,
    system_disk,
)
from tidegate.trust.durable import make_directory, write_durably


class Told:
    """Fakes of the systems' calls, which do the work as Linux does and write down what they were asked."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.held = 0

    def control(self, descriptor: int, command: int) -> int:
        assert command == F_FULLFSYNC
        self.calls.append(f"full {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        return 0

    def move(self, source: str, target: str, flags: int) -> None:
        if self.held:
            self.held -= 1
            error = PermissionError(13, "in use")
            error.winerror = 32  # type: ignore[attr-defined]
            raise error
        assert flags == MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH
        self.calls.append(f"move {Path(source).name.split('.')[1] or source} to {Path(target).name}")
        os.replace(source, target)


@pytest.fixture
def told() -> Told:
    return Told()


def use(disk: Disk, monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        told.calls.append(f"fsync {'dir' if os.path.isdir(f'/proc/self/fd/{descriptor}') else 'file'}")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(durable, "DISK", disk)


def test_each_platform_has_its_disk() -> None:
    assert [type(system_disk(name)) for name in ("linux", "freebsd14", "darwin", "win32")] == [
        PosixDisk, PosixDisk, MacDisk, WindowsDisk,
    ]  # fmt: skip


def test_windows_flushes_the_file_then_moves_it_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    use(WindowsDisk(told.move), monkeypatch, told)
    make_directory(tmp_path / "a" / "b")
    write_durably(tmp_path / "state", b"one")
    write_durably(tmp_path / "state", b"two")
    assert told.calls == ["fsync file", "move state to state"] * 2, "and no directory is flushed"
    assert (tmp_path / "state").read_bytes() == b"two"


def test_windows_waits_for_whoever_holds_the_file_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    pauses: list[float] = []
    use(WindowsDisk(told.move, pauses.append), monkeypatch, told)
    told.held = 3
    write_durably(tmp_path / "state", b"one")
    assert len(pauses) == 3
    told.held = HELD_TRIES
    with pytest.raises(PermissionError):
        write_durably(tmp_path / "state", b"two")
    assert (tmp_path / "state").read_bytes() == b"one" and [p.name for p in tmp_path.iterdir()] == ["state"]


def test_macos_flushes_the_drive_for_files_and_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
) -> None:
    use(MacDisk(told.control), monkeypatch, told)
    write_durably(tmp_path / "state", b"one")
    (file, directory) = told.calls
    assert file.startswith("full .state.") and directory == f"full {tmp_path.name}"


def test_macos_makes_do_where_a_volume_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    def cannot(descriptor: int, command: int) -> int:
        raise OSError(errno.ENOTSUP, "not on this volume")

    use(MacDisk(cannot), monkeypatch, told)
    write_durably(tmp_path / "state", b"one")
    assert told.calls == ["fsync file", "fsync dir"]

    def fails(descriptor: int, command: int) -> int:
        raise OSError(errno.EIO, "the drive is failing")

    use(MacDisk(fails), monkeypatch, told)
    with pytest.raises(OSError, match="failing"):
        write_durably(tmp_path / "state", b"two")
    assert (tmp_path / "state").read_bytes() == b"one"


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_a_whole_update_goes_through_the_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told, system: str
) -> None:
    """The agent itself, on each fake: what its journal, slots, outbox and trust write has no way around it."""
    clock = HandClock()
    world = World(tmp_path / "world", lambda: int(clock.wall()))
    device = Device(world, tmp_path / "home", clock)
    disk = WindowsDisk(told.move) if system == "windows" else MacDisk(told.control)
    use(disk, monkeypatch, told)
    device.install()
    monkeypatch.undo()
    names = " ".join(told.calls)
    for written in ("journal", "trust_floor", "timestamp"):
        assert written in names
    if system == "windows":
        assert any(call.startswith("move") and len(call.split()[-1]) == 16 for call in told.calls), "the slot's name"
    device.agent.tools.server.close()
    world.close()
