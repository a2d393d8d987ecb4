"""The scanning process by itself: what it takes, what it leaves, how it says so, and how it dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tidegate.drivers import quarantine

RULES = """
rule takes { strings: $a = "take me" condition: $a }
rule tells { meta: action = "report" strings: $a = "tell me" condition: $a }
rule burns { condition: uint32be(0) == 0x6275726E and for any i in (0..uint32(4)) : (
    for any j in (0..uint32(4)) : (uint8(i) == 1 and uint8(j) == 2 and i == j)) }
"""
BURNING = b"burn" + (1_000_000).to_bytes(4, "little")


class Machine:
    """Directories for one engine, and the engines that a test has started on them."""

    def __init__(self, root: Path) -> None:
        self.root, self.watch, self.held = root, root / "watch", root / "held"
        self.started: list[subprocess.Popen[bytes]] = []
        self.watch.mkdir()
        self.release("one", RULES)

    def release(self, name: str, rules: str) -> None:
        (self.root / name).mkdir()
        (self.root / name / "a.yar").write_text(rules)
        (self.root / "current").unlink(missing_ok=True)
        (self.root / "current").symlink_to(name)

    def engine(self, **more: object) -> subprocess.Popen[bytes]:
        options = {
            "rules": self.root / "current", "watch": self.watch, "quarantine": self.held,
            "status": self.root / "status", "interval": 0.05, "cpu-s": 1, **more,
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "tidegate.drivers.yara_engine", *words]
        self.started.append(subprocess.Popen(command, stderr=subprocess.PIPE, cwd=self.root))
        return self.started[-1]

    def status(self) -> dict[str, Any]:
        try:
            return json.loads((self.root / "status").read_bytes())
        except OSError:
            return {"pid": 0, "state": "none", "detections": [], "quarantined": []}

    def until(self, seen: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        give_up = time.monotonic() + 60
        while not seen(status := self.status()):
            assert time.monotonic() < give_up, status
            assert any(engine.poll() is None for engine in self.started), "the engine has ended"
            time.sleep(0.01)
        return status

    def watching(self) -> dict[str, Any]:
        pids = [engine.pid for engine in self.started]
        return self.until(lambda status: status["state"] == "watching" and status["pid"] in pids[-1:])


def stopped(engine: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, said = engine.communicate(timeout=60)
    return engine.returncode, said.decode()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for engine in made.started:
        engine.kill()
        engine.communicate()


def test_it_takes_tells_and_leaves(machine: Machine) -> None:
    (machine.watch / "deep").mkdir()
    for name, text in {"deep/bad": "take me", "both": "take me, tell me", "odd": "tell me", "fine": "nothing"}.items():
        (machine.watch / name).write_text(text)
    (machine.watch / "link").symlink_to("/etc/passwd")
    engine = machine.engine()
    status = machine.watching()
    assert sorted(p.name for p in machine.watch.iterdir()) == ["deep", "fine", "link", "odd"]
    assert (status["pid"], status["digest"], status["rules"], status["scanned"]) == (engine.pid, "one", 3, 4)
    assert sorted(status["quarantined"]) == ["both", "deep/bad"]
    told = {d["path"]: (d["action"], d["rules"]) for d in status["detections"]}
    assert told == {
        "deep/bad": ("quarantine", ["takes"]), "both": ("quarantine", ["takes", "tells"]), "odd": ("report", ["tells"]),
    }  # fmt: skip
    (record,) = (r for r in quarantine.records(machine.held).values() if r["path"] == "both")
    assert (record["rule"], record["namespace"], record["digest"]) == ("takes", "a.yar", "one")


def test_it_scans_what_changes_and_nothing_else(machine: Machine) -> None:
    (machine.watch / "a").write_text("nothing")
    (machine.watch / "b").write_text("nothing")
    machine.engine()
    machine.watching()
    later = machine.until(lambda status: status["passes"] > 5)
    assert later["scanned"] == 2
    (machine.watch / "a").write_text("take me")
    taken = machine.until(lambda status: status["quarantined"])
    assert (taken["scanned"], taken["quarantined"]) == (3, ["a"])


def test_it_ends_in_good_order_when_told(machine: Machine) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        engine = machine.engine()
        machine.watching()
        engine.send_signal(number)
        assert stopped(engine) == (0, "")


def test_a_file_that_burns_cpu_kills_it(machine: Machine) -> None:
    (machine.watch / "a-fine-one").write_text("nothing")
    (machine.watch / "burning").write_bytes(BURNING)
    engine = machine.engine()
    assert stopped(engine)[0] == -signal.SIGXCPU
    assert (machine.root / "status.lock").read_text().splitlines() == [str(engine.pid), "burning"]
    assert machine.status()["state"] == "starting"


def test_its_cpu_is_counted_by_file_and_not_by_life(machine: Machine) -> None:
    """About 0.1 s of CPU in each of fourteen files is within the limit of one second a file."""
    once = b"burn" + (3_000).to_bytes(4, "little")
    for name in "abcdefghijklmn":
        (machine.watch / name).write_bytes(once)
    engine = machine.engine()
    assert machine.watching()["scanned"] == 14
    used = sum(int(word) for word in Path(f"/proc/{engine.pid}/stat").read_text().split()[13:15])
    assert used / os.sysconf("SC_CLK_TCK") > 1.0, "the files must take more together than one alone may"


def test_two_engines_are_one_too_many(machine: Machine) -> None:
    machine.engine()
    machine.watching()
    second = machine.engine()
    code, said = stopped(second)
    assert code == 4
    assert "another engine" in said
    assert machine.started[0].poll() is None


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("rule a { condition: true }\nrule b {\n condition: $nothing }", "a.yar:3: unknown pattern"),
        ("", "hold no rules"),
        ('include "/etc/passwd"', "a.yar:1: include"),
    ],
)
def test_rules_that_cannot_be_used_end_it_with_one_line(machine: Machine, rules: str, says: str) -> None:
    machine.release("two", rules)
    code, said = stopped(machine.engine())
    assert code == 2
    assert says in said
    assert said.count("\n") == 1


def test_directories_that_cannot_be_used_end_it_with_one_line(machine: Machine) -> None:
    for wrong in ({"watch": machine.root / "gone"}, {"rules": machine.root / "gone"}):
        code, said = stopped(machine.engine(**wrong))
        assert code == 2
        assert "gone" in said
        assert said.count("\n") == 1


def test_another_release_puts_back_what_it_does_not_match_itself(machine: Machine) -> None:
    (machine.watch / "a").write_text("take me")
    (machine.watch / "b").write_text("take me, I am really bad")
    engine = machine.engine()
    machine.watching()
    assert list(machine.watch.iterdir()) == []
    engine.terminate()
    stopped(engine)
    machine.release("two", 'rule better { strings: $a = "really bad" condition: $a }')
    machine.engine()
    status = machine.watching()
    assert [path.name for path in machine.watch.iterdir()] == ["a"]
    assert status["quarantined"] == ["b"]
    (record,) = quarantine.records(machine.held).values()
    assert (record["digest"], record["rule"]) == ("two", "better")


def test_a_file_that_takes_too_much_memory_ends_it(machine: Machine) -> None:
    with (machine.watch / "large").open("wb") as file:
        file.truncate(60 << 20)
    code, said = stopped(machine.engine(**{"memory-mb": 150}))
    assert code != 0
    assert said.splitlines()[-1] == "MemoryError"
    assert machine.status()["state"] == "starting"
    engine = machine.engine(**{"memory-mb": 512})
    assert machine.watching()["pid"] == engine.pid


def test_it_loads_little_and_is_small(machine: Machine) -> None:
    code = "import sys, tidegate.drivers.yara_engine; print(*sorted(m for m in sys.modules if m[:8] == 'tidegate'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "tidegate", "tidegate.drivers", "tidegate.drivers.quarantine", "tidegate.drivers.yara_engine",
        "tidegate.drivers.yara_rules",
    ]  # fmt: skip
    engine = machine.engine()
    machine.watching()
    peak = next(line for line in Path(f"/proc/{engine.pid}/status").read_text().splitlines() if "VmHWM" in line)
    assert int(peak.split()[1]) < 60_000
