"""What operators send: malformed, unsigned, without the token or too early, it is refused, and nothing changes."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest
from tests.http.conftest import Refuses, check_problem
from tests.server import COMPONENT, OTHER, Device, World

from tidegate.control.state import fold
from tidegate.core.wire import encode
from tidegate.trust.credentials import load_secrets
from tidegate.trust.layout import release_role
from tidegate.trust.metadata import latest_bytes

pytestmark = [pytest.mark.room("api")]

PATHS = ["/api/v1/status", "/api/v1/devices", "/api/v1/releases", "/api/v1/rollouts", "/", "/nothing", "/docs"]


# --- who asks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", "Basic eDp5"])
def test_without_the_operators_token(still: World, refuses: Refuses, path: str, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    with refuses(still, 401, "operators' token") as replies:
        for method in ("GET", "POST", "PUT"):
            request = still.operators.build_request(method, path, content=b"{}")
            del request.headers["authorization"]
            request.headers.update(headers)
            replies.append(still.operators.send(request))


def test_anyone_may_ask_whether_it_lives(still: World) -> None:
    for path in ("/healthz", "/readyz"):
        request = still.operators.build_request("GET", path)
        del request.headers["authorization"]
        assert still.operators.send(request).status_code == 200


def test_a_device_has_no_way_into_the_operators_port(still: World, refuses: Refuses) -> None:
    device = still.enrol()
    with refuses(still, 401, "operators' token") as replies:
        replies.append(
            still.operators.get("/api/v1/devices", headers={"authorization": f"Tidegate {device.credential}"})
        )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b"{}", "must name who asks"),
        (b'{"who": ""}', "must name who asks"),
        (b'{"who": 3}', "must name who asks"),
        (b'{"who": "ada", "why": []}', "must name who asks"),
        (b'{"who": "ada", "why": "\\ud800"}', "not JSON"),
        (b'{"who": "ada", "uses": NaN}', "not JSON"),
        (b'{"who": "ada", "uses": "1"}', "token.uses must be a whole number"),
        (b'{"who": "ada", "uses": 0}', "uses must be 1 to"),
        (b'{"who": "ada", "uses": 1e400}', "not JSON"),
        (b'{"who": "ada", "expires_s": 0}', "must expire within"),
        (b'{"who": "ada", "expires_s": 100000000000000000000}', "token.expires_s must be a whole number"),
        (b'{"who": "ada", "labels": {"Site": "x"}}', "label must be 1 to 63"),
        (b'{"who": "ada", "labels": {"site": ""}}', "the value must have 1 to 100"),
        (b'{"who": "ada", "labels": {"site": 1}}', "token.labels.site must be a text"),
        (b'{"who": "ada", "more": 1}', "no field 'more'"),
    ],
)
def test_a_request_that_cannot_be_read(still: World, refuses: Refuses, body: bytes, words: str) -> None:
    with refuses(still, 400, words) as replies:
        replies.append(still.operators.post("/api/v1/tokens", content=body))


def test_a_body_that_is_too_large(still: World, refuses: Refuses) -> None:
    with refuses(still, 400, "larger than 8,388,608 bytes") as replies:
        replies.append(still.operators.post("/api/v1/tokens", content=b" " * (8 * 1024 * 1024 + 1)))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/api/v1/status", 405),
        ("DELETE", "/api/v1/rollouts", 405),
        ("PUT", "/api/v1/tokens", 405),
        ("GET", "/api/v1", 404),
        ("GET", "/api/v1/rollouts/dreamt", 404),
        ("POST", "/api/v1/rollouts/dreamt/pause", 404),
        ("GET", "/api/v1/devices/999", 404),
        ("GET", "/api/v1/devices/abcdef/why", 404),
        ("GET", "/api/v1/devices?limit=x", 400),
        ("GET", "/api/v1/devices?offset=-1", 400),
        ("GET", f"/api/v1/devices?limit={'9' * 5000}", 400),
        ("GET", "/api/v1/devices?os=win11", 400),
        ("GET", "/api/v1/devices?label%3Dos=win11", 400),
        ("GET", "/api/v1/devices?label=os", 400),
        ("GET", "/api/v1/devices?label=os=a&label=os=b", 400),
        ("GET", "/api/v1/inventory?label=os=a", 400),
        ("GET", "/api/v1/rollouts/dreamt?device=1", 400),
        ("GET", "/api/v1/approvals?all=1", 400),
        ("GET", "/api/v1/timeline?device=1&since=3", 400),
        ("GET", "/api/v1/components/%2e%2e/releases", 400),
        ("GET", "/api/v1/components/UPPER/releases", 400),
        ("GET", "/api/v1/components/unknown/releases", 404),
        ("PUT", "/api/v1/payloads/abc", 400),
        ("PUT", f"/api/v1/payloads/{'%2e%2e' * 3}", 400),
    ],
)
def test_unknown_paths_methods_and_names(still: World, refuses: Refuses, method: str, path: str, status: int) -> None:
    with refuses(still, status, "") as replies:
        replies.append(still.operators.request(method, path, content=b'{"who": "ada"}'))
    assert replies[0].json()["detail"]


# --- releases -------------------------------------------------------------------------------------------------------


def test_a_payload_that_is_not_its_digest_is_refused(world: World, refuses: Refuses) -> None:
    draft = world.draft(1)
    with refuses(world, 403, f"has digest {hashlib.sha256(b'other').hexdigest()}, not") as replies:
        replies.append(world.operators.put(f"/api/v1/payloads/{draft.manifest.payload.sha256}", content=b"other"))
    sha256 = hashlib.sha256(b"no archive").hexdigest()
    with refuses(world, 400, "") as replies:
        replies.append(world.operators.put(f"/api/v1/payloads/{sha256}", content=b"no archive"))
    assert not list((world.home.repository / "payloads").glob("*.tar"))


def test_a_release_whose_payload_has_not_been_sent(world: World, refuses: Refuses) -> None:
    draft = world.draft(1)
    body = {"component": COMPONENT, "releases": world.sign(draft).decode(), "manifest": draft.manifest_bytes.decode()}
    with refuses(world, 404, "the payload is not there") as replies:
        replies.append(world.operator("/api/v1/releases", **body))


def test_a_stored_payload_that_was_damaged_is_found_when_the_release_comes(world: World, refuses: Refuses) -> None:
    draft = world.draft(1)
    signed = world.sign(draft)
    world.operators.put(f"/api/v1/payloads/{draft.manifest.payload.sha256}", content=draft.payload)
    file = world.home.repository / "payloads" / f"{draft.manifest.payload.sha256}.tar"
    file.write_bytes(draft.payload[:-1] + b"x")
    body = {"component": COMPONENT, "releases": signed.decode(), "manifest": draft.manifest_bytes.decode()}
    with refuses(world, 403, "payload") as replies:
        replies.append(world.operator("/api/v1/releases", **body))
    assert world.release(1), "sending it again mends it"


def test_a_release_signed_by_too_few_keys(world: World, refuses: Refuses) -> None:
    draft = world.draft(1)
    signed = json.loads(world.sign(draft))
    assert len(signed["signatures"]) == 3, "two of the three keys are enough"
    role = latest_bytes(world.home.repository, release_role(COMPONENT))
    few = {**signed, "signatures": signed["signatures"][:1]}
    twice = {**signed, "signatures": signed["signatures"][:1] * 2}
    none = {**signed, "signatures": []}
    changed = json.loads(json.dumps(signed))
    changed["signed"]["version"] += 1
    with refuses(world, 403, "") as replies:
        for metadata in (few, none, changed):
            replies.append(world.submit(draft, json.dumps(metadata).encode()))
    before = world.quiet()
    reply = world.submit(draft, json.dumps(twice).encode())
    check_problem(reply, reply.status_code, "")
    assert reply.status_code in (400, 403)
    assert world.quiet() == before
    assert latest_bytes(world.home.repository, release_role(COMPONENT)) == role
    enough = {**signed, "signatures": signed["signatures"][1:]}
    assert world.submit(draft, json.dumps(enough).encode()).status_code == 201


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"manifest": "{"}, 400, "the manifest is not JSON"),
        ({"manifest": "{}"}, 400, "the manifest.component is missing"),
        ({"manifest": 3}, 400, "release.manifest must be a text"),
        ({"releases": "{}"}, 400, "the signed list of releases"),
        ({"component": "dreamt"}, 404, "dreamt"),
        ({"component": "../x"}, 400, "component must be"),
        ({"component": OTHER}, 400, "the manifest is of component"),
        ({"more": 1}, 400, "no field 'more'"),
    ],
)
def test_a_release_that_does_not_hold_together(
    world: World, refuses: Refuses, change: dict[str, Any], status: int, words: str
) -> None:
    with refuses(world, status, words) as replies:
        replies.append(world.submit(world.draft(1), **change))


def test_a_manifest_that_is_not_the_one_that_was_signed(world: World, refuses: Refuses) -> None:
    draft = world.draft(1)
    for old, new, status in ((b'"soak_s":2', b'"soak_s":0', 403), (b'"seq":1', b'"seq":2', 400)):
        assert old in draft.manifest_bytes
        with refuses(world, status, "") as replies:
            replies.append(world.submit(draft, manifest=draft.manifest_bytes.replace(old, new).decode()))
    with refuses(world, 400, "not in its canonical form") as replies:
        replies.append(world.submit(draft, manifest=draft.manifest_bytes.decode() + " "))
    with refuses(world, 400, "no field 'mood'") as replies:
        bad = draft.manifest_bytes.replace(b'"notes"', b'"mood":{},"notes"')
        replies.append(world.submit(draft, manifest=bad.decode()))
    assert not world.controller.state.releases


def test_a_release_that_comes_twice_is_one(world: World) -> None:
    draft = world.draft(1)
    signed = world.sign(draft)
    first = world.submit(draft, signed)
    before = world.quiet()
    second = world.submit(draft, signed)
    assert (first.json()["news"], second.json()["news"]) == (True, False)
    assert first.json()["digest"] == second.json()["digest"] == draft.digest
    assert world.quiet() == before
    assert len(world.operator("/api/v1/releases", method="GET").json()["releases"]) == 1


def test_a_list_that_was_signed_upon_an_older_one(world: World, refuses: Refuses) -> None:
    one, two = world.draft(1), world.draft(2)
    stale = world.sign(two)
    assert world.submit(one).status_code == 201
    with refuses(world, 403, "sign upon the newest list") as replies:
        replies.append(world.submit(two, stale))
    assert world.submit(two).status_code == 201


# --- rollouts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def ready(world: World) -> World:
    for number in range(6):
        world.enrol(world.token(labels={"site": ("ATL", "CDG")[number % 2]}))
    world.release(1)
    return world


ODD: list[dict[str, Any]] = [
    {name: value}
    for name, values in {
        "max_harmed": [0, -1, 10**30, 2**63 - 1, 1.5, "3", None],
        "confidence": [0, 1, 2, -1, 1e-320, 1 - 1e-17, "x"],
        "false_halt": [0, 1, -0.5, 1e-320],
        "canary": [-1, 10**12],
        "max_silent": [-1, 10**12],
        "placebo_per_treated": [-1, 1e308, 1001, "4"],
        "silent_rate": [-0.1, 1, 1.5, 1e308],
        "reverted_bound": [0, 1, -1],
        "late_budget_share": [-0.1, 1, 1e308],
        "observe_s": [-1, 1, 2, 10**9, 10**30],
        "spread_s": [-1, 10**9, 10**30],
        "deadline_s": [-1, 0, 10**30],
        "scope": [{"site": 1}, [], {"": ""}],
        "caps": [{"site": 0}, {"site": -1}, {"site": "1"}, {"site": 10**30}],
        "scouts": ["site", [1], {}],
        "shadow": [1, "yes"],
        "component": ["", "../x", "dreamt", 3],
        "release": ["", "9", "dreamt", 1],
        "more": [1],
    }.items()
    for value in values
]


def test_odd_values_are_refused_or_taken_and_never_break_the_server(ready: World) -> None:
    """Each of them alone; whatever is taken must run, be aborted, and replay."""
    before = ready.quiet()
    taken = []
    for change in ODD:
        reply = ready.start(**change)
        if reply.status_code != 201:
            assert reply.status_code in (400, 404, 409), f"{change}: {reply.text}"
            check_problem(reply, reply.status_code, "")
            assert ready.quiet() == before, f"{change} was refused and changed the state"
            continue
        taken.append(change)
        name = reply.json()["rollout"]
        ready.pass_s(1)
        assert ready.operator(f"/api/v1/rollouts/{name}/abort").status_code == 200, change
        before = ready.quiet()
        assert fold(event for _, event in ready.log.read()).rollouts[name].phase.value == "halted"
    assert taken, "some of them are no more than unusual"
    assert ready.operator("/api/v1/status", method="GET").json()["trouble"] == ""


def test_a_second_rollout_of_a_component_is_refused_while_one_is_active(ready: World, refuses: Refuses) -> None:
    name = ready.rollout()
    with refuses(ready, 409, f"rollout {name} of {COMPONENT} is active") as replies:
        replies.append(ready.start())
    assert ready.operator(f"/api/v1/rollouts/{name}/abort").status_code == 200
    assert ready.start().status_code == 201


def test_a_halted_candidate_is_refused_for_good(ready: World, refuses: Refuses) -> None:
    name = ready.rollout()
    rollout = ready.controller.state.rollouts[name]
    canaries = [index for index in range(6) if rollout.rings.treated[rollout.position[index]] == 1]
    for index in canaries[:2]:
        device = _device(ready, index)
        device.report(device.announce(name).json()["lease_id"], "reverted")
    ready.quiet()
    assert rollout.phase.value == "halted"
    with refuses(ready, 409, f"this candidate was halted in rollout {name}") as replies:
        replies.append(ready.start())
    for verb in ("pause", "resume", "abort"):
        with refuses(ready, 409, f"rollout {name} is halted: it cannot be") as replies:
            replies.append(ready.operator(f"/api/v1/rollouts/{name}/{verb}"))


def _device(world: World, index: int) -> Device:
    device_id = world.controller.state.devices[index].device.device_id
    credential = load_secrets(world.home.device_secrets).credential(1, index, device_id)
    return Device(world, {"device_id": device_id, "index": index, "credential": credential})


def test_steering(ready: World, refuses: Refuses) -> None:
    name = ready.rollout()
    with refuses(ready, 409, "it cannot be resumed") as replies:
        replies.append(ready.operator(f"/api/v1/rollouts/{name}/resume"))
    with refuses(ready, 404, "can be pause, resume, abort, not 'stop'") as replies:
        replies.append(ready.operator(f"/api/v1/rollouts/{name}/stop"))
    with refuses(ready, 400, "must name who asks") as replies:
        replies.append(ready.operators.post(f"/api/v1/rollouts/{name}/pause", content=b"{}"))
    assert ready.operator(f"/api/v1/rollouts/{COMPONENT}/pause").json()["phase"] == "paused"
    with refuses(ready, 409, "it cannot be paused") as replies:
        replies.append(ready.operator(f"/api/v1/rollouts/{name}/pause"))
    assert ready.operator(f"/api/v1/rollouts/{name}/resume").json()["phase"] == "open"
    with refuses(ready, 400, "say why (--why)") as replies:
        replies.append(ready.operator(f"/api/v1/rollouts/{name}/abort", why=""))
        replies.append(ready.operator(f"/api/v1/rollouts/{name}/abort", why="  "))
    assert ready.controller.state.rollouts[name].phase.value == "open"
    found = ready.operator(f"/api/v1/rollouts/{name}/abort").json()
    assert (found["phase"], found["sentence"]) == ("halted", "aborted by ada: test")


def test_a_roster_without_devices(world: World, refuses: Refuses) -> None:
    world.release(1)
    world.enrol()
    with refuses(world, 409, "no device is in scope") as replies:
        replies.append(world.start())
    world.release(2)
    with refuses(world, 409, "no device is in scope") as replies:
        replies.append(world.start(release="2", scope={"site": "NRT"}))


def test_a_shadow_rollout_of_a_small_fleet_ends_and_exposes_nobody(ready: World) -> None:
    name = ready.rollout(shadow=True, placebo_per_treated=1.0)
    for index in range(6):
        device = _device(ready, index)
        answer = device.announce(name).json()
        assert answer["arm"] == "placebo"
        device.report(answer["lease_id"])
    ready.pass_s(30)
    view = ready.operator(f"/api/v1/rollouts/{name}", method="GET").json()
    assert (view["phase"], view["exposed"]) == ("closed", 0), view
    assert "shadow" in view["sentence"]


def test_devices_are_found_by_index_id_and_first_digits(ready: World) -> None:
    row = ready.controller.state.devices[4]
    for name in ("4", row.device.device_id, row.device.device_id[:9]):
        found = ready.operator(f"/api/v1/devices/{name}", method="GET").json()
        assert found["device_id"] == row.device.device_id
    page = ready.operator("/api/v1/devices", method="GET", limit=2, offset=1).json()
    assert (page["total"], [device["index"] for device in page["devices"]]) == (6, [1, 2])
    page = ready.operator("/api/v1/devices", method="GET", label="site=CDG").json()
    assert [device["index"] for device in page["devices"]] == [1, 3, 5]
    assert re.fullmatch(r"[0-9a-f]{32}", page["devices"][0]["device_id"])


def test_the_status_says_what_there_is(ready: World) -> None:
    name = ready.rollout()
    found = ready.operator("/api/v1/status", method="GET").json()
    assert (found["devices"], found["releases"], found["trouble"]) == (6, 1, "")
    assert [rollout["rollout"] for rollout in found["rollouts"]] == [name]
    release = ready.controller.state.releases[found["rollouts"][0]["release"]["digest"]]
    assert hashlib.sha256(encode(release.manifest)).hexdigest() == release.digest


def test_devices_are_listed_by_label_however_it_is_encoded(world: World) -> None:
    for site in ("ATL", "ATL", "C&G"):
        world.enrol(world.token(labels={"site": site}))
    ask = world.operators.get
    assert ask("/api/v1/devices?label=site=ATL").json()["total"] == 2
    assert ask("/api/v1/devices?label=site%3DATL").json()["total"] == 2
    assert ask("/api/v1/devices", params={"label": "site=C&G"}).json()["total"] == 1
    assert ask("/api/v1/devices?label=site=nowhere").json()["total"] == 0
    assert ask("/api/v1/devices?label=size=ATL").json()["total"] == 0
