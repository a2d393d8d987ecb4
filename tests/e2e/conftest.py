"""One world and one device for the end-to-end tests of the agent; a test file may bring its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .agent_device import Device, HandClock, quick_directory
from .agent_server import World


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_directory() as directory:
        yield directory


@pytest.fixture
def world(place: Path, clock: HandClock) -> Iterator[World]:
    made = World(place / "world", lambda: int(clock.wall()))
    yield made
    made.close()


@pytest.fixture
def device(world: World, place: Path, clock: HandClock) -> Iterator[Device]:
    made = Device(world, place / "home", clock)
    yield made
    made.agent.tools.server.close()
