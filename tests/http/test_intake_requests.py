"""What devices send: malformed, oversized, forged, replayed or misplaced, it is refused, and nothing changes."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.http.conftest import Refuses, check_problem
from tests.server import COMPONENT, Device, World, enrolment

from tidegate.control.state import fold
from tidegate.log.events import Reported
from tidegate.trust.credentials import DeviceSecrets, authorization

pytestmark = [pytest.mark.room("intake"), pytest.mark.room("control")]

POSTS = ("/v1/enrol", "/v1/announce", "/v1/reports")
ANNOUNCE = {"rollout": "r", "plan_version": 0, "installed": None, "seq": 1, "attempt": 1}
REPORT = {"lease_id": "r:1:0", "kind": "confirmed", "seq": 1}


@pytest.fixture(scope="module")
def device(still: World) -> Device:
    return still.enrol()


NOT_JSON: list[bytes] = [
    b"",
    b"{",
    b"nonsense",
    b"\xff\xfe",
    b'{"rollout": "\xff"}',
    b'{"rollout": "\\ud800"}',
    b"[" * 60_000,
    b'{"reports": ' + b"[" * 60_000,
    b'{"reports": [{"probes": [{"a": ' + b"[" * 60_000,
    b'{"facts": ' + b'{"a":' * 10_000,
    b"NaN",
]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:16]))
def test_what_is_no_json(still: World, device: Device, refuses: Refuses, path: str, body: bytes) -> None:
    with refuses(still, 400, "the request cannot be read") as replies:
        replies.append(device.post(path, body))


@pytest.mark.parametrize(
    ("path", "message", "words"),
    [
        ("/v1/enrol", {"public_key": "00" * 32}, "missing required field `token`"),
        ("/v1/enrol", {"token": "x", "public_key": "00" * 32, "more": 1}, "unknown field `more`"),
        ("/v1/enrol", {"token": 1, "public_key": "00" * 32}, "Expected `str`, got `int` - at `$.token`"),
        ("/v1/enrol", {"token": "x", "public_key": "00" * 31}, "public_key must be 64 hexadecimal digits"),
        ("/v1/enrol", {"token": "x", "public_key": "00" * 32, "labels": {"a": 1}}, "at `$.labels[...]`"),
        ("/v1/enrol", {"token": "x", "public_key": "00" * 32, "facts": {"a": "b" * 201}}, "facts: at most 64"),
        (
            "/v1/enrol",
            {"token": "x", "public_key": "00" * 32, "labels": {str(i): "" for i in range(65)}},
            "labels: at most 64",
        ),
        ("/v1/enrol", {"token": "x", "public_key": "00" * 32}, "this is no enrolment token"),
        ("/v1/announce", {**ANNOUNCE, "more": 1}, "unknown field `more`"),
        ("/v1/announce", {"rollout": "r"}, "missing required field"),
        ("/v1/announce", {**ANNOUNCE, "seq": "1"}, "at `$.seq`"),
        ("/v1/announce", {**ANNOUNCE, "seq": 1.5}, "at `$.seq`"),
        ("/v1/announce", {**ANNOUNCE, "attempt": True}, "at `$.attempt`"),
        ("/v1/announce", {**ANNOUNCE, "installed": 3}, "at `$.installed`"),
        ("/v1/announce", [ANNOUNCE], "Expected `object`, got `array`"),
        ("/v1/reports", {"reports": {}}, "Expected `array`, got `object`"),
        ("/v1/reports", {"reports": [{**REPORT, "more": 1}]}, "unknown field `more`"),
        ("/v1/reports", {"reports": [{**REPORT, "probes": [[]]}]}, "at `$.reports[0].probes[0]`"),
        ("/v1/reports", {"reports": [{**REPORT, "probes": [{"a": {"deep": 1}}]}]}, "at `$.reports[0].probes[0][...]`"),
        ("/v1/reports", {"reports": [{**REPORT, "boot_s": "3"}]}, "at `$.reports[0].boot_s`"),
    ],
)
def test_what_is_not_the_right_json(
    still: World, device: Device, refuses: Refuses, path: str, message: Any, words: str
) -> None:
    with refuses(still, 400, words) as replies:
        replies.append(device.post(path, message))


@pytest.mark.parametrize("path", POSTS)
def test_a_body_over_64_kb_is_refused_unread(still: World, device: Device, refuses: Refuses, path: str) -> None:
    with refuses(still, 413, "65536 bytes") as replies:
        replies.append(device.post(path, b" " * (64 * 1024 + 1)))
        stream = iter([b" " * 40_000, b" " * 40_000])
        replies.append(still.devices.post(path, content=stream))  # no length is declared
    assert device.post(path, b" " * (64 * 1024)).status_code == 400


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_method_is_refused(still: World, refuses: Refuses, path: str, method: str) -> None:
    with refuses(still, 405, "takes POST") as replies:
        replies.append(still.devices.request(method, path))
    assert replies[0].headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/enrol/", "/v1/ENROL", "/v2/enrol", "/api/v1/status", "/healthz", "/repo"]
)
def test_an_unknown_path_is_refused(still: World, refuses: Refuses, path: str) -> None:
    with refuses(still, 404, "there is nothing at") as replies:
        replies += [still.devices.get(path), still.devices.post(path, content=b"{}")]


@pytest.mark.parametrize(
    "path",
    [
        "/repo/",
        "/repo/nothing.json",
        "/repo/metadata",
        "/repo/../device-secrets.json",
        "/repo/%2e%2e/device-secrets.json",
        "/repo/..%2f..%2foperator.token",
        "/repo/metadata/%00",
        "/repo//etc/passwd",
        "/repo/" + "a" * 5000,
    ],
)
def test_only_the_repositorys_files_are_served(still: World, path: str) -> None:
    secret = still.home.device_secrets.read_bytes()
    reply = still.devices.get(path)
    assert reply.status_code == 404, reply.text[:200]
    assert reply.headers["content-type"] == "application/problem+json"
    assert secret not in reply.content


def test_the_repository_is_read_only_and_gives_its_files(still: World) -> None:
    assert still.devices.get("/repo/metadata/1.root.json").status_code == 200
    for method in ("POST", "PUT", "DELETE"):
        reply = still.devices.request(method, "/repo/metadata/1.root.json")
        assert reply.status_code == 405
        assert reply.headers["content-type"] == "application/problem+json"


# --- who asks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", POSTS[1:])
@pytest.mark.parametrize(
    "header", ["", "Bearer x", "Tidegate", "Tidegate 1.0.x.1.y", "Tidegate " + "9" * 5000, "Tidegate \xff", "é"]
)
def test_a_header_that_is_none(still: World, refuses: Refuses, path: str, header: str) -> None:
    with refuses(still, 401, "the Authorization header is not") as replies:
        replies.append(still.devices.post(path, content=b"{}", headers={b"authorization": header.encode("latin-1")}))


def test_a_mac_that_does_not_hold(still: World, device: Device, refuses: Refuses) -> None:
    """One digit of the MAC, the body, the path, the number or the device differs."""
    body = json.dumps(ANNOUNCE).encode()
    right = authorization(device.credential, 5, "/v1/announce", body)
    head, _, mac = right.rpartition(".")
    last = "0" if mac[-1] != "0" else "1"
    other = re.sub(r"^(Tidegate \d+)\.\d+\.", r"\g<1>.77.", right)
    with refuses(still, 401, "not made with this device's credential") as replies:
        for path, content, header in (
            ("/v1/announce", body, f"{head}.{mac[:-1]}{last}"),
            ("/v1/announce", body + b" ", right),
            ("/v1/reports", body, right),
            ("/v1/announce", body, right.replace(".5.", ".6.")),
            ("/v1/announce", body, other),
        ):
            replies.append(still.devices.post(path, content=content, headers={"authorization": header}))


def test_the_credential_of_a_device_that_was_never_enrolled(still: World, device: Device, refuses: Refuses) -> None:
    """Made with the server's own secret, as an older log's devices would have it: another id, or an index beyond."""
    master = bytes.fromhex(json.loads(still.home.device_secrets.read_text())["1"])
    forge = DeviceSecrets({1: master})
    with refuses(still, 401, "this device is not enrolled here") as replies:
        for index, device_id in ((device.index, "ab" * 16), (10**9, device.device_id), (device.index + 1, "cd" * 16)):
            credential = forge.credential(1, index, device_id)
            for path, message in (("/v1/announce", ANNOUNCE), ("/v1/reports", {"reports": [REPORT]})):
                replies.append(device.post(path, message, credential=credential))
    with refuses(still, 401, "enrol the device again") as replies:
        credential = DeviceSecrets({7: bytes(32)}).credential(7, device.index, device.device_id)
        replies.append(device.post("/v1/announce", ANNOUNCE, credential=credential))
    assert len(still.intake.epochs) <= 2, "a number of one's own choosing takes no memory of the server's"


# --- leases and reports ---------------------------------------------------------------------------------------------


@pytest.fixture
def rolling(world: World) -> tuple[World, list[Device], str]:
    devices = [world.enrol() for _ in range(8)]
    world.release(1)
    return world, devices, world.rollout()


def leased(devices: list[Device], rollout: str, arm: str = "treated") -> list[tuple[Device, dict[str, Any]]]:
    answers = [(device, device.announce(rollout).json()) for device in devices]
    return [(device, answer) for device, answer in answers if answer.get("arm") == arm]


def reported(world: World) -> int:
    world.quiet()
    return sum(isinstance(event, Reported) for _, event in world.log.read())


def test_an_unknown_rollout_and_a_plan_that_does_not_stand(
    rolling: tuple[World, list[Device], str], refuses: Refuses
) -> None:
    world, devices, rollout = rolling
    with refuses(world, 404, "there is no rollout 'dreamt'") as replies:
        replies.append(devices[0].announce("dreamt"))
    with refuses(world, 400, "plan version 99 has not been published") as replies:
        replies.append(devices[0].announce(rollout, plan_version=99))
    with refuses(world, 400, "installed must be 64 hexadecimal digits") as replies:
        replies.append(devices[0].announce(rollout, installed="x" * 60_000))


def test_a_device_outside_of_the_roster(rolling: tuple[World, list[Device], str], refuses: Refuses) -> None:
    world, _, rollout = rolling
    newcomer = world.enrol()
    with refuses(world, 409, "not in the rollout's roster") as replies:
        replies.append(newcomer.announce(rollout))


def test_a_repeated_announcement_gets_the_same_lease_and_one_event(rolling: tuple[World, list[Device], str]) -> None:
    world, devices, rollout = rolling
    first = [device.announce(rollout).json() for device in devices]
    before = world.quiet()
    assert any("lease_id" in answer for answer in first)
    for device, answer in zip(devices, first, strict=True):
        again = [device.announce(rollout, attempt=2, header_seq=seq).json() for seq in (None, device.seq + 1)]
        for found in again:  # a new message, and the very same once more
            assert found == answer or ("retry_after_s" in answer and "retry_after_s" in found)
    assert world.quiet() == before


def test_an_older_message_is_refused_after_a_newer_one(
    rolling: tuple[World, list[Device], str], refuses: Refuses
) -> None:
    world, devices, rollout = rolling
    device, answer = leased(devices, rollout)[0]
    device.seq = 50
    assert device.report(answer["lease_id"]).status_code == 200
    with refuses(world, 412, "is older than 51") as replies:
        replies.append(device.announce(rollout, header_seq=9))
        body = {"reports": [{**REPORT, "lease_id": answer["lease_id"]}]}
        replies.append(device.post("/v1/reports", body, seq=8))


def test_a_report_for_a_lease_that_is_not_ones_own(rolling: tuple[World, list[Device], str], refuses: Refuses) -> None:
    world, devices, rollout = rolling
    (mine, own), (_, others) = leased(devices, rollout)[:2]
    with refuses(world, 400, "was not given to this device") as replies:
        replies.append(mine.report(others["lease_id"]))
        name, _, position = own["lease_id"].split(":")
        replies.append(mine.report(f"{name}:2:{position}"))  # a ring that it has had no lease in
    with refuses(world, 400, "there is no lease") as replies:
        bad = [
            "",
            "x",
            "dreamt:1:0",
            f"{name}:1",
            f"{name}:x:0",
            f"{name}:1:-1",
            f"{name}:1:²",
            f"{name}:{'9' * 5000}:1",
        ]
        replies += [mine.report(lease_id) for lease_id in bad]


def test_one_bad_report_among_good_ones_takes_none(rolling: tuple[World, list[Device], str], refuses: Refuses) -> None:
    world, devices, rollout = rolling
    device, answer = leased(devices, rollout)[0]
    good = {**REPORT, "lease_id": answer["lease_id"]}
    with refuses(world, 400, "a report's kind is confirmed or reverted, not 'fine'") as replies:
        replies.append(device.post("/v1/reports", {"reports": [good, {**good, "kind": "fine"}]}))
        replies.append(device.post("/v1/reports", {"reports": [{**good, "kind": "fine"}, good]}))
    with refuses(world, 400, "there is no lease") as replies:
        replies.append(device.post("/v1/reports", {"reports": [good, {**good, "lease_id": "x"}]}))
    assert device.post("/v1/reports", {"reports": [good]}).status_code == 200
    assert reported(world) == 1


def test_reports_that_come_twice_count_once(rolling: tuple[World, list[Device], str]) -> None:
    world, devices, rollout = rolling
    device, answer = leased(devices, rollout)[0]
    good = {**REPORT, "lease_id": answer["lease_id"]}
    reply = device.post("/v1/reports", {"reports": [good, {**good, "kind": "reverted"}, good]})
    assert reply.json() == {"durable_seq": device.seq}
    assert reported(world) == 1, "the first word about a lease stands, and the others leave no trace"
    for _ in range(3):
        assert device.report(answer["lease_id"], "reverted").status_code == 200
    assert device.post("/v1/reports", {"reports": []}).status_code == 200
    assert reported(world) == 1
    view = world.operator(f"/api/v1/rollouts/{rollout}", method="GET").json()
    assert (view["confirmed"], view["reverted"]) == (1, 0)


def test_numbers_that_hardly_fit_are_taken_and_replayed(rolling: tuple[World, list[Device], str]) -> None:
    world, devices, rollout = rolling
    device, answer = leased(devices, rollout)[0]
    probes = [{"name": "p", "healthy": True, "share": 0.5, "none": None, "big": 10**18}]
    reply = device.report(answer["lease_id"], boot_s=10**18, seq=10**18, probes=probes, note="\u2028" * 9000)
    assert reply.status_code == 200, reply.text
    again = fold(event for _, event in world.log.read())
    assert again.rollouts[rollout].evidence.confirmed == 1


def test_a_full_window_a_pause_and_a_halt_are_said_with_a_time_to_ask_again(
    rolling: tuple[World, list[Device], str], refuses: Refuses
) -> None:
    world, devices, rollout = rolling
    first = [device.announce(rollout).json() for device in devices]
    waiting = [answer for answer in first if "retry_after_s" in answer]
    assert {answer["reason"] for answer in waiting} == {"rank"}
    granted = [(device, answer) for device, answer in zip(devices, first, strict=True) if "lease_id" in answer]
    idle = next(device for device, answer in zip(devices, first, strict=True) if "retry_after_s" in answer)
    world.operator(f"/api/v1/rollouts/{rollout}/pause")
    before = world.quiet()
    answer = idle.announce(rollout).json()
    assert (answer["reason"], answer["retry_after_s"] > 0) == ("paused", True)
    assert world.quiet() == before
    world.operator(f"/api/v1/rollouts/{rollout}/resume")
    for device, given in [entry for entry in granted if entry[1]["arm"] == "treated"][:2]:
        device.report(given["lease_id"], "reverted")
    world.quiet()
    with refuses(world, 409, "the rollout is halted: 2 of 3 devices exposed failed") as replies:
        replies += [idle.announce(rollout), granted[0][0].announce(rollout)]


def test_a_full_window(world: World) -> None:
    """Ring 2 opens when one of three has confirmed: two places are still taken, so one more device gets a lease."""
    devices = [world.enrol() for _ in range(9)]
    world.release(1)
    rollout = world.rollout(placebo_per_treated=0.0)
    granted = leased(devices, rollout)
    assert len(granted) == 3
    granted[0][0].report(granted[0][1]["lease_id"])
    world.quiet()
    answers = [device.announce(rollout).json() for device in devices if device not in [g[0] for g in granted]]
    assert sum("lease_id" in answer for answer in answers) == 1
    assert {answer.get("reason") for answer in answers} == {None, "window", "rank"}


def test_an_expired_plan_gets_nobody_a_lease(world: World) -> None:
    """Plans cannot be signed any more (the disk takes none), and what stands expires: no lease, and it is said."""
    devices = [world.enrol() for _ in range(6)]
    world.release(1)
    rollout = world.rollout()
    (world.home.repository / "metadata").rename(world.home.repository / "away")
    world.clock.ahead_s += 901
    plan = world.controller.state.published[COMPONENT].plan
    assert plan["expires"] < world.clock()
    answers = [device.announce(rollout).json() for device in devices]
    assert all(answer["reason"] == "paused" for answer in answers)
    assert "no fresh plan" in answers[0]["sentence"]
    assert world.controller.state.rollouts[rollout].evidence.exposed == 0


# --- enrolment ------------------------------------------------------------------------------------------------------


def test_a_token_that_is_unknown_expired_or_used_up(world: World, refuses: Refuses) -> None:
    key = Ed25519PrivateKey.generate()
    token = world.token(uses=1, expires_s=60)
    forged = token[:-1] + ("0" if token[-1] != "0" else "1")
    with refuses(world, 401, "this enrolment token is not known here") as replies:
        replies.append(world.devices.post("/v1/enrol", json=enrolment(forged, key)))
    assert world.devices.post("/v1/enrol", json=enrolment(token, key)).status_code == 200
    with refuses(world, 401, "has been used 1 times already") as replies:
        replies.append(world.devices.post("/v1/enrol", json=enrolment(token)))
    world.pass_s(61)
    with refuses(world, 401, "has expired") as replies:
        replies.append(world.devices.post("/v1/enrol", json=enrolment(token, key)))


def test_a_token_for_another_root(world: World, refuses: Refuses) -> None:
    token = world.token()
    other = f"tg1.{'0' * 64}.{token.split('.', 2)[2]}"
    before = world.quiet()
    reply = world.devices.post("/v1/enrol", json=enrolment(other))
    assert reply.status_code in (400, 401, 404), reply.text
    check_problem(reply, reply.status_code, "root")
    assert world.quiet() == before


def test_labels_that_the_token_does_not_grant(world: World, refuses: Refuses) -> None:
    token = world.token(labels={"site": "ATL"})
    with refuses(world, 409, "does not grant the label site=CDG") as replies:
        replies.append(world.devices.post("/v1/enrol", json=enrolment(token, labels={"site": "CDG"})))
    with refuses(world, 409, "does not grant the label rack=1") as replies:
        replies.append(world.devices.post("/v1/enrol", json=enrolment(token, labels={"rack": "1"})))
    device = world.enrol(token)
    assert world.controller.state.devices[device.index].device.labels == {"site": "ATL"}


def test_the_same_key_twice_is_the_same_device(world: World) -> None:
    token = world.token(uses=1)
    message = enrolment(token, facts={"os": "x"})
    first = world.devices.post("/v1/enrol", json=message).json()
    before = world.quiet()
    assert world.devices.post("/v1/enrol", json=message).json() == first
    assert world.quiet() == before
    assert first.keys() == {"device_id", "index", "credential", "root", "condemned"}
    assert first["root"].encode() == (world.home.repository / "metadata" / "1.root.json").read_bytes()
    assert Device(world, first).announce("x").status_code == 404, "the credential counts"


def test_a_public_key_alone_gets_nobodys_identity(world: World, refuses: Refuses) -> None:
    """Who knows a device's public key, and has a token, cannot become that device."""
    token, key = world.token(), Ed25519PrivateKey.generate()
    message = enrolment(token, key)
    assert world.devices.post("/v1/enrol", json=message).status_code == 200
    other = world.token()
    with refuses(world, 401, "was not made with this public key's private key") as replies:
        replies.append(world.devices.post("/v1/enrol", json={**message, "token": other}))
        replies.append(world.devices.post("/v1/enrol", json={**message, "proof": enrolment(token)["proof"]}))
    with refuses(world, 400, "proof must be 128") as replies:
        replies.append(world.devices.post("/v1/enrol", json={**message, "proof": ""}))


def test_devices_without_a_key_are_all_different(world: World) -> None:
    token = world.token()
    found = [world.devices.post("/v1/enrol", json={"token": token}).json() for _ in range(3)]
    assert len({answer["device_id"] for answer in found}) == 3


def test_what_the_log_keeps_of_a_token_is_no_token(world: World) -> None:
    token = world.token()
    world.enrol(token)
    world.quiet()
    secret = token.rsplit(".", 1)[1].encode()
    files = [path for path in world.home.path.iterdir() if path.name.startswith("log.db")]
    assert files
    assert all(secret not in path.read_bytes() for path in files)


# --- raw bytes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"POST /v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        b"POST /v1/enrol HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{}",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_bytes_that_are_no_request_harm_nobody(still: World, data: bytes) -> None:
    before = still.quiet()
    host, port = str(still.devices.base_url).removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        line.settimeout(5)
        while line.recv(65_536):
            pass
    assert still.devices.get("/repo/metadata/1.root.json").status_code == 200
    assert still.quiet() == before
