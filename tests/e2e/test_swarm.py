"""`tidegate bench swarm`: every device of a made-up fleet gets through, in each pattern of arrival."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from tidegate.cli.main import run
from tidegate.cli.swarm_client import Tally

pytestmark = [pytest.mark.room("cli"), pytest.mark.room("intake")]


def swarm(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tidegate", "bench", "swarm", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "pattern",
    [
        "bad-macs",
        pytest.param("steady", marks=pytest.mark.slow),
        pytest.param("herd", marks=pytest.mark.slow),
        pytest.param("slow-loris", marks=pytest.mark.slow),
    ],
)
def test_every_device_gets_through(pattern: str) -> None:
    done = swarm(
        "--devices", "200", "--processes", "2", "--pattern", pattern, "--rate", "400", "--most", "300", "--json"
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["confirmed"] == 200
    assert {name: said["statuses"][name] for name in ("poll 200", "announce 200", "report 200")} == {
        "poll 200": 200,
        "announce 200": 200,
        "report 200": 200,
    }
    assert (said["statuses"]["file 200"], said["statuses"]["file 404"]) == (600, 200)
    assert sum(bar["answers"] for bar in said["histogram"]) == said["requests"]
    assert (said["statuses"].get("bad mac 401", 0) > 10) == (pattern == "bad-macs")
    assert 0 < said["latency_ms"]["p50"] <= said["latency_ms"]["p99"] <= said["slowest_ms"]
    assert said["server"]["cpu_s"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_interrupt_ends_it_and_shows_what_there_is() -> None:
    command = [sys.executable, "-m", "tidegate", "bench", "swarm", "--devices", "20000", "--rate", "20"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    while " of 20,000 devices came" not in process.stderr.readline():
        assert process.poll() is None
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
    said, error = process.communicate(timeout=300)
    assert process.returncode == 1, error
    assert error.splitlines()[-1].startswith("tidegate: ended early, with ")
    assert "of 20,000 devices confirmed in" in said
    assert "503" not in said


@pytest.mark.parametrize(
    "words",
    ["--devices 0", "--rate nan", "--processes 0", "--connections 0", "--most -1", "--soak -1", "--poll inf"],
)
def test_what_cannot_be_is_one_line(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["bench", "swarm", *words.split()])
    assert ended.value.code == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith(f"tidegate: {words.split()[0]} must be ")
    assert found.err.count("\n") == 1


def test_quantiles_are_right_to_one_step() -> None:
    tally, times = Tally(), np.random.default_rng(1).lognormal(-4, 1, 5000)
    for took_s in times:
        tally.add("x", 200, float(took_s))
    for share in (0.1, 0.5, 0.99, 1.0):
        true_s = float(np.quantile(times, share))
        assert true_s <= tally.quantile_s(share) * 1.001 <= true_s * 1.13
