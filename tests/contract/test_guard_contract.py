"""Both guards, the agent's in Python and the initramfs's in shell, do the same to the same directory."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.agent_device import quick_directory

from tidegate.agent import guard
from tidegate.agent.slots import Slots

pytestmark = [pytest.mark.room("agent"), pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")]

PYTHON = [sys.executable, "-S", "-E", guard.__file__]
HOOK = Path(guard.__file__).with_name("initramfs") / "guard.sh"
GOOD, TRIAL = "a" * 16, "b" * 16
LEASE = {"arm": "treated", "lease_id": 'r1:1:"starts": 9, {}', "granted_s": 1.5, "ttl_s": 60.0}
ARMED = {"armed": True, "digest": TRIAL * 4, "slot": TRIAL, "starts": 0, "starts_allowed": 2}
Change = Callable[[Path], Any]


@pytest.fixture
def place() -> Iterator[Path]:
    with quick_directory() as directory:
        yield directory


def shells() -> list[str]:
    """Every shell here that a device's initramfs may bring."""
    return [name for name in ("sh", "busybox", "bash") if shutil.which(name)]


def hook(shell: str) -> list[str]:
    return [shell, "sh", str(HOOK)] if shell == "busybox" else [shell, str(HOOK)]


def component(directory: Path) -> Path:
    """With a last known good, and another release on trial."""
    for slot in (GOOD, TRIAL):
        (directory / "slots" / slot).mkdir(parents=True)
        (directory / "slots" / slot / "name").write_text(slot)
    guard.point(directory, "good", GOOD)
    guard.point(directory, "current", TRIAL)
    guard.write(directory / "guard.json", ARMED)
    return directory


def text(value: str | bytes) -> Change:
    data = value.encode() if isinstance(value, str) else value
    return lambda directory: (directory / "guard.json").write_bytes(data)


def state(**changes: Any) -> Change:
    return text(json.dumps({**ARMED, **changes}, sort_keys=True))


def without(*keys: str) -> Change:
    return text(json.dumps({key: value for key, value in ARMED.items() if key not in keys}))


def gone(name: str) -> Change:
    return lambda directory: (directory / name).unlink()


def blocked(name: str) -> Change:
    """A directory stands where a file is to be written: what a full or broken disk does to a write."""
    return lambda directory: (directory / name / "in-the-way").mkdir(parents=True)


def dangling(directory: Path) -> None:
    guard.point(directory, "good", "c" * 16)


CASES: dict[str, Change] = {
    "armed": lambda directory: None,
    "armed by the agent, with what it keeps beside": state(
        lease=LEASE, candidate={"path": "p", "seq": 2, "sha256": "0" * 64}, rollout="r\u00e9\\\"", report_seq=7
    ),
    "other limit": state(starts_allowed=0),
    "limit is no number": state(starts_allowed="many"),
    "starts is no number": state(starts="1"),
    "starts is a fraction": state(starts=1.5),
    "starts is large": state(starts=99),
    "starts is negative": state(starts=-1),
    "disarmed": state(armed=False),
    "armed in words": state(armed="true"),
    "armed for another slot": state(slot="c" * 16),
    "no slot named": without("slot"),
    "no digest named": without("digest"),
    "no counts": without("starts", "starts_allowed"),
    "written by hand": text(json.dumps({**ARMED, "more": [1, {"armed": False, "starts": [[]]}, None]}, indent=4)),
    "a member twice": text(json.dumps({"starts": 2})[:-1] + ", " + json.dumps(ARMED)[1:]),
    "no state": gone("guard.json"),
    "state empty": text(""),
    "state truncated": text(json.dumps(ARMED)[:-1]),
    "state truncated inside": text(json.dumps({"candidate": {"x": 1}, **ARMED})[:20]),
    "state with more behind": text(json.dumps(ARMED) + "}"),
    "state a list": text("[1, 2]"),
    "state zeros": text(bytes(4096)),
    "state noise": text(bytes(range(256)) * 3),
    "state with a raw control character": text('{"armed": false, "x": "\n"}'),
    "state with a number that is none": text('{"armed": false, "starts": 01}'),
    "state nested without end": text("{" + '"a":[' * 2000),
    "state a directory": lambda d: ((d / "guard.json").unlink(), (d / "guard.json").mkdir()),
    "first install": gone("good"),
    "last known good is gone": dangling,
    "confirmed": lambda directory: guard.point(directory, "good", TRIAL),
    "absent": gone("current"),
    "slot on trial is gone": lambda directory: shutil.rmtree(directory / "slots" / TRIAL),
    "the start cannot be counted": blocked("guard.json.new"),
    "the note cannot be written": blocked("note.json.new"),
    "the mark cannot be made": lambda directory: (directory / "condemned").write_text(""),
    "condemned already": lambda directory: guard.condemn(directory, TRIAL * 4, "before"),
    "left in the middle of moving": lambda directory: (directory / ".current.new").symlink_to("slots/nowhere"),
    "no directory at all": shutil.rmtree,
}  # fmt: skip


def start(command: list[str], directory: Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [*command, "--component-dir", str(directory), "--", "cat", str(directory / "current" / "name")],
        capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr.replace(str(directory), "DIR")


def seen(directory: Path) -> dict[str, Any]:
    """All that a guard may change: each file's content, each link's target."""
    found: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file() and name != "guard.lock":
            data = path.read_bytes()
            found[name] = guard.read(path) or repr(data)
    return found


def common(value: Any) -> Any:
    """What the shell cannot know is left out: why the system refused a write."""
    said = json.dumps(value).replace(" (Is a directory)", "")
    known = json.loads(re.sub(r"(could not take the release back): [^\\]*", r"\1", said))
    for file in [known[name] for name in ("guard.json", "guard.json.new") if name in known]:
        if isinstance(file, dict):
            file.pop("sentence", None)
    return known


def both(case: Change, place: Path) -> tuple[Path, Path]:
    directories = place / "python", place / "shell"
    for directory in directories:
        case(component(directory))
    return directories


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_same_directory_fares_alike(case: Change, place: Path) -> None:
    python, shell = both(case, place)
    for number in range(4):
        before = seen(python), seen(shell)
        expected, got = start(PYTHON, python), start(hook("sh"), shell)
        assert common(got) == common(expected), f"start {number + 1}"
        assert common(seen(shell)) == common(seen(python)), f"start {number + 1}"
        if (seen(python), seen(shell)) == before:
            break


@pytest.mark.parametrize("shell", shells())
def test_one_guard_goes_on_where_the_other_stopped(shell: str, place: Path) -> None:
    directory = component(place / "component")
    Slots(directory).arm(TRIAL * 4, lease=LEASE, rollout="r1")
    for count, command in enumerate((PYTHON, hook(shell)), 1):
        assert start(command, directory)[1] == TRIAL
        assert json.loads((directory / "guard.json").read_text())["starts"] == count
    code, told, said = start(hook(shell), directory)
    assert (code, told) == (0, GOOD) and "took bbbbbbbbbbbbbbbb back: 2 starts did not last" in said
    slots = Slots(directory)
    assert slots.condemned(TRIAL * 4) and slots.note_about(TRIAL * 4)
    assert slots.guard_state() == {**ARMED, "armed": False, "starts": 3}
    assert start(PYTHON, directory) == (0, GOOD, "")


def end(directory: Path, command: list[str] | None = None) -> None:
    subprocess.run([*(command or hook("sh")), "--component-dir", str(directory), "--ended"], check=True, timeout=90)


GUARDS = {"python": PYTHON, **{shell: hook(shell) for shell in shells()}}
guards = pytest.mark.parametrize("command", GUARDS.values(), ids=GUARDS.keys())


def another_boot(directory: Path) -> None:
    """The machine's boot id cannot be changed by a test: what was noted of it can."""
    known = guard.read(directory / "guard.json") or {}
    guard.write(directory / "guard.json", {**known, "ended_boot": "an-earlier-one"})


@guards
def test_a_start_that_ended_in_order_is_taken_off_the_count_of_both_guards(command: list[str], place: Path) -> None:
    directory = component(place / "component")
    for first in (PYTHON, hook("sh"), PYTHON):
        assert start(first, directory)[1] == TRIAL
        end(directory, command)
        end(directory)  # twice in one boot counts once, whichever of them was asked
        end(directory, PYTHON)
        assert json.loads((directory / "guard.json").read_text())["starts"] == 0
        another_boot(directory)
    assert [start(first, directory)[1] for first in (PYTHON, command, PYTHON)] == [TRIAL, TRIAL, GOOD]


@guards
def test_a_release_that_shuts_the_machine_down_in_order_for_ever_is_taken_back_as_well(
    command: list[str], place: Path
) -> None:
    directory = component(place / "component")
    told: list[str] = []
    while GOOD not in told and len(told) < 10:
        told.append(start(command, directory)[1])
        end(directory, command)
        another_boot(directory)
    assert told == [TRIAL] * 5 + [GOOD], "three ends excused, two starts allowed"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_an_end_of_the_same_directory_fares_alike(case: Change, place: Path) -> None:
    python, shell = both(case, place)
    for directory, command in ((python, PYTHON), (shell, hook("sh"))):
        start(command, directory)
        end(directory, command)
    assert common(seen(shell)) == common(seen(python))


@guards
@pytest.mark.parametrize("case", ["disarmed", "confirmed", "no state", "absent", "no directory at all"])
def test_an_end_changes_nothing_where_nothing_is_on_trial(case: str, command: list[str], place: Path) -> None:
    directory = component(place / "component")
    CASES[case](directory)
    before = seen(directory)
    end(directory, command)
    assert seen(directory) == before


@pytest.mark.parametrize("words", ["", "--component-dir", "x y", "--component-dir x --", "--component-dir x --ended y"])
def test_usage(words: str) -> None:
    done = subprocess.run([*hook("sh"), *words.split()], capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 2 and done.stderr.startswith("usage: guard.sh") and done.stderr.count("\n") == 1
