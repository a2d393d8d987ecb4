"""Small: what an idle agent holds, what a poll and a start cost, counted in memory and processor time, not in waits."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.agent.enrol import enrol

from .agent_device import quick_directory
from .agent_server import World

LIMIT_KB = 40 * 1024
IDLE_SHARE, POLL_S = 0.001, 60.0
START_S = 0.5

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="memory is read in /proc")


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_directory() as directory:
        yield directory


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def cpu_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def test_an_idle_agent_is_small(place: Path) -> None:
    """An agent that has installed a release and goes on polling; and the start of one that is up to date."""
    world = World(place / "server", lambda: int(time.time()))
    home = place / "home"
    enrol(home, world.address, world.token, {}, {}, (), {}, 0.1)
    world.publish(world.release(1, {"rules": "good"}, soak_s=1))
    around = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTHON"))}
    command = [sys.executable, "-m", "tidegate.agent", "--home", str(home)]
    agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=around)

    def polled() -> int:
        return world.asked.count("metadata/timestamp.json")

    def until(polls: int) -> None:
        give_up = time.monotonic() + 60
        while polled() < polls or not world.kinds():
            assert agent.poll() is None and time.monotonic() < give_up
            time.sleep(0.02)

    try:
        until(10)
        before_s, before = cpu_s(agent.pid), polled()
        until(before + 30)
        poll_s = (cpu_s(agent.pid) - before_s) / (polled() - before)
        assert resident_kb(agent.pid) <= LIMIT_KB
        assert poll_s / POLL_S <= IDLE_SHARE, f"{1000 * poll_s:.1f} ms of processor time a poll"
    finally:
        agent.kill()
        agent.wait()
    took: list[float] = []
    for _ in range(3):
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*command, "--once"], check=True, capture_output=True, timeout=60, env=around)
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)
    assert min(took) < START_S, "processor time from its start to its decision, and to its end"
    assert "up to date" in (home / "status.json").read_text()
    world.close()
