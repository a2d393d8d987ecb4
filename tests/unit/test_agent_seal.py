"""A slot's list of files: what a failing disk did is named, and what a component added is no damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.agent import guard, seal
from tidegate.agent.journal import Journal, Record
from tidegate.agent.outbox import Outbox
from tidegate.agent.recover import outdated
from tidegate.agent.slots import Slots
from tidegate.core.model import Candidate


@pytest.fixture
def slot(tmp_path: Path) -> Path:
    (tmp_path / "lib").mkdir()
    (tmp_path / "rules").write_text("rule a")
    (tmp_path / "lib" / "more").write_text("more")
    (tmp_path / seal.SEAL).write_bytes(seal.describe(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda slot: None, ""),
        (lambda slot: (slot / "added").write_text("by the component"), ""),
        (lambda slot: (slot / seal.SEAL).unlink(), ""),
        (lambda slot: (slot / "rules").write_text(""), "rules has 0 bytes and not 6"),
        (lambda slot: (slot / "rules").write_text("rule b"), "rules has other content"),
        (lambda slot: (slot / "lib" / "more").unlink(), "lib/more is missing"),
        (lambda slot: (slot / seal.SEAL).write_text("["), "its list of files cannot be read"),
        (lambda slot: (slot / seal.SEAL).write_text('{"rules": 3}'), "its files cannot be read"),
        (lambda slot: (slot / seal.SEAL).write_text("[]"), "its files cannot be read"),
    ],
)
def test_damage_is_named(slot: Path, harm: Callable[[Path], None], said: str) -> None:
    harm(slot)
    found = seal.broken(slot)
    assert found == "" if not said else said in found


def test_an_outcome_that_waits_is_known_by_its_lease(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox", lambda *_, **__: None)
    outbox.put({"lease_id": "r1:1:1", "kind": "confirmed", "seq": 4})
    (outbox.directory / "00000000000000000001.json").write_text("{")
    assert outbox.holds("r1:1:1") and not outbox.holds("r1:1:2")


def test_a_journal_that_contradicts_the_guard_is_from_another_time(tmp_path: Path) -> None:
    slots = Slots(tmp_path)
    old, new = "a" * 64, "b" * 64
    for digest in (old, new):
        slots.path(digest).mkdir()
    guard.point(tmp_path, "good", old[:16])
    guard.point(tmp_path, "current", new[:16])
    slots.arm(new)

    def record(state: str, digest: str) -> Record:
        return Journal(tmp_path / "journal.json").write(state=state, candidate=Candidate("p", digest, 1, 1))

    assert "older than the pointers" in outdated(record("IDLE", old), slots)
    assert "another release" in outdated(record("PROBING", old), slots)
    assert outdated(record("PROBING", new), slots) == ""
    slots.point_back()
    slots.disarm()
    assert outdated(record("IDLE", old), slots) == ""
