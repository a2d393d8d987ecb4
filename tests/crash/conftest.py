"""One stage for all tests of this folder: where a copy of a home costs next to nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.agent_device import quick_directory

from . import trace
from .stage import Stage

SEED = int(os.environ.get("TIDEGATE_CRASH_SEED", "1"))
"""Another one draws other cuts in the quick form."""


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    if lacks := trace.missing():
        pytest.skip(lacks)
    with quick_directory() as place:
        made = Stage(place)
        yield made
        made.close()


@pytest.fixture(scope="session")
def home(stage: Stage) -> Path:
    return stage.place / "home"


@pytest.fixture
def seed() -> int:
    return SEED
