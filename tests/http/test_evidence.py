"""The policy before a rollout: the server refuses a start without evidence, and a release let through is on record."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from tests.server import COMPONENT, World

from tidegate.log.events import Act
from tidegate.trust import statement as st
from tidegate.trust.keys import create_key, key_path, load_signer


@pytest.fixture
def key(world: World) -> Path:
    directory = world.directory / "evidence-keys"
    public = create_key(directory, "gate").keyval["public"]
    demand = '[[require]]\npredicate = "vsa"\nkeys = ["gate"]\nfresh = "1d"\n'
    (world.home.path / "policy.toml").write_text(f'[keys]\ngate = "{public}"\n{demand}')
    return key_path(directory, "gate")


def hand_in(world: World, key: Path, digest: str, *, passed: bool = True) -> Any:
    subject = st.Subject("r", digest)
    made = st.summary(subject, passed, ["load"], at_s=time.time(), policy={}, inputs=[], version="1")
    text = made.signed([load_signer(key)]).data().decode()
    return world.operator(f"/api/v1/releases/{digest}/evidence", envelope=text)


def test_no_rollout_starts_without_what_the_policy_demands(world: World, key: Path) -> None:
    world.enrol()
    digest = world.release(1)
    refused = world.start()
    assert refused.status_code == 409
    assert "vsa by 0 of 1 of gate: gate has said nothing" in refused.json()["detail"]
    assert hand_in(world, key, digest, passed=False).status_code == 201
    assert "says that it failed" in world.start().json()["detail"]
    time.sleep(1.1)  # the time of a statement has whole seconds, and of two in one the worse counts
    assert hand_in(world, key, digest).json()["news"] is True
    assert world.start().status_code == 201
    started = [act for act in world.controller.state.acts if act.what == "rollout_started"]
    assert len(started[-1].body["evidence"]["envelopes"]) == 1


def test_evidence_is_kept_shown_and_on_record(world: World, key: Path) -> None:
    digest = world.release(1)
    first, again = hand_in(world, key, digest), None
    assert first.status_code == 201
    shown = world.operator(f"/api/v1/releases/{digest}/evidence", method="GET").json()
    again = world.operator(f"/api/v1/releases/{digest}/evidence", envelope=shown["evidence"][0]["text"])
    assert again.json() == {**first.json(), "news": False}
    assert shown["evidence"][0]["result"] == "PASSED" and shown["policy"] == {"demanded": True, "missing": []}
    acts = [event for _, event in world.log.read(0) if isinstance(event, Act) and event.what == "evidence_logged"]
    assert [act.body["envelope"] for act in acts] == [first.json()["envelope"]]


def test_a_release_is_let_through_only_where_the_policy_allows_it_and_with_a_reason(world: World, key: Path) -> None:
    world.enrol()
    world.release(1)
    assert "lets nothing through" in world.start(let_through=True).json()["detail"]
    policy = world.home.path / "policy.toml"
    policy.write_text("let_through = true\n" + policy.read_text())
    assert world.start().status_code == 409
    assert "say why" in world.start(let_through=True, why="").json()["detail"]
    assert world.start(let_through=True, why="the demo").status_code == 201
    body = [act for act in world.controller.state.acts if act.what == "rollout_started"][-1].body
    assert body["evidence"]["let_through"] and body["evidence"]["missing"]


def test_a_shadow_rollout_changes_nothing_and_needs_no_evidence(world: World, key: Path) -> None:
    world.enrol()
    world.release(1)
    assert world.start(shadow=True).status_code == 201


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"envelope": "{}"}, 400, "no signed envelope"),
        ({"envelope": 5}, 400, "as text"),
        ({"envelope": "{}", "more": 1}, 400, "nothing else"),
        ({}, 400, "as text"),
    ],
)
def test_bad_evidence_is_refused(world: World, key: Path, body: dict[str, Any], status: int, says: str) -> None:
    digest = world.release(1)
    reply = world.operator(f"/api/v1/releases/{digest}/evidence", **body)
    assert reply.status_code == status and says in reply.json()["detail"]
    assert world.operator(f"/api/v1/releases/{'0' * 64}/evidence", envelope="{}").status_code == 404


def test_a_broken_policy_stops_every_start(world: World, key: Path) -> None:
    world.enrol()
    world.release(1)
    (world.home.path / "policy.toml").write_text("keys = 5")
    reply = world.start(component=COMPONENT)
    assert reply.status_code == 400 and "policy.toml" in reply.json()["detail"]
