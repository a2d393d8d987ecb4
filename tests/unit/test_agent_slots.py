"""Slots, pointers and journal: whole or not there, and never without the last known good."""

from __future__ import annotations

import errno
import hashlib
import json
from pathlib import Path

import pytest

from tidegate.agent import guard
from tidegate.agent.journal import Journal, Lease, Record
from tidegate.agent.recover import from_slots
from tidegate.agent.slots import MANIFEST, Slots
from tidegate.core.errors import BadInput, Untrusted
from tidegate.core.model import Candidate, Health, Manifest, Payload
from tidegate.core.wire import encode
from tidegate.trust.errors import DiskFull


def manifest(seq: int) -> Manifest:
    return Manifest("edr-rules", f"1.{seq}", seq, "files", Payload("0" * 64, 1, 1, 1), Health(1))


def digest_of(made: Manifest) -> str:
    return hashlib.sha256(encode(made)).hexdigest()


def unpack(directory: Path) -> None:
    directory.mkdir()
    (directory / "rules").write_text("x")


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path)


def filled(slots: Slots, seq: int) -> str:
    digest = digest_of(manifest(seq))
    slots.fill(digest, manifest(seq), unpack)
    return digest


def test_a_release_is_told_by_its_manifest(slots: Slots) -> None:
    digest = filled(slots, 1)
    assert slots.has(digest) and slots.manifest(digest) == manifest(1) and slots.current() is None
    slots.flip(digest)
    assert slots.current() == digest
    (slots.path(digest) / MANIFEST).write_text("{}")
    assert slots.current() is None and not slots.has(digest), "a damaged slot is none"
    slots.fill(digest, manifest(1), unpack)
    assert slots.current() == digest, "and is filled anew"


def test_what_goes_wrong_leaves_nothing_behind(slots: Slots) -> None:
    digest = digest_of(manifest(1))
    with pytest.raises(Untrusted):
        slots.fill("f" * 64, manifest(1), unpack)

    def full(directory: Path) -> None:
        unpack(directory)
        raise OSError(errno.ENOSPC, "No space left on device")

    def ours(directory: Path) -> None:
        unpack(directory)
        (directory / MANIFEST).write_text("{}")

    for fault, error in ((full, DiskFull), (ours, BadInput)):
        with pytest.raises(error):
            slots.fill(digest, manifest(1), fault)
        assert list(slots.slots.iterdir()) == []


def test_room_is_asked_for_beforehand(slots: Slots) -> None:
    slots.need_room(1)
    with pytest.raises(DiskFull, match="free some space"):
        slots.need_room(1 << 60)


def test_cleaning_keeps_what_runs_and_what_is_good(slots: Slots) -> None:
    digests = [filled(slots, seq) for seq in range(1, 5)]
    slots.flip(digests[0])
    assert slots.keep(digests[0])
    slots.flip(digests[1])
    (slots.slots / ".torn.new.partial").mkdir()
    slots.clean([digests[2]])
    assert {path.name for path in slots.slots.iterdir()} == {digest[:16] for digest in digests[:3]}


def test_a_release_that_the_guard_took_back_is_not_kept(slots: Slots) -> None:
    first, second = filled(slots, 1), filled(slots, 2)
    slots.flip(first)
    assert slots.keep(first)
    slots.arm(second)
    slots.flip(second)
    for _ in range(3):
        guard.count_start(slots.directory)
    assert not slots.keep(second)
    assert slots.current() == slots.good() == first and slots.condemned(second)
    assert second[:16] in slots.note_about(second) and slots.note_about(first) == ""


def test_arming_again_keeps_the_count(slots: Slots) -> None:
    digest = filled(slots, 1)
    slots.arm(digest)
    slots.flip(digest)
    guard.count_start(slots.directory)
    slots.arm(digest)
    assert slots.guard_state()["starts"] == 1
    slots.disarm()
    slots.arm(digest)
    assert slots.guard_state()["starts"] == 0


def test_going_back_needs_no_manifest(slots: Slots) -> None:
    first, second = filled(slots, 1), filled(slots, 2)
    slots.flip(first)
    slots.keep(first)
    slots.flip(second)
    (slots.path(first) / MANIFEST).unlink()
    slots.point_back()
    assert slots.current_path.resolve() == slots.path(first).resolve()


LEASE = Lease("r1:1:0", "treated", 1, 60.0, 60.0, "boot", 1.5)


def test_journal_gives_back_what_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    assert not journal.load()
    candidate = Candidate("releases/x/1.json", "a" * 64, 10, 1)
    probes = ({"name": "p", "healthy": True, "detail": ""},)
    journal.write(state="PROBING", candidate=candidate, lease=LEASE, probes=probes, note="é")
    again = Journal(tmp_path / "journal.json")
    assert again.load() and again.record == journal.record and again.record.generation == 1
    again.write(state="CONFIRMED")
    assert again.record.generation == 2


def test_every_flipped_byte_of_a_journal_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    Journal(path).write(state="PROBING", lease=LEASE)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        journal = Journal(path)
        if journal.load():  # a space in a number, say: what is read is the same
            assert json.loads(path.read_bytes())["record"] == json.loads(whole)["record"]
        else:
            assert "damaged" in journal.recovered and journal.record == Record()


def facts(digest: str) -> dict[str, object]:
    candidate = {"path": "p", "sha256": digest, "length": 1, "seq": 2}
    lease = json.loads(encode(LEASE))
    return {"lease": lease, "candidate": candidate, "rollout": "r1", "report_seq": 7}


@pytest.mark.parametrize(
    ("current", "good", "armed", "state"),
    [
        (None, None, False, "IDLE"),
        (1, 1, False, "IDLE"),
        (1, None, False, "IDLE"),
        (2, 1, True, "REVERTING"),
        (2, None, True, "REVERTING"),
        (2, 2, True, "CONFIRMED"),
        (None, 1, False, "REVERTING"),
        (2, 1, False, "REVERTING"),
    ],
)
def test_recovery_from_the_slots(slots: Slots, current: int | None, good: int | None, armed: bool, state: str) -> None:
    digests = {seq: filled(slots, seq) for seq in (1, 2)}
    for pointer, seq in (("current", current), ("good", good)):
        if seq:
            guard.point(slots.directory, pointer, digests[seq][:16])
    if armed:
        slots.arm(digests[2], **facts(digests[2]))
    record, sentence = from_slots(slots)
    assert record.state == state
    assert sentence or (current is None and good is None)
    assert (record.lease == LEASE and record.report_seq == 7) == armed
