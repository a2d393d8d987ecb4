"""Two vendors' faulty releases at the same time, on real agents: no service with redundancy goes below its k."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.stage import events_of, tidegate, wait_for

from tidegate.agent.enrol import enrol
from tidegate.cli.demo_stage import DemoDevice, Stage
from tidegate.cli.init import make_control_plane
from tidegate.cli.office import OfficeClient
from tidegate.cli.release_files import SpeedOptions, create_draft
from tidegate.cli.releases import sign_with, submit
from tidegate.core.model import Health, Probe
from tidegate.exposure.estate import Estate
from tidegate.exposure.reading import parse_estate

pytestmark = [pytest.mark.room("exposure"), pytest.mark.room("control"), pytest.mark.room("agent")]

COMPONENTS = ("edr-rules", "dns-filter")
PLACES = ["desk"] * 6 + ["radar-1", "radar-2"]
ESTATE = """
components:
  edr-rules: {vendor: V1, privilege: kernel, kind: content}
  dns-filter: {vendor: V2, privilege: kernel, kind: content}
groups:
  desks: {alive: 4, select: place=desk}
  radar-1: {select: place=radar-1}
  radar-2: {select: place=radar-2}
services:
  check-in: desks
  approach: {any: [radar-1, radar-2]}
  archive: {needs: radar-2, approver: ines}
"""


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path / "stage") as found:
        make_control_plane(found.home, found.offline, list(COMPONENTS))
        yield found


def set_up(stage: Stage) -> OfficeClient:
    """Eight agents that carry a component of each vendor, and a faulty release of each."""
    office = stage.start_server()
    for number, place in enumerate(PLACES):
        body: dict[str, Any] = {"labels": {"place": place}, "uses": 1, "expires_s": 600}
        token = office.post("/api/v1/tokens", body, "test")["token"]
        path = stage.path / f"device-{number:02d}"
        identity = enrol(path / "agent", office.devices_url, token, components=COMPONENTS, poll_s=0.4)
        stage.devices.append(DemoDevice(number, path, identity.device_id))
    for component in COMPONENTS:
        source = stage.path / f"faulty-{component}"
        source.mkdir()
        (source / "poison").write_text("takes the device down")
        calm = Health(soak_s=1, probes=(Probe("calm", ("test", "!", "-e", "{current}/poison")),))
        place = stage.path / f"release-{component}"
        draft = create_draft(source, place, component=component, version="1", seq=1, driver="files", health=calm)
        sign_with(office, draft, place, stage.offline, SpeedOptions.for_trial(3600))
        submit(office, draft, place, "test")
    (stage.path / "estate.yaml").write_text(ESTATE)
    return office


def start(stage: Stage, component: str, *words: str) -> Any:
    """Start a rollout as an operator does."""
    return tidegate(
        stage, "rollout", "start", "--component", component, "--release", "1", "--max-harmed", "3",
        "--placebo-per-treated", "1", "--observe", "30s", "--allow-hold", *words,
    )  # fmt: skip


def worst(events: list[dict[str, Any]], estate: Estate) -> dict[str, set[int]]:
    """The devices of each group that were exposed and never confirmed, over both rollouts."""
    hit: dict[str, set[int]] = {name: set() for name in estate.groups}
    for event in events:
        if event["kind"] == "leased" and event["arm"] == "treated":
            for name, group in estate.groups.items():
                if all(event["labels"].get(label) == value for label, value in group.select):
                    hit[name].add(event["index"])
    return hit


def run(stage: Stage, *words: str) -> dict[str, set[int]]:
    """Both rollouts at once, until their first devices have failed and nothing more happens."""
    for component in COMPONENTS:
        done = start(stage, component, *words)
        assert done.returncode == 0, done.stderr
    stage.start_agents()
    office = OfficeClient(stage.home.path)

    def failed() -> int:
        return sum(rollout["reverted"] for rollout in office.get("/api/v1/rollouts")["rollouts"])

    wait_for(lambda: failed() >= 2, 60)
    seen, quiet_since = -1, time.monotonic()
    while time.monotonic() - quiet_since < 4:
        if failed() != seen:
            seen, quiet_since = failed(), time.monotonic()
        time.sleep(0.2)
    devices = [{"count": 1, "labels": {"place": place}} for place in PLACES]
    estate = parse_estate(ESTATE + "devices: " + json.dumps(devices))
    stage.kill_server()
    return worst(events_of(stage.home.path / "log.db"), estate)


def test_no_service_with_redundancy_goes_below_its_k(stage: Stage) -> None:
    set_up(stage)
    file = ("--lanes", "auto", "--estate", str(stage.path / "estate.yaml"))
    refused = start(stage, "edr-rules", *file)
    assert refused.returncode == 1 and "archive could fall" in refused.stderr and "ines" in refused.stderr
    hit = run(stage, *file, "--approved-by", "ines")
    assert sum(map(len, hit.values())) >= 2, "there was harm to contain"
    assert len(hit["desks"]) <= 2, "check-in keeps 4 of its 6 desks"
    assert not (hit["radar-1"] and hit["radar-2"]), "approach keeps one of its radars"


@pytest.mark.slow
def test_without_lanes_the_same_two_releases_take_a_service(stage: Stage) -> None:
    """Each rollout halts at its second failure, within its own budget; together they are too much."""
    set_up(stage)
    hit = run(stage)
    assert len(hit["desks"]) > 2 or (hit["radar-1"] and hit["radar-2"])
