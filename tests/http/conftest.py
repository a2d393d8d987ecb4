"""A running control plane for the HTTP tests, and the one way in which a refusal is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
from tests.http.people import People
from tests.server import World

Refuses = Callable[..., AbstractContextManager[list[httpx.Response]]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.close()


@pytest.fixture
def people(world: World) -> Iterator[People]:
    """A world with three named operators: ada may start, bob may approve, vera may look."""
    found = People(world, {"ada": "operator", "bob": "approver", "vera": "viewer"})
    yield found
    found.close()


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One world for many tests that must not change it."""
    found = World(tmp_path_factory.mktemp("world"))
    yield found
    found.close()


def check_problem(reply: httpx.Response, status: int, words: str) -> None:
    """Hold a reply against RFC 9457: the right status, and a sentence that helps."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    body = reply.json()
    assert body["status"] == status
    assert body["title"]
    assert body["type"]
    assert words in body["detail"], body["detail"]
    assert "Traceback" not in reply.text


@pytest.fixture
def refuses() -> Refuses:
    """`with refuses(world, 400, 'words') as replies:` each reply is such a problem, and nothing is in the log."""

    @contextmanager
    def check(world: World, status: int, words: str) -> Iterator[list[httpx.Response]]:
        before = world.quiet()
        replies: list[httpx.Response] = []
        yield replies
        assert replies, "the test asked nothing"
        for reply in replies:
            check_problem(reply, status, words)
        assert world.quiet() == before, "a refusal changed the state"

    return check
