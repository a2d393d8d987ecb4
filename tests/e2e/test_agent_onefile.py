"""The agent as one file, as a device has it: a Python without any of our packages, a real server, a launcher."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .agent_device import quick_directory
from .agent_server import COMPONENT, World

ROOT = Path(__file__).resolve().parents[2]
PYTHON = [str(getattr(sys, "_base_executable", None) or sys.executable), "-I", "-S"]

pytestmark = [pytest.mark.room("agent"), pytest.mark.timeout(300)]


def build(target: Path) -> Path:
    command = [sys.executable, str(ROOT / "packaging" / "build_agent.py"), "--output", str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return target


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist") / "tidegate-agent.pyz")


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_directory() as directory:
        yield directory


def around(place: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(place), "TIDEGATE_UNPACK": str(place / "unpacked")}


def call(packed: Path, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*PYTHON, str(packed), *words]
    return subprocess.run(command, env=around(place), capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_the_same_sources_give_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    assert build(tmp_path / "again.pyz").read_bytes() == packed.read_bytes()
    assert packed.stat().st_size < 10_000_000


@pytest.mark.slow
def test_it_enrols_runs_and_updates_itself(packed: Path, place: Path) -> None:
    """Laid out as the unit expects it; a rule release first, then the agent's own file, as a release like any other."""
    world = World(place / "server", lambda: int(time.time()), (COMPONENT, "agent"))
    home, laid = place / "home", place / "lib"
    (place / "token").write_text(world.token)
    done = call(
        packed, place, "enrol", "--home", str(home), "--server", world.address, "--token-file", str(place / "token")
    )
    assert done.returncode == 0 and "Enrolled as device" in done.stdout, done.stderr
    settings = json.loads((home / "agent.json").read_text())
    (home / "agent.json").write_text(json.dumps({**settings, "poll_s": 0.2}))
    assert call(packed, place, "lay-out", str(laid)).returncode == 0
    assert {p.name for p in (laid / "systemd").iterdir()} == {"tidegate-agent.service", "tidegate-guard@.service"}
    source = world.directory / "content-agent-1"
    source.mkdir()
    shutil.copy(packed, source / "tidegate-agent.pyz")

    launcher = [*PYTHON, str(laid / "tidegate/agent/launch.py"), "--home", str(home), "--delay-s", "0.1", "--"]
    installed = [*PYTHON, str(laid / "tidegate-agent.pyz"), "run", "--home", str(home)]
    with (place / "log").open("wb") as log:
        agent = subprocess.Popen([*launcher, *installed], env=around(place), stderr=log)

    def until(holds: Callable[[], Any]) -> None:
        give_up = time.monotonic() + 120
        while not holds():
            assert time.monotonic() < give_up and agent.poll() is None, (place / "log").read_text()[-3000:]
            time.sleep(0.05)

    def confirmed(start: str) -> bool:
        return any(lease.startswith(start) and kind == "confirmed" for lease, kind in world.kinds())

    try:
        world.publish(world.release(1, {"rules": "good"}, soak_s=1), rollout="rules")
        until(lambda: confirmed("rules"))
        world.publish(
            world.release(1, {}, driver="self", component="agent", soak_s=0), component="agent", rollout="own"
        )
        until(lambda: confirmed("own"))
        begun = [json.loads(line) for line in (place / "log").read_text().splitlines() if '"begins"' in line]
        assert [bool(line["slot"]) for line in begun] == [False, True], "the second one runs from its slot"
        said = call(packed, place, "status", "--home", str(home)).stdout
        assert said.count("up to date") == 2, said
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(90)
        world.close()


@pytest.mark.slow
def test_what_was_damaged_is_unpacked_anew(packed: Path, place: Path) -> None:
    """Files emptied, cut and removed: its own, a library's, compiled ones, and the list of their lengths."""
    assert call(packed, place, "help").returncode == 0
    (copy,) = (place / "unpacked").iterdir()
    names = ["tidegate/agent/loop.py", "tuf/ngclient/updater.py", "SIZES.json"]
    names += [str(next(copy.rglob("loop*.pyc")).relative_to(copy)), str(next(copy.rglob("*.so")).relative_to(copy))]
    for name in names:
        for damage in ("emptied", "cut", "removed"):
            path = copy / name
            data = path.read_bytes()
            path.unlink()
            if damage != "removed":
                path.write_bytes(b"" if damage == "emptied" else data[: len(data) // 2])
            done = call(packed, place, "run", "--home", str(place / "none"))
            assert done.returncode == 2 and "no enrolled agent's home" in done.stderr, (name, damage, done.stderr)
    (place / "unpacked").chmod(0o777)
    done = call(packed, place, "help")
    assert done.returncode == 2 and "written by others" in done.stderr and done.stderr.count("\n") == 1


UNITS = sorted((ROOT / "packaging" / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_units_are_hardened(unit: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    if "offline" in done.stderr and "unrecognized" in done.stderr:
        pytest.skip("this systemd cannot look at units that are not installed")
    assert done.returncode == 0, f"more exposed than 2.0 of 10: {done.stdout[-600:]}{done.stderr}"


def test_the_units_name_what_is_laid_out() -> None:
    """Without building anything: what a unit starts is what `lay-out` writes."""
    from tidegate.agent import onefile

    words = " ".join(unit.read_text() for unit in UNITS)
    named = {w for w in words.split() if w.startswith("/usr/lib/tidegate")}
    laid = ("tidegate/agent/launch.py", "tidegate/agent/guard.py", "tidegate-agent.pyz")
    assert {word.strip("`") for word in named} - {"/usr/lib/tidegate"} == {f"/usr/lib/tidegate/{name}" for name in laid}
    assert "lay-out DIR" in onefile.USAGE


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["fly"], 2, "no command 'fly'"),
        (["status"], 2, "usage"),
        (["status", "--home", "/nonexistent"], 2, "no agent that has run"),
        (["lay-out"], 2, "usage"),
        (["enrol", "--home", "/x", "--server", "http://x", "--token-file", "/nonexistent"], 2, "No such file"),
        (
            ["enrol", "--home", "/x", "--server", "http://x", "--token-file", "/dev/null", "--label", "x"],
            2,
            "NAME=VALUE",
        ),
        (["run", "--home", "/nonexistent"], 2, "no enrolled agent's home"),
        ([], 0, "usage"),
    ],
)
def test_its_command_line_says_what_is_wrong(
    words: list[str], code: int, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from tidegate.agent.onefile import main

    assert main(words) == code
    said = capfd.readouterr()
    assert says in said.out + said.err and "Traceback" not in said.err
