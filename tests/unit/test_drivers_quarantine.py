"""Quarantine: what is taken can be put back, also when the power goes between two steps."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tidegate.drivers import quarantine


@pytest.fixture
def watch(tmp_path: Path) -> Path:
    (tmp_path / "watch/deep").mkdir(parents=True)
    (tmp_path / "held").mkdir()
    (tmp_path / "watch/deep/a").write_bytes(b"one")
    return tmp_path / "watch"


def record(content: bytes = b"one", path: str = "deep/a") -> quarantine.Record:
    return {"path": path, "rule": "r", "digest": "d", "sha256": hashlib.sha256(content).hexdigest(), "at": 1}


def test_taken_and_put_back(watch: Path, tmp_path: Path) -> None:
    held = tmp_path / "held"
    (watch / "deep/a").chmod(0o750)
    name = quarantine.take(held, watch, record())
    assert not (watch / "deep/a").exists()
    assert quarantine.records(held) == {name: record()}
    (watch / "deep").rmdir()
    assert quarantine.give_all_back(held, watch) == []
    assert (watch / "deep/a").read_bytes() == b"one"
    assert (watch / "deep/a").stat().st_mode & 0o777 == 0o750
    assert list(held.iterdir()) == []


def test_power_lost_before_the_move_leaves_the_file(
    watch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, moved = tmp_path / "held", []

    def lost(self: Path, target: Path) -> Path:
        if self.name == "a":
            raise OSError("power lost")
        moved.append(target)
        return Path(self.rename(target))

    with monkeypatch.context() as cut:
        cut.setattr(Path, "replace", lost)
        with pytest.raises(OSError, match="power lost"):
            quarantine.take(held, watch, record())
    assert moved, "the record was on disk first"
    assert (watch / "deep/a").exists()
    assert quarantine.give_all_back(held, watch) == []
    assert (watch / "deep/a").read_bytes() == b"one"
    assert quarantine.records(held) == {}


def test_a_newer_file_in_its_place_wins_and_both_are_kept(watch: Path, tmp_path: Path) -> None:
    held = tmp_path / "held"
    name = quarantine.take(held, watch, record())
    (watch / "deep/a").write_bytes(b"two")
    assert quarantine.give_all_back(held, watch) == ["deep/a"]
    assert (watch / "deep/a").read_bytes() == b"two"
    assert quarantine.content(held, name).read_bytes() == b"one"


def test_the_same_file_back_in_its_place_settles_it(watch: Path, tmp_path: Path) -> None:
    held = tmp_path / "held"
    for _ in range(3):
        quarantine.take(held, watch, record())
        (watch / "deep/a").write_bytes(b"one")
    assert len(quarantine.records(held)) == 1
    assert quarantine.give_all_back(held, watch) == []
    assert list(held.iterdir()) == []


@pytest.mark.parametrize("path", ["../outside", "/tmp/outside", ""])
def test_a_damaged_record_reaches_nothing_outside(watch: Path, tmp_path: Path, path: str) -> None:
    held = tmp_path / "held"
    name = quarantine.take(held, watch, record())
    quarantine.relabel(held, name, {**record(), "path": path})
    assert quarantine.give_all_back(held, watch) == [path]
    assert quarantine.content(held, name).exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"path": 1, "digest": "d", "sha256": "s"}), "\x00"])
def test_what_is_no_record_is_left_alone(tmp_path: Path, watch: Path, text: str) -> None:
    (tmp_path / "held/x.json").write_text(text)
    assert quarantine.give_all_back(tmp_path / "held", watch) == []
    assert (tmp_path / "held/x.json").read_text() == text


def test_a_name_that_is_no_unicode(tmp_path: Path, watch: Path) -> None:
    path = watch / "b\udcff"
    path.write_bytes(b"one")
    quarantine.take(tmp_path / "held", watch, record(path="b\udcff"))
    assert quarantine.give_all_back(tmp_path / "held", watch) == []
    assert path.read_bytes() == b"one"
