"""The server's units: hardened, taken by systemd, and what they start serves under what they take away."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "packaging" / "server").glob("*.service"))
PROGRAM, HOME = "/opt/tidegate/bin/tidegate", "/var/lib/tidegate-server"
TIDEGATE = Path(sys.executable).with_name("tidegate")
_MDWE, _NO_NEW_PRIVS = 65, 38
"""prctl(2): no memory that is writable and executable (kernels since 6.3), and no privileges that a program brings."""

pytestmark = pytest.mark.room("cli")
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
each = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)


def command(unit: Path, home: Path, options: str = "") -> list[str]:
    """Give what a unit starts, for another home and with the program of these tests."""
    found = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    assert len(found) == 1 and found[0].startswith(f"{PROGRAM} serve ") and found[0].endswith(" $TIDEGATE_OPTIONS")
    words = found[0].replace(PROGRAM, str(TIDEGATE)).replace(HOME, str(home)).replace("$TIDEGATE_OPTIONS", options)
    return shlex.split(words)


def test_there_is_one_for_each_way_to_serve() -> None:
    assert [unit.name for unit in UNITS] == [f"tidegate-{n}.service" for n in ("collector", "controller", "server")]


@analyze
@each
def test_a_unit_is_hardened_and_systemd_takes_it(unit: Path, tmp_path: Path) -> None:
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=90)
    if "offline" in done.stderr and "unrecognized" in done.stderr:
        pytest.skip("this systemd cannot look at units that are not installed")
    assert done.returncode == 0, f"more exposed than 2.0 of 10: {done.stdout[-600:]}{done.stderr}"
    here = tmp_path / unit.name  # the program that it names is not installed here
    here.write_text(unit.read_text().replace(PROGRAM, str(TIDEGATE)))
    done = subprocess.run(["systemd-analyze", "verify", str(here)], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", [unit for unit in UNITS if "-server" not in unit.name], ids=lambda unit: unit.name)
def test_serve_knows_the_options_of_a_unit(unit: Path, tmp_path: Path) -> None:
    done = subprocess.run(command(unit, tmp_path / "none"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "none is no control plane" in done.stderr, done.stderr


def _taken_away() -> None:
    prctl = ctypes.CDLL(None).prctl
    prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(_MDWE, 1, 0, 0, 0)


def test_what_a_unit_starts_serves_and_ends_when_it_is_told(tmp_path: Path) -> None:
    home, off = tmp_path / "home", tmp_path / "offline"
    init = [str(TIDEGATE), "init", "--component", "edr-rules", "--home", str(home), "--offline-keys", str(off)]
    subprocess.run(init, check=True, capture_output=True, timeout=60)
    options = "--devices 127.0.0.1:0 --operators 127.0.0.1:0"
    unit = next(unit for unit in UNITS if unit.name == "tidegate-server.service")
    with (tmp_path / "said").open("wb") as said:
        server = subprocess.Popen(
            command(unit, home, options), stdout=said, stderr=said, env={"PATH": os.defpath}, preexec_fn=_taken_away
        )
    try:
        address, give_up = "", time.monotonic() + 60
        while not address:
            assert server.poll() is None and time.monotonic() < give_up, (tmp_path / "said").read_text()
            address = "".join(re.findall(r"Operators: (\S+)", (tmp_path / "said").read_text()))
            time.sleep(0.05)
        assert httpx.get(f"{address}/readyz").json() == {"ready": True, "trouble": ""}
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    assert code == 0, (tmp_path / "said").read_text()
