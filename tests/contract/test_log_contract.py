"""What every log must keep: one order, no gaps, all or nothing, and nothing acknowledged is ever lost.

An implementation joins by an entry in IMPLEMENTATIONS; tests of one store's own file come last.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from tests.stores import NatsCluster, PostgresqlServer, place_name, store_server

from tidegate.control.state import fold
from tidegate.core.model import Arm, Outcome, PlanState
from tidegate.core.phases import Happening
from tidegate.core.rollout import ClosedRing
from tidegate.core.roster import Roster
from tidegate.core.verdict import Figures, Verdict, VerdictKind
from tidegate.log.address import open_log, open_reader
from tidegate.log.events import (
    Act,
    Enrolled,
    Event,
    Labelled,
    Leased,
    PlanPublished,
    Reported,
    RingClosed,
    VerdictTaken,
    decode,
)
from tidegate.log.nats_groups import Address
from tidegate.log.pack import pack
from tidegate.log.port import Busy, Fenced, Log, LogError, LogReader
from tidegate.log.sqlite import SqliteLog

SILENT_S = 3
RECORDED = Path(__file__).with_name("log_v1.jsonl")


@dataclass(frozen=True)
class Implementation:
    """One store: how it is opened at a place of the test's own, here and in another process."""

    name: str

    def url(self, place: Path) -> str:
        return "" if self.name == "sqlite" else store_server(self.name).url(place)

    @property
    def password_file(self) -> Path | None:
        return None if self.name == "sqlite" else store_server(self.name).password_file

    def open(self, place: Path) -> Log:
        return open_log(place / "log.db", self.url(place), self.password_file)

    def expression(self, place: Path) -> str:
        secret = f"Path({str(self.password_file)!r})" if self.password_file else "None"
        return (
            f"__import__('tidegate.log.address').log.address.open_log(place / 'log.db', {self.url(place)!r}, {secret})"
        )


IMPLEMENTATIONS = [
    pytest.param(Implementation("sqlite")),
    pytest.param(Implementation("postgresql"), marks=pytest.mark.xdist_group("postgresql")),
    pytest.param(Implementation("nats"), marks=pytest.mark.xdist_group("nats")),
]


@pytest.fixture(params=IMPLEMENTATIONS, ids=lambda found: found.name)
def store(request: pytest.FixtureRequest) -> Implementation:
    return request.param


@pytest.fixture
def log(store: Implementation, tmp_path: Path) -> Iterator[Log]:
    opened = store.open(tmp_path)
    yield opened
    opened.close()


def act(number: int, text: str = "") -> Act:
    return Act(at_ms=number, what="test", who="ada", why=text, body={"number": number})


EVERY_KIND: list[Event] = [
    Enrolled(at_ms=1, index=0, device_id="0" * 32, public_key="1" * 64, token_id="t", labels={"a": "ä"}, facts={}),
    Labelled(at_ms=2, index=0, labels={"site": "ATL"}, who="ada", why="moved \u2028 \x00 😀"),
    Leased(
        at_ms=3,
        rollout="r",
        position=5,
        index=0,
        ring=1,
        arm=Arm.PLACEBO,
        late=True,
        installed=None,
        plan_version=9,
        attempt=1 << 40,
        seq=(1 << 62) + 1,
        labels={},
    ),
    Reported(
        at_ms=4,
        rollout="r",
        position=5,
        index=0,
        ring=1,
        outcome=Outcome.REVERTED,
        seq=2,
        boot_s=3,
        probes=[{"name": "p", "healthy": False, "share": 0.1, "none": None}],
        note="x" * 5000,
    ),
    RingClosed(at_ms=5, rollout="r", closed=ClosedRing(1, 2, 1, 3, 0, Roster((7, 8))), arm_salt="00"),
    VerdictTaken(
        at_ms=6,
        rollout="r",
        verdict=Verdict(
            VerdictKind.HALT, Happening.HARM, 1, "because", Figures(1, 2, 3, 4, 5, 6, 7, 8, 0.1234567890123), 3
        ),
    ),
    PlanPublished(at_ms=7, component="c", rollout="r", version=3, plan={"state": PlanState.OPEN.value, "n": [1]}),
    Act(at_ms=8, what="token_created", who="ada", why="", body={"nested": {"list": [1, "2", None, True]}}),
]


def test_the_kinds_below_are_all_that_there_are() -> None:
    assert {type(event) for event in EVERY_KIND} == set(Event.__args__)


def test_numbers_begin_at_one_and_have_no_gaps(log: Log) -> None:
    assert log.append([act(1)]) == 1
    assert log.append([act(2), act(3), act(4)]) == 4
    assert log.append([]) == 4
    assert [seq for seq, _ in log.read()] == [1, 2, 3, 4]
    assert [event.at_ms for _, event in log.read()] == [1, 2, 3, 4]


def test_reading_goes_on_after_any_number(log: Log) -> None:
    log.append([act(number) for number in range(1, 4501)])
    for after in (0, 1, 1999, 2000, 2001, 4499, 4500, 9999):
        found = [seq for seq, _ in log.read(after)]
        assert found == list(range(after + 1, 4501))


def test_every_kind_of_event_is_read_again_the_same(log: Log, store: Implementation, tmp_path: Path) -> None:
    log.append(EVERY_KIND)
    assert [event for _, event in log.read()] == EVERY_KIND
    log.close()
    again = store.open(tmp_path)
    assert [event for _, event in again.read()] == EVERY_KIND
    assert again.append([act(9)]) == 9
    again.close()


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_batch_with_an_event_that_cannot_be_written_is_refused_whole(log: Log, position: int) -> None:
    log.append([act(1)])
    batch = [act(2), act(3), act(4)]
    batch[position] = act(5, "half a character: \ud800")
    with pytest.raises(LogError, match="took nothing"):
        log.append(batch)
    assert [seq for seq, _ in log.read()] == [1]
    assert log.append([act(6)]) == 2


def test_threads_that_append_at_once_get_numbers_without_gaps(log: Log) -> None:
    ends: list[int] = []

    def work(number: int) -> None:
        ends.extend(log.append([act(number), act(number)]) for _ in range(20))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == list(range(2, 161, 2))
    found = [event.at_ms for _, event in log.read()]
    assert found[::2] == found[1::2], "a batch stays together"


def test_a_second_writer_is_refused_and_the_first_goes_on(log: Log, store: Implementation, tmp_path: Path) -> None:
    log.append([act(1)])
    done = in_another_process(store, tmp_path, "log.append([act(2)])")
    assert done.returncode != 0
    assert "another server running" in done.stderr
    assert log.append([act(2)]) == 2


def test_who_reads_beside_the_writer_sees_all_of_it_and_keeps_nobody_out(
    log: Log, store: Implementation, tmp_path: Path
) -> None:
    log.append([act(1), act(2)])
    reader = open_reader(store.url(tmp_path), store.password_file)
    if reader is None:
        assert store.name == "sqlite"  # a file belongs to the process that has it open
        return
    try:
        assert reader.last == 2
        assert _numbers(reader, 0) == [1, 2]
        for first in range(3, 300, 40):
            log.append([act(number) for number in range(first, first + 40)])
            assert reader.last == log.last
            assert _numbers(reader, first - 1) == list(range(first, first + 40))
        assert _numbers(reader, log.last) == []
        log.close()
        again = opened_when_free(store, tmp_path)  # the reader is no writer
        again.append([act(again.last + 1)])
        assert reader.last == again.last
        assert _numbers(reader, again.last - 1) == [again.last]
        again.close()
    finally:
        reader.close()


def _numbers(reader: LogReader, after: int) -> list[int]:
    found = [
        (first + at, event) for first, batch in reader.read_batches(after) for at, event in enumerate(batch.events)
    ]
    assert all(seq == event.at_ms for seq, event in found)
    return [seq for seq, _ in found]


PROLOGUE = """
import sys, time
from pathlib import Path
from tidegate.log.events import Act
place = Path(sys.argv[1])
def act(number): return Act(at_ms=number, what="test", who="ada", why="", body={"number": number})
"""
WRITER = """
log = OPEN
number = log.append([])
while True:
    size = 1 + number % 7
    number = log.append([act(number + 1 + i) for i in range(size)])
    print(number, flush=True)
"""


def in_another_process(store: Implementation, place: Path, words: str) -> subprocess.CompletedProcess[str]:
    code = f"{PROLOGUE}\nlog = {store.expression(place)}\n{words}"
    return subprocess.run([sys.executable, "-c", code, str(place)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_what_was_acknowledged_survives_a_kill(store: Implementation, tmp_path: Path, kills: int) -> None:
    """A process appends and says what is durable; it is killed at any moment, and the next one goes on."""
    acknowledged = 0
    for round_number in range(kills):
        code = PROLOGUE + WRITER.replace("OPEN", store.expression(tmp_path))
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        for _ in range(12):  # it says some numbers, and is killed between two of them
            acknowledged = int(writer.stdout.readline())
        time.sleep(0.01 + 0.037 * (round_number % 4))
        writer.send_signal(signal.SIGKILL)
        said = [acknowledged, *writer.stdout.read().split()]
        writer.stdout.close()
        writer.wait()
        acknowledged = int(said[-1])
        log = store.open(tmp_path)
        events = list(log.read())
        log.close()
        assert [seq for seq, _ in events] == list(range(1, len(events) + 1))
        assert [event.at_ms for _, event in events] == [seq for seq, _ in events]
        assert len(events) >= acknowledged
        assert len(events) > 40 * round_number, "the writers hardly wrote"


PAUSED = """
from tidegate.log.port import Fenced
log = OPEN
log.append([act(1)])
print("open", flush=True)
for turn in range(2):
    sys.stdin.readline()
    try:
        log.check() if turn == 0 else None
        print(log.append([act(2)]), [event.at_ms for _, event in log.read()], flush=True)
    except Fenced:
        print("fenced", flush=True)
"""


def test_a_writer_that_was_paused_never_writes_beside_another(store: Implementation, tmp_path: Path) -> None:
    """SIGSTOP, as a paused machine or a process that hangs: servers' logs give its place away, a file stays its own."""
    code = PROLOGUE + PAUSED.replace("OPEN", store.expression(tmp_path))
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as old:
        assert old.stdin is not None
        assert old.stdout is not None
        assert old.stdout.readline() == "open\n"
        old.send_signal(signal.SIGSTOP)
        new: Log | None = None
        try:
            if store.name == "sqlite":
                with pytest.raises(Busy):
                    store.open(tmp_path)
            else:
                new = opened_when_free(store, tmp_path)
                assert new.append([act(2), act(3)]) == 3
        finally:
            old.send_signal(signal.SIGCONT)
        for expected in ("fenced", "fenced") if new else ("2 [1, 2]", "3 [1, 2, 2]"):
            old.stdin.write("\n")
            old.stdin.flush()
            assert old.stdout.readline() == expected + "\n"
        if new:
            assert new.append([act(4)]) == 4
            assert [event.at_ms for _, event in new.read()] == [1, 2, 3, 4]
            new.close()


def opened_when_free(store: Implementation, place: Path) -> Log:
    deadline = time.monotonic() + 60
    while True:
        try:
            return store.open(place)
        except Busy:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_events_of_version_one_still_replay(log: Log) -> None:
    """Lines as the first version wrote them; a later version reads them for ever."""
    lines = RECORDED.read_bytes().splitlines()
    events = [decode(line) for line in lines]
    assert {type(event) for event in events} == set(Event.__args__)
    log.append(events)
    state = fold(event for _, event in log.read())
    rollout = state.rollouts["edr-rules-a1b2c3"]
    assert rollout.phase is PlanState.CLOSED
    assert (rollout.evidence.exposed, rollout.evidence.confirmed) == (2, 2)
    assert [(ring.treated, ring.placebo) for ring in rollout.rings.drawn] == [(1, 1), (1, 0)]
    assert rollout.closed[1].treated_failed == 0
    assert state.devices[1].device.labels == {"site": "CDG"}
    assert state.devices[0].installed == {"edr-rules": rollout.spec.candidate.sha256}
    assert state.tokens["0000000000000000"].used == 2
    assert state.published["edr-rules"].version == 1
    assert state.last_ms == 1_800_000_007_000


@pytest.mark.parametrize("change", [{"v": 9}, {"kind": "dreamt"}, {"more": 1}, {"at_ms": "x"}, {"what": None}])
def test_an_event_that_is_not_known_is_no_event(change: dict[str, object]) -> None:
    line = json.loads(RECORDED.read_bytes().splitlines()[0])
    with pytest.raises(msgspec.DecodeError):
        decode(json.dumps({**line, **change}).encode())


# --- a full disk ----------------------------------------------------------------------------------------------------

FULL = """
import resource
log = OPEN
done = log.append([act(1)])
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
from tidegate.log.port import LogError
try:
    while True:
        done = log.append([Act(at_ms=done, what="fill", who="ada", why="x" * 9000, body={}) for _ in range(3)])
except LogError as error:
    print(done, log.last, [seq for seq, _ in log.read()][-1], error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(log.append([act(7)]) - done)
"""


@pytest.mark.skipif(os.name == "nt", reason="a process's files cannot be limited there")
def test_a_full_disk_takes_nothing_of_the_batch_and_the_log_goes_on_when_there_is_room(tmp_path: Path) -> None:
    store = Implementation("sqlite")
    code = PROLOGUE + FULL.replace("OPEN", store.expression(tmp_path))
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    acknowledged, last, read, sentence = first.split(" ", 3)
    assert acknowledged == last == read
    assert int(last) % 3 == 1, "a batch has three events: all of it or nothing"
    assert "the log took nothing" in sentence
    assert "free disk space" in sentence
    assert second == "1"
    log = store.open(tmp_path)
    assert len(list(log.read())) == int(last) + 1
    log.close()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace tells which system calls a process makes")
def test_every_append_waits_for_the_disk(tmp_path: Path) -> None:
    """Power that fails a moment later takes nothing: each append has its own sync."""
    opened = Implementation("sqlite").expression(tmp_path)
    code = f"{PROLOGUE}\nlog = {opened}\nfor number in range(25): log.append([act(number)])"
    trace = tmp_path / "trace"
    words = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(trace), sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if "ptrace" in done.stderr:
        pytest.skip("processes may not be traced here")
    assert done.returncode == 0, done.stderr
    assert trace.read_text().count("sync(") >= 25


# --- SQLite's own file ----------------------------------------------------------------------------------------------


def sqlite_file(place: Path, events: int = 300) -> Path:
    log = SqliteLog(place / "log.db")
    for number in range(1, events + 1):
        log.append([act(number, "y" * 200)])
    log.close()
    return place / "log.db"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET at_ms = 0 WHERE seq = 2",
        "DELETE FROM record WHERE seq = 300",
        "INSERT OR REPLACE INTO record VALUES (2, 1, 0, x'00')",
        "INSERT INTO record VALUES (500, 1, 0, x'00')",
        "INSERT INTO record VALUES (NULL, 1, 0, x'00')",
    ],
)
def test_the_file_itself_is_append_only(tmp_path: Path, statement: str) -> None:
    file = sqlite_file(tmp_path)
    database = sqlite3.connect(file)
    before = database.execute("SELECT * FROM record").fetchall()
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute(statement)
    assert database.execute("SELECT * FROM record").fetchall() == before
    database.close()


def test_a_file_with_a_gap_is_refused(tmp_path: Path) -> None:
    file = sqlite_file(tmp_path)
    database = sqlite3.connect(file)
    database.execute("DROP TRIGGER record_stays")
    database.execute("DELETE FROM record WHERE seq = 17")
    database.commit()
    database.close()
    with pytest.raises(LogError, match="has gaps"):
        SqliteLog(file)


def test_another_programs_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    for schema in (
        "CREATE TABLE users (name)",
        "CREATE TABLE event (id, text)",
        "CREATE TABLE a (b); CREATE TABLE event (c)",
    ):
        file = tmp_path / f"{len(schema)}.db"
        database = sqlite3.connect(file)
        database.executescript(schema)
        database.close()
        before = file.read_bytes()
        with pytest.raises(LogError, match="database of something else"):
            SqliteLog(file)
        assert file.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(file.name)] == [file.name]


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be one" * 50, b"SQLite format 3\0" * 99])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "log.db"
    file.write_bytes(content)
    with pytest.raises(LogError, match="cannot open the log"):
        SqliteLog(file)
    assert file.read_bytes() == content


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="cannot open the log"):
        SqliteLog(tmp_path / "missing" / "log.db")


@pytest.mark.parametrize("cut", [1, 2, 5, 9])
def test_a_damaged_file_gives_a_log_error_and_never_less_than_there_was(tmp_path: Path, cut: int) -> None:
    """The file is cut short, or one page of it is overwritten: it is refused when opened or read."""
    for damage in ("cut", "zeros"):
        place = tmp_path / damage
        place.mkdir()
        file = sqlite_file(place)
        data = file.read_bytes()
        pages = len(data) // 4096
        assert pages > cut + 1
        if damage == "cut":
            file.write_bytes(data[: -4096 * cut])
        else:
            file.write_bytes(data[: 4096 * cut] + bytes(4096) + data[4096 * (cut + 1) :])
        with pytest.raises(LogError):
            list(SqliteLog(file).read())


def test_an_event_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = sqlite_file(tmp_path, 5)
    database = sqlite3.connect(file)
    body = pack([act(6)]).replace(b'"v":2', b'"v":9')
    database.execute("INSERT INTO record VALUES (6, 1, 0, ?)", (body,))
    database.commit()
    database.close()
    log = SqliteLog(file)
    with pytest.raises(LogError, match=r"event 6 cannot be read: its version is 9.*newer Tidegate"):
        list(log.read())
    log.close()
    with pytest.raises(LogError):
        log.append([act(7)])
    with pytest.raises(LogError):
        list(log.read())


# --- stores that are servers ----------------------------------------------------------------------------------------


@pytest.mark.xdist_group("postgresql")
def test_postgresql_that_is_killed_loses_nothing_and_the_writer_goes_on(tmp_path: Path) -> None:
    """kill -9 of all its processes between appends, and at once after one; the same writer goes on when it is back."""
    server = store_server("postgresql")
    assert isinstance(server, PostgresqlServer)
    for lazy in ("ALTER ROLE tidegate SET synchronous_commit = off", "ALTER SYSTEM SET wal_writer_delay = '10s'"):
        server.sql(lazy)  # whoever believed this role's settings would lose what was confirmed just before
    log = Implementation("postgresql").open(tmp_path)
    assert log.append([act(number) for number in range(1, 101)]) == 100
    for number in (101, 102):
        server.kill()
        restart = threading.Timer(0.5, server.start)
        restart.start()
        try:
            done = log.append([act(number)])
        except LogError:
            done = log.append([act(number)])
        restart.join()
        assert done == number
    assert [event.at_ms for _, event in log.read()] == list(range(1, 103))
    log.close()
    server.sql("ALTER ROLE tidegate RESET synchronous_commit")


@pytest.mark.xdist_group("postgresql")
def test_a_writer_that_only_waits_keeps_its_place(tmp_path: Path) -> None:
    """No append for longer than a silent writer is waited for."""
    store = Implementation("postgresql")
    log = store.open(tmp_path)
    log.append([act(1)])
    time.sleep(SILENT_S + 1)
    with pytest.raises(Busy):
        store.open(tmp_path)
    assert log.append([act(2)]) == 2
    log.close()


@pytest.mark.xdist_group("postgresql")
def test_postgresql_without_fsync_is_refused(tmp_path: Path) -> None:
    server = store_server("postgresql")
    assert isinstance(server, PostgresqlServer)
    for value, fine in (("off", False), ("on", True)):
        server.sql(f"ALTER SYSTEM SET fsync = {value}")
        server.sql("SELECT pg_reload_conf()")
        deadline = time.monotonic() + 60
        while server.ask("SHOW fsync") != value:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if fine:
            Implementation("postgresql").open(tmp_path).close()
        else:
            with pytest.raises(LogError, match="fsync off"):
                Implementation("postgresql").open(tmp_path)


@pytest.mark.xdist_group("postgresql")
def test_postgresql_tells_a_writer_that_has_been_replaced_and_its_table_is_append_only(tmp_path: Path) -> None:
    server, store = store_server("postgresql"), Implementation("postgresql")
    assert isinstance(server, PostgresqlServer)
    old = store.open(tmp_path)
    old.append([act(1)])
    kick = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidegate'"
    server.sql(kick)
    new = store.open(tmp_path)
    assert new.append([act(2)]) == 2
    with pytest.raises(Fenced):
        old.append([act(3)])
    assert [event.at_ms for _, event in new.read()] == [1, 2]
    new.close()
    again = store.open(tmp_path)
    schema = place_name(tmp_path)
    for statement in ("UPDATE {}.tidegate_record SET at_ms = 0", "DELETE FROM {}.tidegate_record"):
        with pytest.raises(Exception, match="append-only"):
            server.sql(statement.format(schema), database="tidegate")
    again.close()


@pytest.mark.xdist_group("nats")
def test_a_node_of_nats_that_is_killed_loses_nothing_and_the_writer_goes_on(tmp_path: Path) -> None:
    cluster = store_server("nats")
    assert isinstance(cluster, NatsCluster)
    log = Implementation("nats").open(tmp_path)
    number = log.append([act(number) for number in range(1, 101)])
    for node in range(3):
        cluster.kill(node)
        number = log.append([act(number + 1)])
        number = log.append([act(number + 1), act(number + 2)])
        assert [event.at_ms for _, event in log.read()] == list(range(1, number + 1))
        cluster.start(node)
        wait_until_current(cluster, node)
    log.close()


def wait_until_current(cluster: NatsCluster, node: int) -> None:
    """A node that is back has to catch up before another may go: two of three must hold what is acknowledged."""
    deadline = time.monotonic() + 60
    while not cluster.healthy(node):
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.xdist_group("nats")
def test_nats_keeps_three_copies_of_what_is_spread_over_partitions_and_takes_nothing_twice(tmp_path: Path) -> None:
    store, nats = Implementation("nats"), pytest.importorskip("nats")
    log = store.open(tmp_path)
    devices: list[Event] = [
        Enrolled(at_ms=1, index=n, device_id=f"{n:032x}", public_key="", token_id="t", labels={}, facts={})
        for n in range(100)
    ]
    log.append(devices)
    address = Address.parse(store.url(tmp_path))
    stream = address.stream

    async def look() -> tuple[int, dict[str, int], list[int], int]:
        client = await nats.connect(list(address.servers))
        held = client.jetstream()
        found = await held.stream_info(stream, subjects_filter=f"{stream}.>")
        end = found.state.last_seq
        again = [
            (await held.publish(message.subject or "", message.data or b"", headers=dict(message.headers or {})))
            for message in [await held.get_msg(stream, seq) for seq in range(1, end + 1)]
        ]
        after = (await held.stream_info(stream)).state.last_seq
        await client.close()
        assert all(ack.duplicate for ack in again)
        return found.config.num_replicas or 0, found.state.subjects or {}, [ack.seq for ack in again], after - end

    replicas, subjects, seqs, more = asyncio.run(look())
    assert replicas == 3
    spread = {subject.rpartition(".")[2]: count for subject, count in subjects.items()}
    assert spread == {"claim": 1, "0": 1, "1": 1, "2": 1, "3": 1}
    assert seqs == [1, 2, 3, 4, 5]
    assert more == 0, "a message that was sent again is not in the stream twice"
    assert [event for _, event in log.read()] == devices
    log.close()


@pytest.mark.xdist_group("nats")
def test_a_stream_with_fewer_copies_than_the_address_asks_for_is_refused(tmp_path: Path) -> None:
    url = store_server("nats").url(tmp_path)
    open_log(tmp_path / "x", f"{url}?replicas=1").close()
    with pytest.raises(LogError, match="has 1 replicas, and the log's address asks for 3"):
        open_log(tmp_path / "x", url)


@pytest.mark.xdist_group("nats")
def test_nats_tells_a_writer_that_has_been_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first writer does not answer in time, so a second one takes over; the first finds that out at its append."""
    store = Implementation("nats")
    old = store.open(tmp_path)
    old.append([act(1)])

    async def nobody(self: object) -> bool:
        return False

    monkeypatch.setattr("tidegate.log.nats.NatsLog._someone_writes", nobody)
    new = store.open(tmp_path)
    for _ in range(2):
        with pytest.raises(Fenced):
            old.append([act(2)])
    assert new.append([act(2), act(3)]) == 3
    assert [event.at_ms for _, event in new.read()] == [1, 2, 3]
    old.close()
    new.close()
