"""Asked twice at the same moment, or with the clock put back: what is given once is given once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.http.conftest import check_problem
from tests.http.people import People, ready
from tests.server import COMPONENT, World, enrolment

pytestmark = [pytest.mark.room("intake"), pytest.mark.room("api")]


def _at_once(count: int, do: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    start = Barrier(count)

    def wait_and_do(nth: int) -> httpx.Response:
        start.wait(60)
        return do(nth)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_do, range(count)))


def _post(url: str, **more: Any) -> httpx.Response:
    return httpx.post(url, timeout=120, **more)


def test_a_token_for_two_enrols_two_however_many_come_at_once(world: World) -> None:
    url = f"{world.devices.base_url}/v1/enrol"
    token = world.token(uses=2)
    answers = _at_once(8, lambda _: _post(url, json=enrolment(token)))
    assert sorted(reply.status_code for reply in answers) == [200] * 2 + [401] * 6
    key = Ed25519PrivateKey.generate()
    other = world.token(uses=1)
    answers = _at_once(6, lambda _: _post(url, json=enrolment(other, key)))
    assert {reply.status_code for reply in answers} == {200}  # one device, that lost its answers
    assert len({reply.json()["device_id"] for reply in answers}) == 1
    assert len(world.controller.state.devices) == 3


def test_a_request_that_is_granted_twice_at_once_is_done_once(people: People) -> None:
    body = ready(people)
    people.world.operator("/api/v1/policy", devices_alone=1)
    number = people.post("ada", "/api/v1/rollouts", **body).json()["approval"]
    url = f"{people.world.operators.base_url}/api/v1/approvals/{number}/grant"
    headers = people.clients["bob"].headers
    answers = _at_once(4, lambda nth: _post(url, json={"why": str(nth)}, headers=headers))
    assert sorted(reply.status_code for reply in answers) == [200, 409, 409, 409]
    assert len(people.world.controller.state.rollouts) == 1
    assert list(people.world.controller.state.active) == [COMPONENT]


def test_what_has_expired_comes_back_with_no_clock_that_is_put_back(people: People) -> None:
    world = people.world
    token = world.token(uses=5, expires_s=60)
    body = ready(people)
    world.operator("/api/v1/policy", devices_alone=1, approval_expires_s=60)
    number = people.post("ada", "/api/v1/rollouts", **body).json()["approval"]
    world.pass_s(61)
    assert people.post("ada", "/api/v1/tokens").status_code == 201  # anything that goes on record after it
    world.clock.ahead_s -= 3600
    check_problem(world.devices.post("/v1/enrol", json=enrolment(token)), 401, "has expired")
    check_problem(people.post("bob", f"/api/v1/approvals/{number}/grant"), 409, "expired")
