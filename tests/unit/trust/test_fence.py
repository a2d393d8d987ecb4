"""A process that was paused and replaced wakes up at any step of a publication: nothing that devices see goes back."""

# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.metadata import Timestamp

from tidegate.core.errors import TidegateError
from tidegate.core.wire import encode
from tidegate.trust import fence
from tidegate.trust.checkpoint import parse_checkpoint
from tidegate.trust.fence import Overtaken, Pen
from tidegate.trust.ledger import CHECKPOINT, LedgerWriter
from tidegate.trust.metadata import parse
from tidegate.trust.note import NoteSigner, parse_note
from tidegate.trust.publisher import Publisher

if TYPE_CHECKING:
    from .conftest import House

SIGNER = NoteSigner("example.org/tidegate/log", Ed25519PrivateKey.from_private_bytes(bytes(32)))


class Steps:
    """Calls something before each step on the disk of the thread that is watched: an audit hook cannot be taken away,
    so there is one for all tests."""

    def __init__(self) -> None:
        self.before: Callable[[int], None] | None = None
        self.thread, self.count = 0, 0
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[object, ...]) -> None:
        if self.before is None or threading.get_ident() != self.thread:
            return
        if event not in ("open", "os.link", "os.rename", "os.remove", "os.listdir", "os.chmod"):
            return
        before, self.before = self.before, None  # what is done now is not watched itself
        try:
            before(self.count)
        finally:
            self.count += 1
            self.before = before

    @contextlib.contextmanager
    def watched(self, before: Callable[[int], None]) -> Iterator[None]:
        self.thread, self.count, self.before = threading.get_ident(), 0, before
        try:
            yield
        finally:
            self.before = None


STEPS = Steps()


def interleaved(late: Callable[[], object], takeover: Callable[[], object], seen: Callable[[], int], at: int) -> bool:
    """Let `late` be paused before its step `at`, and another take over; say whether there was such a step."""
    marks: list[int] = []

    def before(step: int) -> None:
        if step == at:
            takeover()
        marks.append(seen())

    with STEPS.watched(before), contextlib.suppress(Overtaken, OSError):
        late()
    marks.append(seen())
    assert marks == sorted(marks), f"paused before step {at}: devices saw {marks}"
    return len(marks) > at + 1


def timestamp_version(house: House) -> int:
    data = (house.repo / "metadata" / "timestamp.json").read_bytes()
    return parse(Timestamp, data, "the timestamp").signed.version


@pytest.mark.parametrize("editions", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_publisher_that_was_paused_at_any_step_sets_nothing_back(rolling: House, editions: int) -> None:
    """At whatever step: the timestamp never goes back, and no edition has two contents."""
    device, _ = rolling.device()
    device.refresh()
    plan, _ = device.plan(rolling.component)
    steps = 0
    for at in itertools.count():
        rolling.publisher = paused = Publisher(rolling.repo, rolling.online)

        def take_over() -> None:
            rolling.publisher = Publisher(rolling.repo, rolling.online)
            for ring in range(editions):
                rolling.publish(rolling.plan(plan.candidate, ring=2 + ring))

        late = {rolling.component: encode(rolling.plan(plan.candidate, ring=99))}
        there = interleaved(
            lambda paused=paused, late=late: paused.publish(late, rolling.now),
            take_over,
            lambda: timestamp_version(rolling),
            at,
        )
        if not there:
            break
        steps = at + 1
        device.refresh()
        assert device.plan(rolling.component)[0].ring == 1 + editions, f"paused before step {at}"
        if at % 5 == 0:
            fresh, _ = rolling.device(f"fresh-{at}")
            fresh.refresh()
            assert fresh.plan(rolling.component)[0].ring == 1 + editions
    assert steps > 20, "these are not all of its steps"


def test_a_publisher_whose_number_was_taken_leaves_everything_as_it_is(rolling: House) -> None:
    paused, other = (Publisher(rolling.repo, rolling.online) for _ in range(2))
    version = other.publish({}, rolling.now)
    before = {path: path.read_bytes() for path in sorted(rolling.repo.rglob("*")) if path.is_file()}
    with pytest.raises(Overtaken, match=f"edition {version} .* another controller"):
        paused.publish({}, rolling.now)
    assert {path: path.read_bytes() for path in sorted(rolling.repo.rglob("*")) if path.is_file()} == before
    paused.catch_up()
    assert paused.publish({}, rolling.now) == version + 1


def test_a_ledger_that_was_paused_at_any_step_sets_nothing_back(tmp_path: Path) -> None:
    place, memory = tmp_path / "ledger", tmp_path / "memory"
    made = [f"entry {number}".encode() for number in range(600)]

    def size_of(path: Path) -> int:
        return parse_checkpoint(parse_note(path.read_bytes()).text).size

    LedgerWriter(place, memory, SIGNER, made[:5]).publish()
    count, steps = 5, 0
    for at in itertools.count():
        paused = LedgerWriter(place, memory, SIGNER, made[:count])
        paused.add(made[count : count + 1])

        def take_over() -> None:
            nonlocal count
            count += 4
            LedgerWriter(place, memory, SIGNER, made[:count]).publish()

        for path in (place / CHECKPOINT, memory):
            if not interleaved(paused.publish, take_over, lambda path=path: size_of(path), at):
                break
        else:
            steps = at + 1
            continue
        break
    assert steps > 15, "these are not all of its steps"
    assert size_of(memory) == size_of(place / CHECKPOINT)


def test_the_same_number_may_be_written_again_and_a_dead_ones_leftovers_go(tmp_path: Path) -> None:
    file, pen = tmp_path / "file", Pen()
    left = tmp_path / f".file.{3:020}.abc.tmp"
    left.write_bytes(b"3")
    for data in (b"4", b"4", b"5"):
        pen.put_forward(file, data, int(data), int)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(Overtaken, match="number 5 by another process, and 4 would go back"):
        pen.put_forward(file, b"4", 4, int)
    (tmp_path / f".file.{9:020}.abc.tmp").write_bytes(b"9")  # somebody is about to
    with pytest.raises(Overtaken, match="number 9"):
        pen.put_forward(file, b"6", 6, int)
    assert file.read_bytes() == b"5"


def test_on_a_file_system_without_links_a_file_is_made_once_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(fence.os, "link", no_links)
    Pen().put_new(tmp_path / "file", b"1")
    with pytest.raises(Overtaken):
        Pen().put_new(tmp_path / "file", b"2")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"1")]


def test_no_room_is_said_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fence.os, "link", full)
    with pytest.raises(TidegateError, match="no room left"):
        Pen().put_new(tmp_path / "file", b"1")
    assert os.listdir(tmp_path) == []
