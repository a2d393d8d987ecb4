"""What the second person grants is what the first asked for: not more devices, nor another release."""

from __future__ import annotations

from typing import Any

import pytest
from tests.http.conftest import check_problem
from tests.http.people import People, ready
from tests.server import COMPONENT

from tidegate.control.acts import Who
from tidegate.control.approvals import grant
from tidegate.control.operators import Forbidden
from tidegate.control.state import fold
from tidegate.log.events import Act, Labelled

pytestmark = [pytest.mark.room("api"), pytest.mark.room("control")]
BUDGET = f"/api/v1/components/{COMPONENT}/budget"


def _asked(people: People, **changes: Any) -> int:
    """Let ada ask for a rollout that takes two; give the request's number."""
    body = ready(people)
    people.world.operator("/api/v1/policy", devices_alone=1)
    reply = people.post("ada", "/api/v1/rollouts", **{**body, **changes})
    assert reply.status_code == 202, reply.text
    return int(reply.json()["approval"])


def _grant(people: People, number: int) -> Any:
    return people.post("bob", f"/api/v1/approvals/{number}/grant")


def _shown(people: People, number: int) -> dict[str, Any]:
    rows = people.clients["vera"].get("/api/v1/approvals").json()["approvals"]
    return next(row for row in rows if row["number"] == number)


def _refused_unchanged(people: People, number: int, words: str) -> None:
    before = people.world.quiet()
    check_problem(_grant(people, number), 409, words)
    assert people.world.quiet() == before
    shown = _shown(people, number)
    assert shown["standing"] == "open" and words in shown["outdated"]


def _label(people: People, index: int, **labels: str) -> None:
    people.world.ask(lambda _, now_ms: ([Labelled(at_ms=now_ms, index=index, labels=labels, who="eve", why="x")], None))


def test_a_grant_reaches_no_device_that_was_labelled_into_the_scope_since_it_was_asked_for(people: People) -> None:
    world = people.world
    tokens = {site: world.token(labels={"site": site}) for site in ("lab", "ward")}
    for site in ("lab", "lab", "ward", "ward"):
        world.enrol(tokens[site])
    number = _asked(people, scope={"site": "lab"})
    assert _shown(people, number)["about"]["devices"] == 2 and not _shown(people, number)["outdated"]
    _label(people, 2, site="lab")
    _refused_unchanged(people, number, "1 device more than was asked for")
    _label(people, 1, site="gone")  # as many as were asked for, and not the same
    _refused_unchanged(people, number, "1 device more than was asked for")
    assert not world.controller.state.rollouts
    assert all("roster" not in act.body.get("about", {}) for act in world.controller.state.acts)
    _label(people, 2, site="ward")  # fewer is no more than was asked for
    reply = _grant(people, number)
    assert reply.status_code == 200, reply.text
    rollout = world.controller.state.rollouts[reply.json()["done"]["rollout"]]
    assert list(rollout.spec.roster) == [0]
    world.quiet()
    assert fold(event for _, event in world.log.read()).approvals == world.controller.state.approvals


def test_asked_again_after_a_change_it_is_a_request_of_its_own(people: People) -> None:
    number = _asked(people)
    body = people.world.controller.state.approvals.asked[number].body
    assert people.post("ada", "/api/v1/rollouts", **body).json()["approval"] == number
    people.world.operator("/api/v1/devices/3/revoke", why="sold")
    assert people.post("ada", "/api/v1/rollouts", **body).json()["approval"] == number + 1


def test_a_grant_starts_no_other_release_under_the_same_name(people: People) -> None:
    number = _asked(people)
    asked = people.world.controller.state.approvals.asked[number]
    asked.about["digest"] = "00" * 32  # as if the name had meant another release then
    _refused_unchanged(people, number, "another release")
    asked.about.clear()  # asked of a version that put nothing of it on record
    _refused_unchanged(people, number, "it was asked of an earlier version")


def test_an_approval_is_not_used_again_once_that_release_was_rolled_out_and_halted(people: People) -> None:
    number = _asked(people)
    people.world.operator("/api/v1/policy", devices_alone=1)
    body = people.world.controller.state.approvals.asked[number].body
    second = people.post("ada", "/api/v1/rollouts", **{**body, "canary": 1}).json()["approval"]
    rollout = _grant(people, number).json()["done"]["rollout"]
    check_problem(_grant(people, number), 409, f"request {number} is granted by bob")
    _refused_unchanged(people, second, "is active")
    people.world.operator(f"/api/v1/rollouts/{rollout}/abort", why="over")
    _refused_unchanged(people, second, f"{rollout} of this release has run since")
    people.world.controller.state.rollouts[rollout].verdict = "halt"
    _refused_unchanged(people, second, "was halted")


def test_a_raise_that_was_asked_for_from_another_limit_is_not_granted(people: People) -> None:
    people.world.operator("/api/v1/policy", raise_needs_two=True)
    people.post("ada", BUDGET, max_harmed_30d=40)
    number = people.post("ada", BUDGET, max_harmed_30d=50).json()["approval"]
    people.post("ada", BUDGET, max_harmed_30d=3)  # from here it would be a leap
    _refused_unchanged(people, number, "is 3, and was 40")
    assert people.world.controller.state.rolling[COMPONENT].max_harmed_30d == 3


def test_what_an_account_asked_for_dies_with_its_rights(people: People) -> None:
    world = people.world
    number = _asked(people)
    world.operator("/api/v1/operators/ada/disable", why="left")
    _refused_unchanged(people, number, "ada, who asked for this, may no longer do it")
    world.operator("/api/v1/operators/ada/enable", why="back")
    world.operator("/api/v1/operators/ada/role", role="viewer")
    _refused_unchanged(people, number, "ada, who asked for this, may no longer do it")
    assert not world.controller.state.rollouts


def test_more_rights_asked_for_before_an_account_was_taken_down_are_not_granted_after(people: People) -> None:
    world = people.world
    world.operator("/api/v1/policy", raise_needs_two=True)
    number = world.operator("/api/v1/operators/ada/role", role="admin").json()["approval"]
    world.operator("/api/v1/operators/ada/password", password="a word of the admin's")  # ada falls to viewer
    _refused_unchanged(people, number, "ada is viewer, and was operator")
    assert world.controller.state.operators.role("ada") == "viewer"


def test_settings_asked_for_on_top_of_other_settings_are_not_granted(people: People) -> None:
    world = people.world
    world.operator("/api/v1/policy", devices_alone=10, harmed_alone=5)
    number = world.operator("/api/v1/policy", devices_alone=20).json()["approval"]
    world.operator("/api/v1/policy", devices_alone=2)
    _refused_unchanged(people, number, "the settings have changed")
    assert world.controller.state.identities.policy.devices_alone == 2


def test_who_lost_the_role_between_the_door_and_the_decision_grants_nothing(people: People) -> None:
    number = _asked(people)
    world = people.world
    world.operator("/api/v1/operators/bob/disable", why="left")
    before = world.quiet()
    with pytest.raises(Forbidden, match="takes the role approver"):
        world.ask(lambda state, now_ms: (grant(state, now_ms, Who("bob", "", "bob"), number), None))
    assert world.quiet() == before


def test_a_large_start_in_small_slices_takes_two_all_the_same(people: People) -> None:
    world = people.world
    tokens = {site: world.token(labels={"site": site}) for site in ("lab", "ward")}
    devices = [world.enrol(tokens[site]) for site in ("lab", "lab", "ward", "ward")]
    world.release(1)
    world.operator("/api/v1/policy", devices_alone=2)
    body = {"component": COMPONENT, "release": "1", "max_harmed": 2, "placebo_per_treated": 0.0, "observe_s": 10}
    reply = people.post("ada", "/api/v1/rollouts", **body, scope={"site": "lab"})
    assert reply.status_code == 201, reply.text
    name = reply.json()["rollout"]
    world.quiet()
    leases = [device.announce(name).json()["lease_id"] for device in devices[:2]]
    world.pass_s(3)
    for device, lease in zip(devices, leases, strict=False):
        assert device.report(lease).status_code == 200
    people.post("ada", f"/api/v1/rollouts/{name}/abort")
    reply = people.post("ada", "/api/v1/rollouts", **body, scope={"site": "ward"}, allow_hold=True)
    assert reply.status_code == 202, reply.text
    assert "earlier rollouts of this release" in reply.json()["reason"]


def test_a_request_of_an_earlier_version_is_still_read() -> None:
    body = {"number": 1, "kind": "budget", "body": {"component": COMPONENT, "max_harmed_30d": 5}, "account": "ada"}
    more = {"reason": "it raises", "expires_ms": 90_000_000}
    state = fold([Act(at_ms=1000, what="approval_asked", who="ada", why="", body={**body, **more})])
    assert state.approvals.asked[1].about == {} and state.approvals.asked[1].standing(2000) == "open"
