"""A real file system that loses power: ext4 in a file, copied while it is mounted, which is all that had reached it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import checks, trace
from .cuts import again
from .stage import Stage, Way, guard_command
from .trace import Fault, Ran

LENGTH = 12 << 20
OPTIONS = "loop,noatime,noauto_da_alloc,commit=300"
"""No help that POSIX does not promise: ext4 would sync what a rename replaces, and all each five seconds."""


def missing() -> str:
    """Say what this machine lacks for these tests, or nothing."""
    lacks = [tool for tool in ("mkfs.ext4", "mount", "umount") if not shutil.which(tool)]
    if lacks or os.geteuid() != 0:
        return f"needs root, and {', '.join(lacks) or 'loop devices'}"
    return trace.missing()


class Disk:
    """One device's disk. `before` is its image as it was before the way began."""

    def __init__(self, place: Path, way: Way) -> None:
        self.way, self.place = way, place
        self.before, self.image, self.copy = (place / f"{name}.img" for name in ("before", "image", "copy"))
        place.mkdir()
        (place / "mnt").mkdir()
        with self.before.open("wb") as file:
            file.truncate(LENGTH)
        _run("mkfs.ext4", "-q", "-F", str(self.before))
        with self.mounted(self.before) as home:
            shutil.copytree(way.before, home, symlinks=True)

    @contextmanager
    def mounted(self, image: Path) -> Iterator[Path]:
        """Mount an image; gives the home on it."""
        _run("mount", "-o", OPTIONS, str(image), str(self.place / "mnt"))
        try:
            yield self.place / "mnt" / "home"
        finally:
            _run("umount", str(self.place / "mnt"))


def cut(stage: Stage, disk: Disk, fault: Fault | None, *, drop: str = "") -> str:
    """Kill at a call and lose what had not reached the disk; start again from what had, and check both moments.

    Raises:
        AssertionError: saying what does not hold.
    """
    way = disk.way
    stage.begin_server(way)
    _run("cp", "--sparse=always", str(disk.before), str(disk.image))
    with disk.mounted(disk.image) as home:
        ran = _send(stage, way, home, fault, drop)
        _run("cp", "--sparse=always", str(disk.image), str(disk.copy))
    try:
        with disk.mounted(disk.copy) as home:
            checks.at_the_cut(stage, way, home)
            again(stage, way, home)
            return checks.afterwards(stage, way, home, faults=False)
    except Exception as error:
        raise AssertionError(f"{way.name}: power lost {fault or 'at the end'}: {error}\n{ran.said[-800:]}") from error


def _send(stage: Stage, way: Way, home: Path, fault: Fault | None, drop: str) -> Ran:
    if not drop:
        return stage.send(way, home, fault)
    command = guard_command(home) if way.name == "guard" else trace.agent(home)
    return trace.run(command, stage.aside, fault, drop=drop)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
