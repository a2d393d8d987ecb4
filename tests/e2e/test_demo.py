"""The demo as a person runs it: it ends well and says so in JSON, and leaves no process behind, not even by Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.stage import processes_naming, wait_for

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="processes are looked up in /proc")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A temporary directory of the demo's own, so that whatever names it is a process of the demo."""
    found = tmp_path / "demo-tmp"
    found.mkdir()
    yield found
    for line in processes_naming(str(found)):
        os.kill(int(line.split(":")[0]), signal.SIGKILL)


def start(place: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tidegate", "demo", *words],
        env={**os.environ, "TMPDIR": str(place)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def nothing_is_left(place: Path) -> bool:
    return not processes_naming(str(place)) and not list(place.iterdir())


def test_a_good_release_reaches_everyone_and_a_faulty_one_is_contained(place: Path) -> None:
    demo = start(place, "--json", "--devices", "8")
    out, err = demo.communicate(timeout=110)
    assert demo.returncode == 0, err + out[-2000:]
    result = json.loads(out.splitlines()[-1])
    good, faulty = result["good"], result["faulty"]
    assert (good["covered"], good["devices"]) == (8, 8)
    assert good["seconds"] > 0
    assert faulty["verdict"] == "halt"
    assert faulty["devices"] == 8
    assert 0 < faulty["harmed"] <= 3
    assert faulty["recovered"] == faulty["harmed"]
    assert faulty["seconds"] > 0
    assert "Traceback" not in err
    assert nothing_is_left(place), processes_naming(str(place))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_in_the_middle_leaves_nothing_behind(place: Path, number: signal.Signals) -> None:
    demo = start(place, "--devices", "6")
    try:
        wait_for(lambda: len(list(place.glob("*/device-*/agent/components/*/current"))) >= 1, 60)
        assert len(processes_naming(str(place))) > 7, "server, agents and scanners run"
        demo.send_signal(number)
        _, err = demo.communicate(timeout=90)
    finally:
        demo.kill()
    assert demo.returncode == 130
    assert "Traceback" not in err
    assert nothing_is_left(place), processes_naming(str(place))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--devices", "3"), "--devices must be 4 to 200, not 3"),
        (("--devices", "many"), "--devices"),
        (("--fault", "none"), "--fault must be one of"),
        (("--keep", "/proc"), "is not empty"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(place: Path, words: tuple[str, ...], says: str) -> None:
    demo = start(place, *words)
    out, err = demo.communicate(timeout=90)
    assert (demo.returncode, out) == (2, "")
    assert says in err
    assert len(err.strip().splitlines()) == 1
    assert nothing_is_left(place)
