"""A standby that follows a log: it comes to the state that a replay gives, and what is not this log's is not taken."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidegate.control.batch_fold import fold_batches
from tidegate.control.checkpoints import Checkpoints
from tidegate.control.controller import Controller
from tidegate.control.following import Followed, Following
from tidegate.control.state import ServerState
from tidegate.log.batch import Batch
from tidegate.log.events import Act, Enrolled, Event
from tidegate.log.port import LogError, LogReader
from tidegate.log.sqlite import SqliteLog

DEVICES = 40


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    found = SqliteLog(tmp_path / "log.db")
    found.append([token(), *enrolments(0, DEVICES)])
    yield found
    found.close()


def token() -> Event:
    body = {"token_id": "t", "hash": "", "labels": {}, "uses": 1000, "expires_ms": 0}
    return Act(at_ms=0, what="token_created", who="test", why="", body=body)


def enrolments(first: int, end: int, site: str = "s") -> list[Event]:
    return [
        Enrolled(
            at_ms=index,
            index=index,
            device_id=f"{index:032x}",
            public_key=f"{index + 1:064x}",
            token_id="t",
            labels={"site": f"{site}{index % 3}"},
            facts={},
        )
        for index in range(first, end)
    ]


def until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def known(state: ServerState) -> tuple[list[object], int, int]:
    return [(row.device, row.enrolled_ms) for row in state.devices], state.tokens["t"].used, state.last_ms


def followed_to(log: SqliteLog, kept: Checkpoints) -> Followed:
    following = Following(lambda: Beside(log), kept)
    until(lambda: following.seq == log.last)
    found = following.take()
    assert found is not None
    return found


class Beside:
    """The log as one who reads beside its writer has it: closing it closes nothing."""

    def __init__(self, log: SqliteLog) -> None:
        self._log = log

    @property
    def last(self) -> int:
        return self._log.last

    def read_batches(self, after: int = 0) -> Iterator[tuple[int, Batch]]:
        return self._log.read_batches(after)

    def close(self) -> None: ...


class NoRepository:
    next_version = 1

    def publish(self, plans: object, now: int) -> int:
        return 1

    def refresh(self, now: int) -> int | None:
        return None

    def catch_up(self) -> None: ...


def test_it_keeps_up_while_the_log_grows(log: SqliteLog, tmp_path: Path) -> None:
    following = Following(lambda: Beside(log), Checkpoints(tmp_path / "kept"))
    until(lambda: following.seq == log.last)
    for first in range(DEVICES, DEVICES + 200, 20):
        log.append(enrolments(first, first + 20))
    until(lambda: following.seq == log.last)
    found = following.take()
    assert found is not None
    assert found.seq == log.last
    assert known(found.state) == known(fold_batches(log.read_batches()))
    log.append(enrolments(DEVICES + 200, DEVICES + 210))
    controller = Controller(log, NoRepository(), followed=found)
    assert controller.state is found.state, "nothing was read a second time"
    assert known(controller.state) == known(fold_batches(log.read_batches()))


def test_it_begins_at_a_checkpoint(log: SqliteLog, tmp_path: Path) -> None:
    kept, before = Checkpoints(tmp_path / "kept"), log.last
    assert kept.save(log, fold_batches(log.read_batches(), ServerState(kept.room()))), kept.trouble
    found = followed_to(log, kept)
    assert (found.seq, found.saved) == (before, before)
    assert Controller(log, NoRepository(), followed=found).state is found.state, "without any event after it"
    log.append(enrolments(DEVICES, DEVICES + 5))
    found = followed_to(log, kept)
    assert (found.seq, found.saved) == (log.last, before)
    assert known(found.state) == known(fold_batches(log.read_batches()))


def test_the_state_of_another_log_is_not_taken(log: SqliteLog, tmp_path: Path) -> None:
    found = followed_to(log, Checkpoints(tmp_path / "kept"))
    for name, events in (("shorter", [token()]), ("other", [token(), *enrolments(0, DEVICES, "another")])):
        other = SqliteLog(tmp_path / f"{name}.db")
        other.append(events)
        controller = Controller(other, NoRepository(), followed=found)
        assert controller.state is not found.state
        assert known(controller.state) == known(fold_batches(other.read_batches()))
        other.close()


def test_a_log_that_is_away_is_asked_again(log: SqliteLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.control.following.AGAIN_S", 0.01)
    asked = list[int]()

    def away_at_first() -> LogReader:
        asked.append(1)
        if len(asked) < 4:
            raise LogError("nobody answers")
        return Beside(log)

    following = Following(away_at_first, Checkpoints(tmp_path / "kept"))
    until(lambda: following.seq == log.last)
    assert following.take() is not None


def test_a_checkpoint_that_is_far_ahead_is_read_instead(
    log: SqliteLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoints(tmp_path / "kept")
    found = followed_to(log, kept)
    log.append(enrolments(DEVICES, DEVICES + 60))
    assert kept.save(log, fold_batches(log.read_batches(), ServerState(kept.room()))), kept.trouble
    for worth, followed in ((61, True), (60, False)):
        monkeypatch.setattr("tidegate.control.keeping.WORTH_READING", worth)
        controller = Controller(log, NoRepository(), checkpoints=kept, followed=found)
        assert (controller.state is found.state) == followed
        assert known(controller.state) == known(fold_batches(log.read_batches()))


class Damaged(Beside):
    """Gives records that cannot be folded: a token that nobody made."""

    def read_batches(self, after: int = 0) -> Iterator[tuple[int, Batch]]:
        for first, batch in super().read_batches(after):
            batch.texts = ["unknown" if text == "t" else text for text in batch.texts]
            batch.others = []
            yield first, batch


def test_what_cannot_be_folded_is_left_to_the_start(log: SqliteLog, tmp_path: Path) -> None:
    following = Following(lambda: Damaged(log), Checkpoints(tmp_path / "kept"))
    time.sleep(0.3)
    assert following.take() is None


def test_a_log_that_nobody_else_may_read_is_not_followed(tmp_path: Path) -> None:
    following = Following(lambda: None, Checkpoints(tmp_path / "kept"))
    assert following.take() is None


class Hanging(Beside):
    @property
    def last(self) -> int:
        time.sleep(5)
        return 0


def test_a_store_that_hangs_does_not_keep_it_from_taking_over(log: SqliteLog, tmp_path: Path) -> None:
    following = Following(lambda: Hanging(log), Checkpoints(tmp_path / "kept"))
    time.sleep(0.05)
    began = time.monotonic()
    assert following.take() is None
    assert time.monotonic() - began < 3
