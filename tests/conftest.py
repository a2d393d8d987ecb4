"""What all tests share: which room a test belongs to, what is slow, and settings that keep runs repeatable."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "tidegate"

# No deadline: a busy machine is no bug. Continuous integration draws the same examples each time.
settings.register_profile("tidegate", deadline=None, print_blob=True)
settings.register_profile("ci", settings.get_profile("tidegate"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "tidegate")


def modules_by_room(source: Path = SOURCE) -> dict[str, set[str]]:
    """The rooms of the house, each with its modules' names."""
    rooms = (path.parent for path in source.glob("*/__init__.py"))
    return {room.name: {path.stem for path in room.rglob("*.py")} - {"__init__"} for room in rooms}


def rooms_of(path: Path, modules: dict[str, set[str]]) -> set[str]:
    """The rooms whose test file this is.

    A file belongs to a room if it lies in a folder of that name, or is called `test_NAME.py` or `test_NAME_*.py`
    where NAME is the room or one of its modules.
    """
    name = path.stem.removeprefix("test_")
    return {
        room
        for room, inside in modules.items()
        if room in path.parts[:-1] or any(name == word or name.startswith(f"{word}_") for word in {room, *inside})
    }


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tidegate")
    group.addoption("--room", action="append", default=[], metavar="NAME", help="only the tests of this room")
    group.addoption("--all", action="store_true", help="the slow tests too")
    group.addoption("--kills", type=int, default=0, metavar="N", help="how often the slow kill test kills the server")
    group.addoption("--seed", type=int, default=0, metavar="N", help="of the tests that break something under load")
    group.addoption("--devices", type=int, default=0, metavar="N", help="how many devices those have, at least")


def pytest_configure(config: pytest.Config) -> None:
    rooms: list[str] = config.getoption("--room") or []
    if unknown := set(rooms) - modules_by_room().keys():
        raise pytest.UsageError(f"no room {', '.join(unknown)}; there are {', '.join(sorted(modules_by_room()))}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    rooms: list[str] = config.getoption("--room") or []
    asked, modules = set(rooms), modules_by_room()
    slow_too = config.getoption("--all") or "slow" in str(config.getoption("markexpr"))

    def wanted(item: pytest.Item) -> bool:
        rooms = {str(mark.args[0]) for mark in item.iter_markers("room")}
        rooms |= rooms_of(item.path.relative_to(ROOT), modules) if item.path.is_relative_to(ROOT) else set()
        return (not asked or bool(asked & rooms)) and (slow_too or not item.get_closest_marker("slow"))

    kept, dropped = [], []
    for item in items:
        (kept if wanted(item) else dropped).append(item)
    items[:] = kept
    if dropped:
        config.hook.pytest_deselected(items=dropped)


def pytest_sessionfinish() -> None:
    """End the servers that tests have started."""
    stores = sys.modules.get("tests.stores")
    if stores is not None:
        stores.close_stores()
