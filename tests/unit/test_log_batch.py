"""Records: what goes into columns comes out the same, whatever the order and however large the numbers."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.core.errors import BadInput
from tidegate.core.model import Arm, Outcome
from tidegate.log import batch
from tidegate.log.address import check_address, open_log
from tidegate.log.batch import unpack
from tidegate.log.columns import shrink, widen
from tidegate.log.events import Act, Enrolled, Event, Leased, Reported, decode, encode
from tidegate.log.nats_groups import Address, groups_of, messages_of
from tidegate.log.pack import merge, pack, records
from tidegate.log.sqlite import SqliteLog

RECORDED = Path(__file__).parents[1] / "contract" / "log_v1.jsonl"
whole = st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
labels = st.dictionaries(texts, texts, max_size=3)
leased = st.builds(
    Leased,
    at_ms=whole,
    rollout=texts,
    position=whole,
    index=whole,
    ring=whole,
    arm=st.sampled_from(Arm),
    late=st.booleans(),
    installed=st.none() | texts,
    plan_version=whole,
    attempt=whole,
    seq=whole | st.just(1 << 80),
    labels=labels,
)
reported = st.builds(
    Reported,
    at_ms=whole,
    rollout=texts,
    position=whole,
    index=whole,
    ring=whole,
    outcome=st.sampled_from(Outcome),
    seq=whole,
    boot_s=whole,
    probes=st.lists(st.dictionaries(texts, st.none() | st.booleans() | texts, max_size=2), max_size=2),
    note=texts,
    condemned=st.booleans(),
)
signed = reported.map(lambda event: msgspec.structs.replace(event, report_seq=7, signature="ab" * 64))
enrolled = st.builds(
    Enrolled,
    at_ms=whole,
    index=whole,
    device_id=st.binary(min_size=16, max_size=16).map(bytes.hex) | texts,
    public_key=st.binary(min_size=32, max_size=32).map(bytes.hex) | texts | st.just(""),
    token_id=texts,
    labels=labels,
    facts=labels,
)
acts = st.builds(Act, at_ms=whole, what=texts, who=texts, why=texts, body=labels)
events = st.lists(leased | reported | signed | enrolled | acts, min_size=1, max_size=60)


def as_written(found: list[Event]) -> list[bytes]:
    return [encode(event) for event in found]


@given(events)
def test_what_is_packed_comes_out_the_same_and_in_order(made: list[Event]) -> None:
    assert as_written(unpack(pack(made)).events) == as_written(made)


@given(events, st.integers(1, 9))
def test_groups_of_messages_come_together_again(made: list[Event], partitions: int) -> None:
    address = Address(("nats://x",), "s", "", 3, partitions)
    messages = [(headers, body) for _, body, headers in messages_of(made * 3, 7, address)]
    (group,) = groups_of(messages)
    assert (group.first, group.count) == (7, len(made) * 3)
    assert as_written(group.batch().events) == as_written(made * 3)


def test_a_group_without_its_end_is_passed_over_and_the_next_one_counts() -> None:
    many: list[Event] = [line_event(0, "x" * 3_000_000), *(line_event(n) for n in range(1, 50))]
    address = Address(("nats://x",), "s", "", 3, 4)
    first = [(headers, body) for _, body, headers in messages_of(many, 1, address)]
    assert len(first) > 3
    again = [(headers, body) for _, body, headers in messages_of(many[1:], 1, address)]
    found = list(groups_of([*first[:-1], ({}, b""), *again, *first[1:]]))
    assert [(group.first, group.count) for group in found] == [(1, 49)]


def line_event(number: int, why: str = "") -> Act:
    return Act(at_ms=number, what="x", who="y", why=why, body={})


@given(st.lists(whole, min_size=1, max_size=50))
def test_a_column_takes_any_numbers(values: list[int]) -> None:
    column = np.array(values, dtype=np.int64)
    assert widen(shrink(column)).tolist() == values


def test_columns_hold_every_field_of_their_events() -> None:
    """A field that a later version adds must get a column, or an event with it must stay JSON."""
    columns = {*batch.LEASED_NUMBERS, *batch.LEASED_TEXTS, "arm", "v"}
    assert columns == set(Leased.__struct_fields__)
    columns = {*batch.REPORTED_NUMBERS, *batch.REPORTED_TEXTS, "outcome", "v"}
    assert columns == set(Reported.__struct_fields__) - {"report_seq", "signature"}  # a signed report stays JSON
    columns = {*batch.ENROLLED_NUMBERS, *batch.ENROLLED_TEXTS, "device_id", "public_key", "v"}
    assert columns == set(Enrolled.__struct_fields__)


def test_a_fleets_reports_take_few_bytes_each() -> None:
    made: list[Event] = [
        Reported(
            at_ms=10**12 + n // 50,
            rollout="edr-rules-a1b2c3",
            position=n,
            index=n,
            ring=3,
            outcome=Outcome.CONFIRMED,
            seq=9 + n % 3,
            boot_s=100,
            probes=[],
            note="",
        )
        for n in range(4096)
    ]
    assert len(pack(made)) < 12 * len(made)
    assert [count for _, count, _, _ in records(made * 3, 1)] == [4096, 4096, 4096]
    assert [first for first, _, _, _ in records(made * 3, 1)] == [1, 4097, 8193]


@pytest.mark.parametrize("cut", [0, 3, 4, 10, -1])
def test_a_damaged_record_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="record"):
        unpack(pack([line_event(1)])[:cut])
    with pytest.raises(ValueError, match="not whole"):
        merge([unpack(pack([line_event(1)], [0], 3)), unpack(pack([line_event(1)], [1], 3))])


def test_a_file_of_the_first_form_is_brought_forward_whole(tmp_path: Path) -> None:
    lines = RECORDED.read_bytes().splitlines()
    database = sqlite3.connect(tmp_path / "log.db")
    database.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, kind TEXT, at_ms INTEGER, body BLOB)")
    database.executemany("INSERT INTO event VALUES (?, 'x', 0, ?)", list(enumerate(lines, start=1)))
    database.commit()
    database.close()
    for _ in range(2):
        log = SqliteLog(tmp_path / "log.db")
        assert [event for _, event in log.read()] == [decode(line) for line in lines]
        log.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://a:secret@host/db", "no password"),
        ("postgresql://a@host/db?password=secret", "no password"),
        ("nats://a:secret@host/s", "no password"),
        ("mysql://host/db", "not mysql"),
        ("log.db", "a log is a file"),
        ("nats://host:4222", "a log in NATS is"),
        ("nats://host:4222/a.b", "a log in NATS is"),
        ("nats://host:4222/s?replicas=9", "known settings"),
        ("nats://host:4222/s?speed=1", "known settings"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_and_no_password_is_repeated(url: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as found:
        check_address(url)
    assert "secret" not in str(found.value)


def test_the_password_file_must_be_there(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("TIDEGATE_LOG_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(Exception, match="is not there"):
        open_log(tmp_path / "log.db", "postgresql://a@127.0.0.1:1/db")
