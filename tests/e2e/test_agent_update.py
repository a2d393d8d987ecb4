"""The agent updates itself: real agents from real slots under the real launcher, good ones, broken ones, placebos."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.agent_device import quick_directory
from tests.e2e.agent_server import World

import tidegate
from tidegate.agent import launch
from tidegate.agent.config import Home
from tidegate.agent.enrol import enrol
from tidegate.agent.slots import Slots
from tidegate.core.model import Candidate
from tidegate.drivers import own

pytestmark = [pytest.mark.room("agent"), pytest.mark.timeout(240)]

AGENT = "agent"
ROOMS = ("agent", "core", "drivers", "trust")
START = """#!{python} -B
import sys
from tidegate.agent.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def tree(version: str) -> dict[str, str]:
    """A whole agent: the program, and the rooms that it needs, in a version of its own."""
    source = Path(tidegate.__file__).parent
    found = {
        f"tidegate/{p.relative_to(source)}": p.read_text() for room in ROOMS for p in (source / room).rglob("*.py")
    }
    found["tidegate/__init__.py"] = f'__version__ = "{version}"\n'
    return {**found, "tidegate-agent": START.format(python=sys.executable)}


def deaf(version: str) -> dict[str, str]:
    """An agent that starts, and can never read the signed state."""
    found = tree(version)
    name, line = "tidegate/agent/plans.py", "            if self._trust.refresh():\n"
    assert line in found[name]
    found[name] = found[name].replace(line, f"            raise OSError('this agent is deaf')\n{line}")
    return found


def crashing(version: str) -> dict[str, str]:
    return {**tree(version), "tidegate-agent": f"#!{sys.executable}\nraise SystemExit('this agent is broken')\n"}


def hanging(version: str) -> dict[str, str]:
    return {**tree(version), "tidegate-agent": f"#!{sys.executable}\nimport time\ntime.sleep(1000)\n"}


class Machine:
    """A device whose agent is started by its launcher."""

    def __init__(self, place: Path) -> None:
        self.world = World(place / "world", lambda: int(time.time()), (AGENT,))
        self.home = place / "home"
        self.log = place / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def enrol(self, **settings: str) -> None:
        enrol(self.home, self.world.address, self.world.token, {}, {}, (), {AGENT: settings}, 0.2)

    def start(self, trial_s: float = 60.0) -> None:
        launcher = [sys.executable, "-I", "-S", launch.__file__, "--home", str(self.home)]
        options = ["--trial-s", str(trial_s), "--delay-s", "0.1"]
        installed = [sys.executable, "-m", "tidegate.agent", "--home", str(self.home)]
        with self.log.open("ab") as log:
            command = [*launcher, *options, "--", *installed]
            self.process = subprocess.Popen(command, stderr=log, start_new_session=True)

    def lose_power(self) -> None:
        """Launcher and agent are gone at once, wherever they were."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(90)
        self.world.close()

    def release(self, seq: int, files: Mapping[str, str]) -> Candidate:
        return self.world.release(seq, files, driver="self", component=AGENT, soak_s=0, programs=("tidegate-agent",))

    def offer(self, candidate: Candidate) -> None:
        self.world.publish(candidate, component=AGENT)

    def until(self, holds: Callable[[], Any], within_s: float = 90.0) -> None:
        give_up = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < give_up, self.log.read_text()[-4000:]
            time.sleep(0.05)

    def outcome(self, seq: int, kind: str) -> Callable[[], bool]:
        return lambda: any(lease.startswith(f"r{seq}:") and k == kind for lease, k in self.world.kinds())

    def begun(self) -> list[tuple[str, str]]:
        """Each agent that began: its version, and the slot that it was started from."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [(line["version"], line["slot"]) for line in lines if line["event"] == "begins"]

    @property
    def slots(self) -> Slots:
        return Slots(Home(self.home).component(AGENT))


@pytest.fixture
def machine() -> Iterator[Machine]:
    with quick_directory() as place:
        made = Machine(place)
        try:
            yield made
        finally:
            made.close()


def test_a_good_agent_is_confirmed_by_itself_and_a_broken_one_is_taken_back(machine: Machine) -> None:
    machine.enrol()
    good = machine.release(1, tree("9.0.1"))
    machine.offer(good)
    machine.start()
    machine.until(machine.outcome(1, "confirmed"))
    assert machine.begun() == [(tidegate.__version__, ""), ("9.0.1", good.sha256[:16])]
    assert machine.slots.current() == machine.slots.good() == good.sha256

    broken = machine.release(2, crashing("9.0.2"))
    machine.offer(broken)
    machine.until(machine.outcome(2, "reverted"))
    assert machine.log.read_text().count("this agent is broken") == 2, "as many starts as the guard allows"
    note = next(report["note"] for report in machine.world.reports if report["kind"] == "reverted")
    assert "the guard took" in note and "2 starts did not last; the last known good runs again" in note
    assert machine.begun()[-1] == ("9.0.1", good.sha256[:16])
    machine.until(lambda: machine.slots.condemned(broken.sha256))
    assert machine.slots.current() == machine.slots.good() == good.sha256

    better = machine.release(3, tree("9.0.3"))  # and life goes on
    machine.offer(better)
    machine.until(machine.outcome(3, "confirmed"))
    assert machine.begun()[-1] == ("9.0.3", better.sha256[:16])
    machine.until(lambda: [slot.name for slot in machine.slots.slots.iterdir()] == [better.sha256[:16]])


@pytest.mark.parametrize("kind", [deaf, hanging])
def test_an_agent_that_starts_and_never_reads_the_plan_is_taken_back_by_its_launcher(
    machine: Machine, kind: Callable[[str], dict[str, str]]
) -> None:
    machine.enrol()
    bad = machine.release(1, kind("9.0.1"))
    machine.offer(bad)
    machine.start(trial_s=3.0)
    machine.until(machine.outcome(1, "reverted"))
    note = machine.world.reports[-1]["note"]
    assert "it ran for 3 s and did not prove itself; it was the first install" in note
    assert machine.begun()[-1] == (tidegate.__version__, ""), "the installed agent runs again"
    machine.until(lambda: machine.slots.condemned(bad.sha256))
    assert machine.slots.current() is None and machine.slots.good() is None


def test_a_deaf_agent_that_can_still_judge_itself_goes_back_by_itself(machine: Machine) -> None:
    machine.enrol(refresh_s="1.5")
    bad = machine.release(1, deaf("9.0.1"))
    machine.offer(bad)
    machine.start()
    machine.until(machine.outcome(1, "reverted"))
    assert "the signed state has not been read" in machine.world.reports[-1]["note"]
    machine.until(lambda: machine.begun()[-1] == (tidegate.__version__, ""))
    assert machine.slots.current() is None and machine.slots.condemned(bad.sha256)


def test_a_placebo_is_started_anew_once_and_nothing_is_changed(machine: Machine) -> None:
    machine.enrol()
    machine.world.arm = "placebo"
    machine.offer(machine.release(1, tree("9.0.1")))
    machine.start()
    machine.until(machine.outcome(1, "confirmed"))
    assert machine.begun() == [(tidegate.__version__, "")] * 2
    assert machine.slots.current() is None


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_killed_at_random_moments_it_ends_on_a_whole_agent_with_one_outcome(machine: Machine, number: int) -> None:
    """Launcher and agent together, wherever they are: starts that were cut off count, so both ends are right."""
    rng = random.Random(number)
    machine.enrol()
    first = machine.release(1, tree("9.0.1"))
    machine.offer(first)
    machine.start()
    machine.until(machine.outcome(1, "confirmed"))
    second = machine.release(2, tree("9.0.2"))
    machine.offer(second)
    for _ in range(3):
        time.sleep(rng.uniform(0.05, 1.5))
        machine.lose_power()
        assert machine.slots.current() in (first.sha256, second.sha256)
        assert machine.slots.good() in (first.sha256, second.sha256)
        machine.start()
    machine.until(lambda: machine.outcome(2, "confirmed")() or machine.outcome(2, "reverted")())
    kinds = {kind for lease, kind in machine.world.kinds() if lease.startswith("r2:")}
    runs = second if kinds == {"confirmed"} else first
    machine.until(lambda: machine.begun()[-1] == (f"9.0.{runs.seq}", runs.sha256[:16]))
    assert len(kinds) == 1 and machine.slots.current() == machine.slots.good() == runs.sha256
    assert machine.slots.guard_state().get("armed") is False


def test_without_its_launcher_the_agent_asks_for_no_lease(machine: Machine) -> None:
    machine.enrol()
    machine.offer(machine.release(1, tree("9.0.1")))
    command = [sys.executable, "-m", "tidegate.agent", "--home", str(machine.home), "--once"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert "was started without its launcher" in done.stderr and machine.world.announced == []


def test_launcher_and_driver_name_the_same_programs() -> None:
    assert launch.PROGRAMS == own.PROGRAMS
