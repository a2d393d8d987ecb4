"""Operators by name: log-in, roles, what takes two people, and who did it on record."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import httpx
import pytest
from argon2 import extract_parameters
from argon2.low_level import Type
from tests.http.conftest import check_problem
from tests.http.people import WORDS, People, ready
from tests.server import COMPONENT

from tidegate.api.access import NEEDS, may
from tidegate.control.policy import Policy
from tidegate.control.state import fold
from tidegate.trust.passwords import Passwords

pytestmark = [pytest.mark.room("api"), pytest.mark.room("control")]


# --- accounts -------------------------------------------------------------------------------------------------------


def test_a_named_operator_acts_under_that_name_whatever_the_request_says(people: People) -> None:
    assert people.post("ada", "/api/v1/tokens", who="mallory", why="new site").status_code == 201
    assert people.act("token_created") == ("ada", "new site")
    assert people.clients["ada"].get("/api/v1/me").json() == {"name": "ada", "role": "operator"}


def test_passwords_are_kept_as_argon2id_hashes_in_a_file_of_ones_own(people: People, tmp_path: Path) -> None:
    file = people.world.home.passwords
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    assert set(kept) == set(WORDS)
    for name, hashed in kept.items():
        assert extract_parameters(hashed).type is Type.ID
        assert WORDS[name] not in hashed
    real = Passwords(tmp_path / "operators.json")  # the tests' servers hash more cheaply
    real.set("ada", WORDS["ada"])
    costs = extract_parameters(json.loads((tmp_path / "operators.json").read_text())["ada"])
    assert costs.type is Type.ID and costs.memory_cost >= 19 * 1024 and costs.time_cost >= 2
    assert real.check("ada", WORDS["ada"]) and not real.check("ada", WORDS["bob"]) and not real.check("eve", "x")
    logged = b"".join(repr(event).encode() for _, event in people.world.log.read())
    for word in [*WORDS.values(), *kept.values()]:
        assert word.encode() not in logged


def test_who_has_not_the_password_learns_nothing_and_is_slowed_down(people: People) -> None:
    base = str(people.world.operators.base_url)
    said = []
    for name in ("ada", "nobody-at-all", "ada"):
        reply = httpx.post(f"{base}/api/v1/sessions", json={"name": name, "password": "x" * 20}, timeout=90)
        check_problem(reply, 403, "no operator of that name has this password")
        said.append(reply.json())
    assert said[0] == said[1]
    codes = [
        httpx.post(f"{base}/api/v1/sessions", json={"name": "ada", "password": "x" * 20}, timeout=90).status_code
        for _ in range(5)
    ]
    assert codes[-1] == 429
    reply = httpx.post(f"{base}/api/v1/sessions", json={"name": "ada", "password": WORDS["ada"]}, timeout=90)
    check_problem(reply, 429, "too many attempts")  # the right one waits, too
    assert int(reply.headers["retry-after"]) >= 1
    assert people.clients["ada"].get("/api/v1/me").status_code == 200  # who is in stays in


def test_there_is_no_default_password_and_a_short_one_is_refused(people: People) -> None:
    base = str(people.world.operators.base_url)
    for password in ("", "admin", "password"):
        reply = httpx.post(f"{base}/api/v1/sessions", json={"name": "admin", "password": password}, timeout=90)
        assert reply.status_code in (400, 403, 429)
    reply = people.world.operator("/api/v1/operators", name="eve", role="admin", password="short")
    check_problem(reply, 400, "12 to 1024 characters")
    assert "eve" not in people.world.controller.state.operators.accounts


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"name": "Ada Lovelace", "role": "viewer"}, 400, "an operator's name"),
        ({"name": "local", "role": "viewer"}, 400, "an operator's name"),
        ({"name": "carl", "role": "root"}, 400, "a role is viewer"),
        ({"name": "ada", "role": "viewer"}, 409, "already"),
    ],
)
def test_what_no_account_can_be(people: People, body: dict[str, str], status: int, words: str) -> None:
    before = people.world.home.passwords.read_bytes()
    check_problem(people.world.operator("/api/v1/operators", password="long enough to be one", **body), status, words)
    assert people.world.home.passwords.read_bytes() == before


def test_a_session_ends_with_log_out_with_time_with_the_account_and_with_the_password(people: People) -> None:
    world = people.world
    people.clients["vera"].request("DELETE", "/api/v1/sessions")
    assert people.clients["vera"].get("/api/v1/status").status_code == 401
    vera = people.log_in("vera")
    assert vera.get("/api/v1/status").status_code == 200
    world.operator("/api/v1/operators/vera/disable", why="left")
    assert vera.get("/api/v1/status").status_code == 401
    reply = httpx.post(
        f"{world.operators.base_url}/api/v1/sessions", json={"name": "vera", "password": WORDS["vera"]}, timeout=90
    )
    check_problem(reply, 403, "no operator of that name has this password")
    assert people.act("operator_disabled") == ("ada", "left")
    new = {"old": WORDS["bob"], "password": "another one of bobby's"[:-6]}
    assert people.post("bob", "/api/v1/operators/bob/password", **new).status_code == 200
    assert people.clients["bob"].get("/api/v1/me").status_code == 401
    world.clock.ahead_s += 13 * 3600
    assert people.clients["ada"].get("/api/v1/me").status_code == 401


def test_ones_own_password_takes_the_old_one_and_anothers_takes_an_admin(people: People) -> None:
    word = "entirely new words"
    check_problem(people.post("ada", "/api/v1/operators/ada/password", password=word, old="wrong" * 4), 403, "old")
    check_problem(people.post("ada", "/api/v1/operators/bob/password", password=word), 403, "only an admin")
    assert people.world.operator("/api/v1/operators/ada/password", password=word).status_code == 200
    assert people.log_in("ada", word).get("/api/v1/me").json()["name"] == "ada"


# --- roles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("GET", "/api/v1/status", "viewer"),
        ("GET", "/api/v1/approvals", "viewer"),
        ("POST", "/api/v1/rollouts", "operator"),
        ("POST", "/api/v1/rollouts/x/abort", "operator"),
        ("POST", "/api/v1/devices/0/revoke", "operator"),
        ("POST", "/api/v1/tokens", "operator"),
        ("PUT", "/api/v1/payloads/aa", "operator"),
        ("POST", "/api/v1/anything/new", "operator"),
        ("POST", "/api/v1/approvals/1/grant", "approver"),
        ("POST", "/api/v1/operators", "admin"),
        ("POST", "/api/v1/operators/ada/role", "admin"),
        ("POST", "/api/v1/policy", "admin"),
        ("POST", "/api/v1/ceremonies", "admin"),
        ("POST", "/api/v1/device-secrets/rotate", "admin"),
    ],
)
def test_what_each_role_may_do(method: str, path: str, least: str) -> None:
    roles = ["viewer", "operator", "approver", "admin"]
    assert [may(role, method, path) for role in roles] == [roles.index(r) >= roles.index(least) for r in roles]
    assert not may("", method, path)
    assert NEEDS[-1][2] == "operator"  # what is not named is no viewer's


def test_a_role_is_enforced_at_the_door_and_changes_at_once(people: People) -> None:
    before = people.world.log.last
    for name, path in (
        ("vera", "/api/v1/tokens"),
        ("vera", "/api/v1/rollouts"),
        ("ada", "/api/v1/operators"),
        ("ada", "/api/v1/policy"),
        ("bob", "/api/v1/device-secrets/rotate"),
        ("ada", "/api/v1/approvals/1/grant"),
    ):
        check_problem(people.post(name, path), 403, "takes the role")
    assert people.world.quiet() == before
    assert people.world.operator("/api/v1/operators/vera/role", role="operator").status_code == 200
    assert people.post("vera", "/api/v1/tokens").status_code == 201
    people.world.operator("/api/v1/operators/vera/role", role="viewer")
    assert people.post("vera", "/api/v1/tokens").status_code == 403


# --- what takes two -------------------------------------------------------------------------------------------------


def test_starting_above_a_size_takes_somebody_else(people: People) -> None:
    body = ready(people)
    people.world.operator("/api/v1/policy", devices_alone=3)
    reply = people.post("ada", "/api/v1/rollouts", **body, why="new rules")
    assert reply.status_code == 202
    assert "4 devices" in reply.json()["reason"]
    assert people.post("ada", "/api/v1/rollouts", **body).json()["approval"] == 1  # once more is the same request
    assert not people.world.controller.state.rollouts
    check_problem(people.world.operator("/api/v1/approvals/1/grant"), 403, "by a named operator")
    check_problem(people.post("ada", "/api/v1/approvals/1/grant"), 403, "takes the role approver")
    people.world.operator("/api/v1/operators/ada/role", role="admin", why="two hats")
    state = people.world.controller.state
    waiting = [a for a in state.approvals.asked.values() if a.standing(people.world.controller.now_ms()) == "open"]
    assert {a.kind for a in waiting} == {"rollout", "operator_role"}  # more rights take two as well
    assert people.post("bob", "/api/v1/approvals/2/grant").status_code == 200
    check_problem(people.post("ada", "/api/v1/approvals/1/grant"), 403, "is your own")
    reply = people.post("bob", "/api/v1/approvals/1/grant", why="read the notes")
    assert reply.status_code == 200, reply.text
    rollout = reply.json()["done"]["rollout"]
    assert people.world.controller.state.active == {COMPONENT: rollout}
    assert people.act("rollout_started") == ("ada", "new rules (approved by bob: read the notes)")
    assert people.act("approval_granted") == ("bob", "read the notes")
    check_problem(people.post("bob", "/api/v1/approvals/1/grant"), 409, "request 1 is granted by bob")
    people.world.quiet()
    again = fold(event for _, event in people.world.log.read())
    assert again.approvals == people.world.controller.state.approvals
    assert again.operators == people.world.controller.state.operators
    assert again.identities.policy == Policy(devices_alone=3)


def test_putting_more_at_risk_and_raising_a_months_limit_take_two(people: People) -> None:
    body = ready(people)
    people.world.operator("/api/v1/policy", harmed_alone=1, raise_needs_two=True)
    assert "2 devices at risk" in people.post("ada", "/api/v1/rollouts", **body).json()["reason"]
    path = f"/api/v1/components/{COMPONENT}/budget"
    assert people.post("ada", path, max_harmed_30d=5).status_code == 200  # the first limit limits
    assert people.post("ada", path, max_harmed_30d=3).status_code == 200  # a lower one too
    reply = people.post("ada", path, max_harmed_30d=50)
    assert reply.status_code == 202
    assert people.world.controller.state.rolling[COMPONENT].max_harmed_30d == 3
    number = reply.json()["approval"]
    assert people.post("bob", f"/api/v1/approvals/{number}/grant").status_code == 200
    assert people.world.controller.state.rolling[COMPONENT].max_harmed_30d == 50


def test_going_on_after_a_halt_always_takes_two(people: People) -> None:
    world = people.world
    body = ready(people)
    devices = [world.enrol() for _ in range(2)]
    rollout = world.rollout(max_harmed=3, placebo_per_treated=0.0)
    del devices
    state = world.controller.state
    for index in state.rollouts[rollout].spec.roster[:2]:
        world.operator(f"/api/v1/devices/{index}/signal", why="down")
    world.operator(f"/api/v1/rollouts/{rollout}/abort", why="over")
    refused = people.post("ada", "/api/v1/rollouts", **body, override_halt=True)
    check_problem(refused, 400, f"rollout {rollout} was aborted by ada: over")
    check_problem(refused, 400, "start it without")
    state.rollouts[rollout].verdict = "halt"  # as the engine says it; how it comes to that is tested elsewhere
    check_problem(people.post("ada", "/api/v1/rollouts", **body), 409, "was halted")
    reply = people.post("ada", "/api/v1/rollouts", **body, override_halt=True)
    assert reply.status_code == 202 and "halted" in reply.json()["reason"]
    assert people.world.operator("/api/v1/rollouts", **body, override_halt=True).status_code == 202  # the token too
    number = reply.json()["approval"]
    assert people.post("bob", f"/api/v1/approvals/{number}/grant").status_code == 200
    # A person who ends what two began opens the candidate to nobody alone.
    world.operator(f"/api/v1/rollouts/{COMPONENT}/abort", why="not so")
    check_problem(people.post("ada", "/api/v1/rollouts", **body), 409, f"was halted in rollout {rollout}")


def test_a_request_is_refused_taken_back_or_expires_and_then_is_over(people: People) -> None:
    body = ready(people)
    people.world.operator("/api/v1/policy", devices_alone=1, approval_expires_s=600)
    first = people.post("ada", "/api/v1/rollouts", **body).json()["approval"]
    check_problem(people.post("vera", f"/api/v1/approvals/{first}/refuse"), 403, "takes the role")
    assert people.post("bob", f"/api/v1/approvals/{first}/refuse", why="not today").status_code == 200
    second = people.post("ada", "/api/v1/rollouts", **body).json()["approval"]
    assert people.post("ada", f"/api/v1/approvals/{second}/refuse").status_code == 200  # her own
    third = people.post("ada", "/api/v1/rollouts", **body).json()["approval"]
    people.world.clock.ahead_s += 601
    for number, word in ((first, "refused by bob"), (second, "refused by ada"), (third, "expired")):
        check_problem(people.post("bob", f"/api/v1/approvals/{number}/grant"), 409, word)
    check_problem(people.post("bob", "/api/v1/approvals/99/grant"), 404, "no request 99")
    assert not people.world.controller.state.rollouts


def test_a_grant_of_what_cannot_be_done_any_more_leaves_the_request_open(people: People) -> None:
    body = ready(people)
    people.world.operator("/api/v1/policy", devices_alone=3)
    number = people.post("ada", "/api/v1/rollouts", **body).json()["approval"]
    people.world.operator("/api/v1/policy", devices_alone=3, signed_reports=True)
    for index in range(4):
        people.world.operator(f"/api/v1/devices/{index}/revoke", why="sold")
    check_problem(people.post("bob", f"/api/v1/approvals/{number}/grant"), 409, "no device is in scope")
    asked = people.world.controller.state.approvals.asked[number]
    assert asked.standing(people.world.controller.now_ms()) == "open"


def test_one_person_does_not_loosen_the_rule_nor_become_two(people: People) -> None:
    world = people.world
    world.operator("/api/v1/policy", devices_alone=3)
    reply = world.operator("/api/v1/policy", devices_alone=0)
    assert reply.status_code == 202
    assert world.controller.state.identities.policy.devices_alone == 3
    assert world.operator("/api/v1/policy", devices_alone=2).status_code == 200  # tighter goes alone
    # a second account of one's own: it begins as viewer, and more takes the other person
    reply = world.operator("/api/v1/operators", name="sock", role="approver", password="nobody is two persons")
    assert reply.status_code == 202
    assert world.controller.state.operators.role("sock") == "viewer"
    # the other's account, by a new password: it falls to viewer
    assert world.operator("/api/v1/operators/bob/password", password="now it is mine, ha").status_code == 200
    assert world.controller.state.operators.role("bob") == "viewer"
