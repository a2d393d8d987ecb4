"""What comes at the same moment is taken in in one go, and each is answered as if it came alone."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import pytest
from starlette.types import Scope
from tests.server import Device, World

from tidegate.control import devices as control_devices
from tidegate.intake.http import Reply
from tidegate.log.events import Leased, Reported
from tidegate.log.port import LogError
from tidegate.trust.credentials import authorization

pytestmark = [pytest.mark.room("intake"), pytest.mark.room("control")]
PATH = "/v1/reports"
Message = tuple[Scope, bytes]


class Holder:
    """A device with an open lease."""

    def __init__(self, device: Device, lease_id: str) -> None:
        self.device, self.lease_id = device, lease_id

    def says(self, seq: int, lease_id: str = "", **changes: Any) -> Message:
        said = {"lease_id": lease_id or self.lease_id, "kind": "confirmed", "seq": 1, **changes}
        return self.sends(seq, json.dumps({"reports": [said]}).encode())

    def sends(self, seq: int, body: bytes, credential: str = "") -> Message:
        header = authorization(credential or self.device.credential, seq, PATH, body)
        return {"type": "http", "path": PATH, "headers": [(b"authorization", header.encode())]}, body


@pytest.fixture
def holders(world: World) -> list[Holder]:
    devices = [world.enrol() for _ in range(8)]
    world.release(1)
    rollout = world.rollout(max_harmed=8, placebo_per_treated=0.0)
    answers = [(device, device.announce(rollout).json()) for device in devices]
    found = [Holder(device, answer["lease_id"]) for device, answer in answers if "lease_id" in answer]
    assert len(found) >= 6, answers
    return found


def together(world: World, messages: list[Message], path: str = PATH) -> list[Reply]:
    return asyncio.run_coroutine_threadsafe(world.intake.answer_together(path, messages), world.loop).result(120)


def _until(line: socket.socket, end: bytes) -> bytes:
    found = b""
    while not found.endswith(end):
        more = line.recv(65536)
        assert more, found
        found += more
    return found


def reporters(world: World) -> list[int]:
    return sorted(event.index for _, event in world.log.read() if isinstance(event, Reported))


def test_each_is_answered_for_itself(world: World, holders: list[Holder]) -> None:
    good, twice, forged, torn, thief, old, *_ = holders
    assert together(world, [old.says(60)])[0].status == 200
    messages = [
        (good.says(5), 200, b'{"durable_seq":5}'),
        (twice.says(5), 200, b'{"durable_seq":5}'),
        (twice.says(5), 200, b'{"durable_seq":5}'),
        (twice.says(7), 200, b'{"durable_seq":7}'),
        (forged.sends(5, b"{}", good.device.credential[:-64] + "0" * 64), 401, b"not made with this device's"),
        (torn.sends(5, b"{"), 400, b"the request cannot be read"),
        (thief.says(5, good.lease_id), 400, b"was not given to this device"),
        (old.says(50), 412, b"request 50 is older than 60"),
        (thief.says(6, kind="fine"), 400, b"confirmed or reverted"),
        (({"type": "http", "path": PATH, "headers": []}, b""), 401, b"Authorization"),
    ]
    replies = together(world, [message for message, _, _ in messages])
    for reply, (_, status, words) in zip(replies, messages, strict=True):
        assert (reply.status, words in reply.body) == (status, True), reply
    assert reporters(world) == sorted([good.device.index, twice.device.index, old.device.index])
    assert together(world, []) == []


def test_a_copied_credential_is_flagged_and_the_others_are_taken(world: World, holders: list[Holder]) -> None:
    copied, *others = holders
    messages = [copied.says(9, note="one"), *(one.says(9) for one in others), copied.says(9, note="another")]
    replies = together(world, messages)
    assert [reply.status for reply in replies[1:-1]] == [200] * len(others)
    assert replies[-1].status == 403
    assert [act.what for act in world.controller.state.acts][-1] == "device_copied"
    assert together(world, [copied.says(10)])[0].status == 403
    assert {one.device.index for one in others} <= set(reporters(world))


def announcement(device: Device, rollout: str, seq: int, **changes: Any) -> Message:
    said = {"rollout": rollout, "plan_version": 0, "installed": None, "seq": 1, "attempt": 1, **changes}
    body = json.dumps(said).encode()
    header = authorization(device.credential, seq, "/v1/announce", body)
    return {"type": "http", "path": "/v1/announce", "headers": [(b"authorization", header.encode())]}, body


def test_leases_of_the_same_moment_are_granted_one_after_the_other(world: World) -> None:
    devices = [world.enrol() for _ in range(8)]
    world.release(1)
    rollout = world.rollout(max_harmed=3, placebo_per_treated=0.0)
    stranger, copied = world.enrol(), devices.pop()
    messages = [
        *(announcement(device, rollout, 5) for device in devices),
        announcement(devices[0], rollout, 5),
        announcement(stranger, rollout, 5),
        announcement(devices[1], "dreamt", 6),
        announcement(devices[2], rollout, 6, plan_version=99),
        announcement(copied, rollout, 5),
        announcement(copied, rollout, 5, attempt=2),
        ({"type": "http", "path": "/v1/announce", "headers": []}, b""),
    ]
    replies = together(world, messages, "/v1/announce")
    said = [json.loads(reply.body) for reply in replies]
    assert [reply.status for reply in replies[8:]] == [409, 404, 400, replies[-3].status, 403, 401]
    leases = {one["lease_id"] for one in said if "lease_id" in one}
    assert 0 < len(leases) <= 3, "the budget holds within one moment"
    assert all(("lease_id" in one) != ("retry_after_s" in one) for one in said[:8])
    assert said[7] == said[0] or "retry_after_s" in said[0]
    leased = [event for _, event in world.log.read() if isinstance(event, Leased)]
    assert {f"{event.rollout}:{event.ring}:{event.position}" for event in leased} == leases
    assert len(leased) == len(leases)


def test_a_mistake_over_one_is_nothing_to_the_others(
    world: World, holders: list[Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, *others = holders
    whole = control_devices.report

    def report(state: Any, now_ms: int, claim: control_devices.Claim, said: Any) -> Any:
        if claim.index == bad.device.index:
            raise ZeroDivisionError
        return whole(state, now_ms, claim, said)

    monkeypatch.setattr(control_devices, "report", report)
    replies = together(world, [one.says(9) for one in holders])
    assert [reply.status for reply in replies] == [500] + [200] * len(others)
    assert reporters(world) == sorted(one.device.index for one in others)


def test_what_is_not_durable_is_told_to_all(
    world: World, holders: list[Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(events: Any) -> int:
        raise LogError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(world.log, "append", full)
        replies = together(world, [one.says(9) for one in holders])
        assert {(reply.status, reply.headers.get("retry-after")) for reply in replies} == {(503, "5")}
    assert reporters(world) == []
    deadline = time.monotonic() + 60
    while {reply.status for reply in together(world, [one.says(9) for one in holders])} != {200}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert reporters(world) == sorted(one.device.index for one in holders)


def test_lines_that_speak_in_one_turn_of_the_loop_are_one_question(
    world: World, holders: list[Holder], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    whole = world.controller.ask

    async def ask(decide: Any, devices: frozenset[int] = frozenset()) -> Any:
        asked.append(len(devices))
        return await whole(decide, devices)

    port = world.devices.base_url.port
    assert port is not None
    lines = [socket.create_connection(("127.0.0.1", port), timeout=60) for _ in holders]
    for line in lines:  # the server has them all
        line.sendall(b"GET /v1/x HTTP/1.1\r\nhost: x\r\n\r\n")
        _until(line, b'address"}')
    monkeypatch.setattr(world.controller, "ask", ask)
    world.loop.call_soon_threadsafe(time.sleep, 0.5)
    for line, one in zip(lines, holders, strict=True):
        (scope, body), size = one.says(9), len(one.says(9)[1])
        header = scope["headers"][0][1].decode()
        head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nauthorization: {header}\r\ncontent-length: {size}\r\n\r\n"
        line.sendall(head.encode() + body)
    lines.pop().close()  # who hangs up is taken in, and harms nobody
    for line in lines:
        assert _until(line, b'{"durable_seq":9}').startswith(b"HTTP/1.1 200 ")
        line.close()
    assert asked == [len(holders)]
    assert reporters(world) == sorted(one.device.index for one in holders)
