"""The guard as it runs on a device: a process of its own, with the standard library alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tidegate.agent import guard
from tidegate.agent.slots import Slots

GUARD = Path(guard.__file__)
GOOD, TRIAL = "a" * 16, "b" * 16


@pytest.fixture
def component(tmp_path: Path) -> Path:
    """With a last known good, and another release on trial."""
    for slot in (GOOD, TRIAL):
        (tmp_path / "slots" / slot).mkdir(parents=True)
        (tmp_path / "slots" / slot / "name").write_text(slot)
    guard.point(tmp_path, "good", GOOD)
    guard.point(tmp_path, "current", TRIAL)
    guard.write(tmp_path / "guard.json", {"armed": True, "digest": TRIAL * 4, "slot": TRIAL, "starts": 0})
    return tmp_path


def start(component: Path, *command: str) -> subprocess.CompletedProcess[str]:
    command = command or ("cat", f"{component}/current/name")
    return subprocess.run(
        [sys.executable, "-S", "-E", str(GUARD), "--component-dir", str(component), "--", *command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def state(component: Path) -> dict[str, Any]:
    return json.loads((component / "guard.json").read_text())


def test_it_heals_after_the_starts_that_are_allowed(component: Path) -> None:
    assert [start(component).stdout for _ in range(2)] == [TRIAL, TRIAL]
    assert state(component)["starts"] == 2
    healed = start(component)
    assert healed.stdout == GOOD and "took bbbbbbbbbbbbbbbb back" in healed.stderr
    assert (component / "condemned" / (TRIAL * 4)).exists()
    assert "2 starts did not last" in json.loads((component / "note.json").read_text())["sentence"]
    assert state(component)["armed"] is False
    (component / "note.json").unlink()
    assert start(component).stdout == GOOD
    assert not (component / "note.json").exists(), "what is good is not counted"


def test_the_number_of_starts_is_the_agents_choice(component: Path) -> None:
    guard.write(component / "guard.json", {**state(component), "starts_allowed": 0})
    assert start(component).stdout == GOOD


def test_a_first_install_becomes_absent(component: Path) -> None:
    (component / "good").unlink()
    codes = [start(component).returncode for _ in range(3)]
    assert codes == [0, 0, 3]
    ended = start(component)
    assert ended.returncode == 3 and ended.stderr.count("\n") == 1 and "nothing to start" in ended.stderr
    assert not (component / "current").is_symlink()


@pytest.mark.parametrize("change", [{"armed": False}, {"slot": "c" * 16}])
def test_it_leaves_alone_what_it_is_not_armed_for(component: Path, change: dict[str, Any]) -> None:
    guard.write(component / "guard.json", {**state(component), **change})
    assert [start(component).stdout for _ in range(4)] == [TRIAL] * 4


def test_a_confirmed_release_is_not_counted_even_if_the_disarming_was_lost(component: Path) -> None:
    guard.point(component, "good", TRIAL)
    assert [start(component).stdout for _ in range(4)] == [TRIAL] * 4
    assert state(component)["starts"] == 0


@pytest.mark.parametrize(
    "damage", ["", "[]", '{"armed": tr', '{"armed": true, "slot": "bbbbbbbbbbbbbbbb", "starts": "x"}']
)
def test_a_damaged_file_still_heals(component: Path, damage: str) -> None:
    (component / "guard.json").write_text(damage)
    assert [start(component).stdout for _ in range(3)] == [TRIAL, TRIAL, GOOD]
    assert Slots(component).condemned(TRIAL * 4)


@pytest.mark.parametrize("cut", ["write", "condemn", "point", "disarm"])
def test_a_power_cut_between_two_steps_is_finished_by_the_next_start(
    component: Path, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard.write(component / "guard.json", {**state(component), "starts": 2})

    class PowerCut(BaseException):
        pass

    real = {name: getattr(guard, name) for name in ("write", "condemn", "point")}

    def cutting(name: str) -> Any:
        def step(*arguments: Any) -> Any:
            if cut == name or (cut == "disarm" and name == "write" and arguments[0].name == "guard.json"):
                raise PowerCut
            return real[name](*arguments)

        return step

    for name in real:
        monkeypatch.setattr(guard, name, cutting(name))
    with pytest.raises(PowerCut):
        guard.count_start(component)
    monkeypatch.undo()
    assert start(component).stdout == GOOD
    assert (component / "condemned" / (TRIAL * 4)).exists() and (component / "note.json").exists()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_start_that_cannot_be_counted_on_a_full_disk_heals_at_once(full_disk: Path) -> None:
    for slot in (GOOD, TRIAL):
        (full_disk / "slots" / slot).mkdir(parents=True)
        (full_disk / "slots" / slot / "name").write_text(slot)
    guard.point(full_disk, "good", GOOD)
    guard.point(full_disk, "current", TRIAL)
    guard.write(full_disk / "guard.json", {"armed": True, "digest": TRIAL * 4, "slot": TRIAL, "starts": 0})
    subprocess.run(["dd", "if=/dev/zero", f"of={full_disk}/ballast", "bs=1024"], capture_output=True, check=False)
    assert start(full_disk).stdout == GOOD


def test_a_command_that_does_not_exist_is_said(component: Path) -> None:
    ended = start(component, "/nowhere/at-all")
    assert ended.returncode == 127 and "cannot run /nowhere/at-all" in ended.stderr


@pytest.mark.parametrize("arguments", [[], ["--component-dir"], ["--component-dir", "x", "--"], ["a", "b", "c", "d"]])
def test_usage(arguments: list[str]) -> None:
    ended = subprocess.run([sys.executable, "-S", "-E", str(GUARD), *arguments], capture_output=True, check=False)
    assert ended.returncode == 2 and b"usage" in ended.stderr


def test_it_is_small_and_loads_the_standard_library_alone() -> None:
    assert len(GUARD.read_text().splitlines()) < 200
    seen = f"import runpy, sys; sys.argv = ['guard']\ntry: runpy.run_path({str(GUARD)!r}, run_name='__main__')\n"
    seen += "except SystemExit: pass\nprint([m for m in sys.modules if m.split('.')[0] not in sys.stdlib_module_names])"
    ended = subprocess.run([sys.executable, "-S", "-E", "-c", seen], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "['__main__']" or ended.stdout.strip() == "[]"
