"""A collector: what it answers by itself, what it forwards, and to whom; and what the controller takes from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from tests.server import World, enrolment

from tidegate.intake import collector, forward
from tidegate.intake.collector import CollectorApp
from tidegate.intake.forward import FORWARD_PATH, Forwarded
from tidegate.trust.credentials import DeviceSecrets, authorization

pytestmark = [pytest.mark.room("intake")]
TOKEN = "collectors' token"
NOBODY = "http://127.0.0.1:9"


def forwarded(world: World, content: bytes, token: str = TOKEN) -> httpx.Response:
    return world.operators.post(FORWARD_PATH, content=content, headers={"authorization": f"Bearer {token}"})


def test_a_controller_takes_messages_of_collectors_alone(world: World) -> None:
    one = forward.encoder.encode([Forwarded("/v1/announce", "", b"{}")])
    operators = str(world.operators.headers["authorization"]).removeprefix("Bearer ")
    for token in ("x", operators, TOKEN + "x"):
        assert forwarded(world, one, token).status_code == 401
    assert forwarded(world, b"\x00").status_code == 400
    assert forwarded(world, forward.encoder.encode([Forwarded("/", "", b"")] * 513)).status_code == 413
    found = forward.answered.decode(forwarded(world, one).content)
    assert [answer.status for answer in found] == [401], "without a claim the MAC is verified here"
    odd = [Forwarded("/healthz", "", b""), Forwarded("/v1/announce", "\u20ac", b"{}"), Forwarded("/v1/enrol", "", b"?")]
    found = forward.answered.decode(forwarded(world, forward.encoder.encode(odd)).content)
    assert [answer.status for answer in found] == [404, 401, 400]


def test_whoever_has_a_collectors_token_cannot_sign_for_a_device(world: World) -> None:
    """It speaks for any device, as the server's secret would; where reports must be signed, it reports for none."""
    device = world.enrol()
    world.release(1)
    rollout = world.rollout(placebo_per_treated=0.0)
    lease = device.announce(rollout).json()["lease_id"]
    assert world.operator("/api/v1/policy", signed_reports=True).status_code == 200

    def report(**more: Any) -> int:
        said = {"reports": [{"lease_id": lease, "kind": "confirmed", "seq": 1, **more}]}
        claim = {"index": device.index, "device_id": device.device_id, "seq": 9, "epoch": 1}
        one = Forwarded("/v1/reports", "0" * 64, json.dumps(said).encode(), **claim)
        return forward.answered.decode(forwarded(world, forward.encoder.encode([one])).content)[0].status

    assert report() == 428 and report(signature="0" * 128) == 401
    assert not world.controller.state.rollouts[rollout].evidence.confirmed


def through(world: World, act: Callable[[httpx.AsyncClient, CollectorApp], Awaitable[None]], *first: str) -> None:
    """Run a collector in front of a world; `first` are controllers that it tries before."""

    async def scene() -> None:
        urls = [*first, str(world.operators.base_url)] if NOBODY not in first[1:] else list(first)
        app = CollectorApp(urls, TOKEN, world.secrets, world.home.repository)
        work = asyncio.create_task(app.run())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://collector") as client:
            try:
                await act(client, app)
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    asyncio.run(scene())


def signed(credential: str, seq: int, path: str, message: Any) -> dict[str, Any]:
    body = json.dumps(message).encode()
    return {"url": path, "content": body, "headers": {"authorization": authorization(credential, seq, path, body)}}


def test_a_number_of_ones_own_choosing_takes_no_memory_behind_a_collector_either(world: World) -> None:
    master = bytes.fromhex(json.loads(world.home.device_secrets.read_text())["1"])
    credential = DeviceSecrets({1: master}).credential(1, 10**9, "ab" * 16)
    message = {"rollout": "x", "plan_version": 0, "installed": None, "seq": 1, "attempt": 1}

    async def act(client: httpx.AsyncClient, app: CollectorApp) -> None:
        assert (await client.post(**signed(credential, 1, "/v1/announce", message))).status_code == 401

    through(world, act)
    assert len(world.intake.epochs) == 0


@pytest.mark.parametrize("first", [[], [NOBODY]], ids=["one controller", "the first is gone"])
def test_devices_are_served_through_a_collector(world: World, first: list[str]) -> None:
    token = world.token()

    async def act(client: httpx.AsyncClient, app: CollectorApp) -> None:
        enrolled = (await client.post("/v1/enrol", json=enrolment(token))).json()
        await asyncio.to_thread(world.release, 1)
        rollout = await asyncio.to_thread(world.rollout)
        credential = enrolled["credential"]
        message = {"rollout": rollout, "plan_version": 0, "installed": None, "seq": 1, "attempt": 1}
        lease = (await client.post(**signed(credential, 1, "/v1/announce", message))).json()
        assert lease["arm"] == "treated"
        said = {"reports": [{"lease_id": lease["lease_id"], "kind": "confirmed", "seq": 1}]}
        for _ in range(2):  # the answer was lost: the same message comes again
            reply = await client.post(**signed(credential, 2, "/v1/reports", said))
            assert (reply.status_code, reply.json()) == (200, {"durable_seq": 2})
        reply = await client.post(**signed(credential, 1, "/v1/announce", message))
        assert reply.status_code == 200 or reply.status_code == 412
        other = signed(credential, 3, "/v1/reports", said)
        before = app.forwarded
        assert (await client.post(**{**other, "content": b"{}"})).status_code == 401
        assert app.forwarded == before, "a bad MAC goes no further"
        assert (await client.get("/repo/metadata/timestamp.json")).status_code == 200
        assert (await client.get("/repo/metadata/none.json")).status_code == 404
        assert (await client.post("/v1/else")).status_code == 404
        assert (await client.get("/v1/enrol")).status_code == 405
        assert (await client.post("/v1/enrol", content=b"x" * 70_000)).status_code == 413
        assert (await client.get("/healthz")).json() == {"alive": True}
        assert (await client.get("/readyz")).status_code == 200

    through(world, act, *first)
    (found,) = world.controller.state.rollouts.values()
    assert (found.evidence.exposed, found.evidence.confirmed) == (1, 1)


def test_what_a_paused_controller_does_not_answer_goes_to_the_one_that_has_taken_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes every connection and says nothing; nobody waits for it any longer than until there is another."""
    monkeypatch.setattr(collector, "LINE_S", httpx.Timeout(3600))
    monkeypatch.setattr(collector, "PATIENCE_S", 3600)
    token = world.token()

    async def scene() -> None:
        async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            await reader.read()

        paused = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        known = [f"http://127.0.0.1:{paused.sockets[0].getsockname()[1]}"]
        app = CollectorApp(known, TOKEN, world.secrets, world.home.repository)
        work = asyncio.create_task(app.run())
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://collector") as client:
            asked = asyncio.create_task(client.post("/v1/enrol", json=enrolment(token)))
            await asyncio.sleep(0.3)
            assert not asked.done()
            known[0] = str(world.operators.base_url)
            assert (await asyncio.wait_for(asked, 60)).status_code == 200
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        paused.close()

    asyncio.run(scene())


def test_a_collector_that_reaches_nobody_says_when_to_ask_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "PATIENCE_S", 0.5)

    async def act(client: httpx.AsyncClient, app: CollectorApp) -> None:
        reply = await client.post("/v1/enrol", json={"token": "x"})
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) in range(2, 9)
        assert "no controller answers" in reply.json()["detail"]
        reply = await client.get("/readyz")
        assert (reply.status_code, reply.json()["ready"]) == (503, False)

    through(world, act, NOBODY, NOBODY)


def test_while_no_device_asks_a_collector_still_knows_whether_a_controller_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load balancer sends nobody to one that is not ready, so devices can not be what it learns that from."""
    monkeypatch.setattr(collector, "WATCH_S", 0.05)

    async def act(client: httpx.AsyncClient, app: CollectorApp) -> None:
        async def until(status: int) -> None:
            for _ in range(400):
                if (await client.get("/readyz")).status_code == status:
                    return
                await asyncio.sleep(0.02)
            raise AssertionError(f"/readyz never said {status}")

        for urls, status in (([NOBODY], 503), ([str(world.operators.base_url)], 200), ([NOBODY], 503)):
            app._controllers = urls  # the one that was there goes, and comes
            await until(status)
        assert app.forwarded == 0

    through(world, act)


def test_a_collector_turns_away_what_would_wait_too_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "MOST_WAITING", 0)

    async def act(client: httpx.AsyncClient, app: CollectorApp) -> None:
        reply = await client.post("/v1/enrol", json={"token": "x"})
        assert (reply.status_code, app.counts.shed._value.get(), app.waiting) == (503, 1, 0)
        assert "retry-after" in reply.headers

    through(world, act)


def test_a_server_with_too_much_waiting_turns_devices_away_before_it_reads(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidegate.control import controller

    monkeypatch.setattr(controller, "MOST_WAITING", 0)
    reply = world.devices.post("/v1/enrol", json={"token": "x"})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert world.intake.counts.shed._value.get() == 1
