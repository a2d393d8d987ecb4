"""Programs that a manifest names: filled in, without a shell, without our secrets, bounded in time."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tidegate.core.model import Health, Manifest, Payload
from tidegate.drivers.command import CommandDriver
from tidegate.drivers.files import FilesDriver
from tidegate.drivers.port import BadInput, DriverError, Place, load_driver
from tidegate.drivers.programs import fill, run_program

PY = sys.executable


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "one").mkdir()
    (tmp_path / "current").symlink_to(tmp_path / "one")
    settings = {"watch": "/a b/{current}", "timeout_s": "0.4"}
    manifest = Manifest("rules", "1", 1, "command", Payload("0" * 64, 1, 1, 1), Health(0), activate=(PY, "-c", "pass"))
    return Place("rules", tmp_path / "current", tmp_path, manifest, settings)


def with_activate(place: Place, *command: str) -> Place:
    assert place.manifest is not None
    return replace(place, manifest=replace(place.manifest, activate=command))


def test_a_setting_is_filled_in_as_it_is(place: Place) -> None:
    assert fill(("x", "--at={watch}", "{component}", "{}", "{Big}"), place, "it") == [
        "x", "--at=/a b/{current}", "rules", "{}", "{Big}",
    ]  # fmt: skip


def test_a_setting_that_is_not_there_is_named(place: Place) -> None:
    with pytest.raises(DriverError, match=r"probe 'desk' needs \{port\}"):
        fill(("x", "{port}"), place, "probe 'desk'")


def test_nothing_goes_through_a_shell(place: Place, tmp_path: Path) -> None:
    words = [PY, "-c", "import sys; print(sys.argv[1])", "$(touch hacked); `touch hacked`"]
    assert run_program(words, place, 5).last_line == words[3]
    assert not (tmp_path / "hacked").exists()


def test_our_environment_stays_ours(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_SECRET", "do not tell")
    said = run_program([PY, "-c", "import os; print(sorted(os.environ))"], place, 5).last_line
    assert "PATH" in said
    assert "TIDEGATE_SECRET" not in said


def test_time_runs_out_for_children_too(place: Place, tmp_path: Path) -> None:
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    before = time.monotonic()
    ended = run_program([PY, "-c", code], place, 0.5)
    assert ended.code is None
    assert time.monotonic() - before < 50
    child = int(ended.last_line)
    give_up = time.monotonic() + 60
    while Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
        assert time.monotonic() < give_up, "the program's child lives on"
        time.sleep(0.02)


def test_a_flood_of_output_is_cut(place: Place) -> None:
    ended = run_program([PY, "-c", "print('x' * 3_000_000); print('the end')"], place, 10)
    assert (ended.code, ended.last_line) == (0, "the end")


def test_a_death_by_signal_is_named(place: Place) -> None:
    ended = run_program([PY, "-c", "import os; os.kill(os.getpid(), 9)"], place, 5)
    assert "signal SIGKILL" in ended.sentence


def test_activation_that_fails_hangs_or_is_missing(place: Place) -> None:
    driver = CommandDriver()
    with pytest.raises(DriverError, match="exit code 1: no licence"):
        driver.activate(with_activate(place, PY, "-c", "import sys; sys.exit('no licence')"))
    with pytest.raises(DriverError, match="did not end in time"):
        driver.activate(with_activate(place, "sleep", "60"))
    with pytest.raises(DriverError, match="cannot be run"):
        driver.activate(with_activate(place, "./no-such-program"))
    with pytest.raises(DriverError, match="timeout_s"):
        driver.activate(replace(place, settings={"timeout_s": "soon"}))
    with pytest.raises(DriverError, match="timeout_s"):
        driver.activate(replace(place, settings={"timeout_s": "nan"}))


def test_a_command_release_needs_a_command(place: Place, tmp_path: Path) -> None:
    (tmp_path / "one" / "a").touch()
    assert place.manifest is not None
    with pytest.raises(DriverError, match="activate command"):
        CommandDriver().check(tmp_path / "one", replace(place.manifest, activate=()))
    FilesDriver().check(tmp_path / "one", replace(place.manifest, activate=()))


def test_going_back_meanwhile_is_no_success(place: Place, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    flip = f"import os; os.unlink('current'); os.symlink({str(tmp_path / 'two')!r}, 'current')"
    with pytest.raises(DriverError, match="the guard took one back while it started; two runs now"):
        CommandDriver().activate(with_activate(place, PY, "-c", flip))
    assert os.readlink(place.current).endswith("two")


def test_deactivate_runs_its_program(place: Place, tmp_path: Path) -> None:
    assert place.manifest is not None
    end = (PY, "-c", "open('ended', 'w').close()")
    for driver in (CommandDriver(), FilesDriver()):
        driver.deactivate(replace(place, manifest=replace(place.manifest, deactivate=end)))
        (tmp_path / "ended").unlink()


def test_an_unknown_driver_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"no driver 'magic'.*yara"):
        load_driver("magic")
