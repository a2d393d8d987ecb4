"""The server is replaced by another process on the same ports and log, with agents attached: a pause, and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.stage import check_acknowledged, check_log, events_of, roll_out, set_up, wait_for

from tidegate.cli.demo_stage import Stage

pytestmark = [pytest.mark.room("control"), pytest.mark.room("agent")]
DEVICES = 4


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path / "stage") as found:
        yield found


def test_agents_stay_while_the_server_is_replaced_in_mid_rollout(stage: Stage) -> None:
    office, proxy = set_up(stage, DEVICES)
    try:
        name = roll_out(stage, office, max_harmed=1)
        stage.start_agents()
        pids = {number: agent.pid for number, agent in stage.agents.items()}
        wait_for(lambda: any("reports" in done.message for done in list(proxy.acknowledged)), 120)
        first = stage.server
        stage.stop_server()
        assert first is not None and first.returncode == 0, "it ends in order"
        office = stage.start_server()
        assert stage.server is not None and stage.server.pid != first.pid
        wait_for(lambda: office.get(f"/api/v1/rollouts/{name}")["phase"] == "closed", 120)
        found = office.get(f"/api/v1/rollouts/{name}")
        assert (found["confirmed"], found["reverted"], found["silent"]) == (DEVICES, 0, 0)
        assert {number: agent.pid for number, agent in stage.agents.items() if agent.poll() is None} == pids
        assert all(device.installed() and device.serves() for device in stage.devices)
    finally:
        proxy.close()
    stage.stop_server()
    events = events_of(stage.home.log)
    assert check_log(events) == {"exposed": DEVICES, "confirmed": DEVICES}
    leases, reports = check_acknowledged(events, proxy.acknowledged)
    assert leases >= DEVICES and reports >= DEVICES
