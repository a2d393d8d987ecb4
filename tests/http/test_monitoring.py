"""What monitors read: health, readiness and metrics; the dashboard and the alerts name nothing that is not there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
import structlog
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.server import COMPONENT, World

from tidegate.control.controller import Controller

pytestmark = [pytest.mark.room("api"), pytest.mark.room("control")]
PROJECT = Path(__file__).parents[2]
MONITORING = PROJECT / "packaging" / "monitoring"
REQUESTS = "tidegate_intake_requests_total"
ELSEWHERE = {
    "tidegate_collector_waiting",
    "tidegate_collector_reached",
    "tidegate_rollout_limit_opens_timestamp_seconds",  # tests/http/test_speed_limit.py
    "tidegate_connections_open",  # tests/e2e/test_server_connections.py
    "tidegate_connections_max",
    "tidegate_connections_refused_total",
    "tidegate_connections_dropped_total",
    "tidegate_tls_certificate_expires_in_seconds",  # tests/e2e/test_tls.py
    "tidegate_ledger_witness_behind_entries",  # tests/e2e/test_ledger_witness.py
}
"""Shown by collectors alone, by real processes, with TLS, and with witnesses."""


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_figures_follow_a_rollout(world: World) -> None:
    devices = [world.enrol() for _ in range(4)]
    world.release(1)
    rollout = world.rollout(max_harmed=3, placebo_per_treated=0.0, observe_s=600)
    granted = [(device, said) for device in devices if "lease_id" in (said := device.announce(rollout).json())]
    assert len(granted) == 3, "the ring has three of the four"
    for (device, said), kind in zip(granted, ("confirmed", "reverted"), strict=False):
        assert device.report(said["lease_id"], kind).status_code == 200
    world.devices.post("/v1/reports", json={})
    world.quiet()
    reply = world.operators.get("/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain")
    found = samples(reply.text)
    names = (("component", COMPONENT), ("rollout", rollout))
    standing = {
        dict(labels)["standing"]: value for (name, labels), value in found.items() if name == "tidegate_rollout_devices"
    }
    evidence = world.controller.state.rollouts[rollout].evidence
    assert standing["confirmed"] == evidence.confirmed == 1, (standing, granted)
    assert standing["reverted"] == evidence.reverted == 1
    assert sum(standing.values()) == 4
    assert found["tidegate_devices", ()] == 4
    assert found["tidegate_rollout_budget_used", names] == 1
    assert found["tidegate_rollout_budget_max", names] == 3
    assert found["tidegate_controller_trouble", ()] == 0
    assert found["tidegate_log_events_total", ()] == world.log.last
    assert found["tidegate_log_append_seconds_count", ()] > 3
    assert found["tidegate_intake_requests_total", (("route", "/v1/enrol"), ("status", "200"))] == 4
    assert found["tidegate_intake_requests_total", (("route", "/v1/reports"), ("status", "401"))] == 1
    phases = {dict(labels)["phase"] for (name, labels), v in found.items() if name == "tidegate_rollout_phase" and v}
    assert phases == {world.controller.state.rollouts[rollout].phase.value}
    world.devices.post("/v1/whatever-a-stranger-asks")
    world.devices.get("/v1/and-that")
    routes = {dict(labels).get("route") for name, labels in samples(world.operators.get("/metrics").text)}
    assert routes <= {None, "/v1/enrol", "/v1/announce", "/v1/reports", "/v1/renew", "other"}
    shown = {name for name, _ in found}
    assert wanted_names() - shown <= ELSEWHERE, "the dashboard or an alert asks for what nobody shows"


def test_the_first_refusal_is_a_step_that_a_rate_sees(world: World) -> None:
    def refused() -> dict[tuple[str, ...], float]:
        found = samples(world.operators.get("/metrics").text)
        counted = {tuple(value for _, value in labels): v for (name, labels), v in found.items() if name == REQUESTS}
        return {key: value for key, value in counted.items() if key[1] in ("401", "403", "412")}

    before = refused()
    assert len(before) == 12 and not any(before.values()), "four routes, three refusals, from 0 on"
    assert world.devices.post("/v1/announce", json={}).status_code == 401
    assert refused() == {**before, ("/v1/announce", "401"): 1}


def wanted_names() -> set[str]:
    texts = [path.read_text() for path in MONITORING.iterdir() if path.suffix in (".json", ".yml")]
    found = set(re.findall(r"\b(?:tidegate|process)_[a-z_]+\b(?!\.token)", "\n".join(_expressions(texts))))
    assert len(found) > 15
    return found


def _expressions(texts: list[str]) -> list[str]:
    return [found for text in texts for found in re.findall(r'(?:"expr": |expr: )(.*)', text)]


def test_figures_need_an_account(still: World) -> None:
    bare = httpx.get(f"{still.operators.base_url}/metrics")
    assert bare.status_code == 401
    assert "tidegate_devices" not in bare.text


def test_the_dashboard_is_one_that_grafana_reads() -> None:
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    assert board["title"] == "Tidegate"
    places: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["targets"]
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            assert x < 24
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in places, f"{panel['title']} lies upon another"
                places.add((x, y))
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_every_alert_has_its_runbook() -> None:
    rules = yaml.safe_load((MONITORING / "tidegate-alerts.yml").read_text())["groups"][0]["rules"]
    text = (PROJECT / "docs" / "operations.md").read_text()
    sections = {found.lower(): found for found in re.findall(r"^### (\w+)$", text, re.MULTILINE)}
    assert len(rules) >= 12
    for rule in rules:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert sections.pop(rule["alert"].lower(), "") == rule["alert"], f"{rule['alert']} has no section"
    assert not sections, f"sections without an alert: {sections}"


def test_readiness_says_what_is_wrong(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.operators.get("/readyz").json() == {"ready": True, "trouble": ""}
    with monkeypatch.context() as patch:
        patch.setattr(Controller, "trouble", "the log took nothing: disk full")
        reply = world.operators.get("/readyz")
        assert (reply.status_code, reply.json()["trouble"]) == (503, "the log took nothing: disk full")
        assert samples(world.operators.get("/metrics").text)["tidegate_controller_trouble", ()] == 1
    assert world.operators.get("/healthz").json() == {"alive": True}


def test_the_diary_names_rollouts_and_devices_and_no_secret(world: World) -> None:
    with structlog.testing.capture_logs() as lines:
        token = world.token()
        device = world.enrol(token)
        world.release(1)
        rollout = world.rollout(max_harmed=1, placebo_per_treated=0.0)
        lease = device.announce(rollout).json()
        device.report(lease["lease_id"], "reverted", note="it crashed")
        world.quiet()
    leased = next(line for line in lines if line["event"] == "leased")
    assert (leased["log_level"], leased["rollout"], leased["device"], leased["arm"]) == ("debug", rollout, 0, "treated")
    back = next(line for line in lines if line["event"] == "reverted")
    assert (back["log_level"], back["device_id"], back["note"]) == ("info", device.device_id, "it crashed")
    assert any(line["event"] == "verdict" and line["rollout"] == rollout and line["sentence"] for line in lines)
    assert any(line["event"] == "plan published" and line["edition"] for line in lines)
    started = next(line for line in lines if line.get("act") == "rollout_started")
    assert (started["who"], started["why"], started["rollout"]) == ("ada", "test", rollout)
    text = json.dumps(lines, default=str)
    secret = world.controller.state.rollouts[rollout].spec.arm_secret
    assert secret not in text
    assert token.rpartition(".")[2] not in text
    assert device.credential not in text
    assert all(found.token_hash not in text for found in world.controller.state.tokens.values())
