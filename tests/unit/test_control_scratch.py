"""Columns in nameless files: the same numbers, gone with the process, in memory where no file can be made."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import _fleets as fleets
from tests.snapshots import difference, snapshot

from tidegate.control import scratch
from tidegate.control.batch_fold import fold_batches
from tidegate.control.checkpoints import Checkpoints
from tidegate.control.graph import read_graph, write_graph
from tidegate.control.scratch import in_file, longer, relax, room
from tidegate.control.state import ServerState
from tidegate.log.sqlite import SqliteLog


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LEAST_BYTES", 64)


def test_a_column_in_a_file_holds_what_is_written_and_grows_in_place(tmp_path: Path) -> None:
    column = room((100, 2), np.uint64, str(tmp_path))
    assert in_file(column)
    assert not column.any()
    column[:] = np.arange(200, dtype=np.uint64).reshape(100, 2)
    relax(column)
    grown = longer(column, 5000, str(tmp_path))
    relax(grown)
    assert in_file(grown)
    assert grown[:100].tolist() == column.tolist()
    assert not grown[100:].any()
    column[3] = 7  # both look at the one file
    assert grown[3].tolist() == [7, 7]
    assert os.listdir(tmp_path) == [], "it has no name: nothing stays when the process ends"


def test_without_a_directory_or_room_it_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_file(room((100,), np.uint8, ""))
    assert not in_file(room((100,), np.uint8, str(tmp_path / "nowhere")))
    assert not in_file(room((10,), np.uint8, str(tmp_path))), "too little for a file"
    kept = room((100,), np.uint8, str(tmp_path))
    kept[:] = 9

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not in_file(room((100,), np.uint8, str(tmp_path)))
    grown = longer(kept, 1000, str(tmp_path))
    assert not in_file(grown)
    assert grown.tolist() == [9] * 100 + [0] * 900


def test_a_state_in_files_is_the_state_in_memory_through_a_checkpoint_too(tmp_path: Path) -> None:
    devices = 3000
    log = SqliteLog(tmp_path / "log.db")
    log.append_records([*fleets.enrolments(devices), fleets.start(devices), *fleets.leases(devices, 1, 2)])
    kept = Checkpoints(tmp_path / "kept")
    state = fold_batches(log.read_batches(), ServerState(kept.room()))
    plain = fold_batches(log.read_batches())
    assert in_file(state.devices.ids)
    assert not in_file(plain.devices.ids)
    assert difference(snapshot(state), snapshot(plain)) == ""
    assert kept.save(log, state), kept.trouble
    found = kept.newest(log)
    assert found is not None
    assert in_file(found.state.devices.ids)
    assert difference(snapshot(found.state), snapshot(plain)) == ""
    keys = [state.devices.public_key(index) for index in range(devices)]
    assert [found.state.devices.by_public_key(key) for key in keys] == list(range(devices))
    log.append_records(list(fleets.reports(devices, 1, 3)))
    for one in (found.state, plain):
        fold_batches(log.read_batches(found.seq), one)
    assert difference(snapshot(found.state), snapshot(plain)) == ""
    log.close()
    assert [path.suffix for path in kept.directory.iterdir()] == [".checkpoint"]


def test_arrays_that_look_at_the_same_memory_do_so_again(tmp_path: Path) -> None:
    whole = np.arange(10, dtype=np.uint64)
    with (tmp_path / "x").open("wb") as file:
        write_graph(file, {"whole": whole, "head": whole[:4], "tail": whole[4:], "other": whole[:4].view(np.int64)})
    found = read_graph(tmp_path / "x")
    found["whole"][2] = 77
    found["whole"][6] = 78
    assert found["head"].tolist() == [0, 1, 77, 3]
    assert found["tail"].tolist() == [4, 5, 6, 7, 8, 9]
    assert found["other"].tolist() == [0, 1, 2, 3]
