"""Labels and devices brought in from CSV and Parquet: all of a file or nothing, and the same after a restart."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.server import World, enrolment
from tests.snapshots import difference, snapshot

from tidegate.cli.devices import export
from tidegate.cli.inventory import import_, labels
from tidegate.control.acts import Who
from tidegate.control.batch_fold import fold_batches
from tidegate.control.fleet import Fleet
from tidegate.control.labelling import PER_ACT, Partial, fold_labels, labels_set, rows_of
from tidegate.control.state import fold
from tidegate.core.errors import BadInput
from tidegate.log.batch import unpack
from tidegate.log.pack import pack

pytestmark = [pytest.mark.room("api"), pytest.mark.room("control"), pytest.mark.room("cli")]


@pytest.fixture
def home(world: World) -> Iterator[Path]:
    address = {"devices": str(world.devices.base_url), "operators": str(world.operators.base_url)}
    world.home.address.write_text(json.dumps(address))
    yield world.home.path
    replayed = fold_batches(world.controller.read_batches())
    one_by_one = fold(event for _, event in world.controller.read_log())
    for other in (replayed, one_by_one):
        assert not difference(snapshot(other.devices), snapshot(world.controller.state.devices))


def write(path: Path, *rows: tuple[Any, ...]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def shown(world: World) -> list[dict[str, str]]:
    world.quiet()
    return [row.device.labels for row in world.controller.state.devices]


def test_labels_come_in_by_id_and_by_number(world: World, home: Path, tmp_path: Path, capsys: Any) -> None:
    devices = [world.enrol(world.token(labels={"site": "ATL", "os": "win11"})) for _ in range(3)]
    file = write(
        tmp_path / "a.csv",
        ("site", "device_id", "sector"),
        ("CDG", devices[2].device_id, "health"),
        ("", devices[0].device_id, 'it\'s, a "name"\nof two lines'),
    )
    with pytest.raises(BadInput, match=r"a\.csv:4: label sector: .* holds a character that no label can"):
        import_(file, home=home)
    write(file, ("site", "device_id", "sector"), ("CDG", devices[2].device_id, "health"),
          ("", devices[0].device_id, 'a, "b"'))  # fmt: skip
    import_(file, why="moved", home=home)
    assert shown(world) == [
        {"os": "win11", "sector": 'a, "b"'},
        {"site": "ATL", "os": "win11"},
        {"site": "CDG", "os": "win11", "sector": "health"},
    ]
    import_(write(tmp_path / "b.csv", ("device", "rack"), ("1", "r7")), replace=True, home=home, json=True)
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["labelled"] == 1
    assert shown(world)[1] == {"rack": "r7"}
    act = world.controller.state.acts[-2]
    assert (act.what, act.why, act.body) == ("labels_set", "moved", {"devices": 2, "replace": False})
    labels(home=home, json=True)
    assert json.loads(capsys.readouterr().out)["labels"]["os"] == {"win11": 2}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("name", "site"), ("x", "y")], r"bad\.csv:1: an inventory needs a column device_id"),
        ([("device", "site", "site"), ("0", "a", "b")], r"bad\.csv:1: a column stands twice"),
        ([("device", "SI TE"), ("0", "a")], r"bad\.csv:1: label"),
        ([("device", "site"), ("0", "a"), ("1",)], r"bad\.csv:3: 1 fields, and the first line names 2"),
        ([("device", "site"), ("0", "a"), ("one", "b")], r"bad\.csv:3: device must be a device's number, not 'one'"),
        ([("device_id", "site"), ("ab", "a")], r"bad\.csv:2: device_id must have 32 hexadecimal digits"),
        ([("device", "site"), ("0", "a"), ("1", "x" * 101)], r"bad\.csv:3: label site: the value must have"),
        ([("device", "site"), ("0", "a"), ("7", "b"), ("8", "b")], r"line 3: device number 7 is not enrolled .* 1 oth"),
        ([("device", "site"), ("1", "a"), ("0", "b"), ("1", "b")], r"bad\.csv:4: this device stands in line 2 already"),
        ([("device_id", "site"), ("00" * 16, "a")], r"line 2: device 0{32} is not enrolled here; nothing was changed"),
    ],
)
def test_a_bad_row_is_named_and_nothing_changes(
    world: World, home: Path, tmp_path: Path, rows: list[tuple[str, ...]], words: str
) -> None:
    for _ in range(2):
        world.enrol(world.token())
    before = world.quiet()
    with pytest.raises(BadInput, match=words):
        import_(write(tmp_path / "bad.csv", *rows), home=home)
    assert world.quiet() == before


def test_devices_are_entered_by_their_keys_before_they_come(world: World, home: Path, tmp_path: Path) -> None:
    keys = [Ed25519PrivateKey.generate() for _ in range(3)]
    public = [key.public_key().public_bytes_raw().hex() for key in keys]
    file = write(tmp_path / "k.csv", ("public_key", "site"), *zip(public, ("ATL", "CDG", "ATL"), strict=True))
    import_(file, home=home)
    assert [found["site"] for found in shown(world)] == ["ATL", "CDG", "ATL"]
    token = world.token()
    reply = world.devices.post("/v1/enrol", json=enrolment(token, keys[1]))
    assert reply.status_code == 200 and reply.json()["index"] == 1
    import_(write(file, ("public_key", "site"), (public[1], "LHR")), home=home)
    assert [found["site"] for found in shown(world)] == ["ATL", "LHR", "ATL"]
    assert len(world.controller.state.devices) == 3


def test_an_export_changed_comes_in_again_as_parquet_and_duckdb_reads_it(
    world: World, home: Path, tmp_path: Path
) -> None:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: dev.py setup")
    for site in ("ATL", "CDG", "ATL"):
        world.enrol(world.token(labels={"site": site}))
    out, changed = tmp_path / "out.parquet", tmp_path / "changed.parquet"
    export(out, home=home)
    duckdb.sql(f"""COPY (SELECT * REPLACE (CASE WHEN "label.site" = 'ATL' THEN 'BOS' ELSE "label.site" END AS
        "label.site"), CAST(device AS VARCHAR) AS "label.rack" FROM '{out}') TO '{changed}' (FORMAT parquet)""")
    import_(changed, home=home)
    assert shown(world) == [{"site": "BOS", "rack": "0"}, {"site": "CDG", "rack": "1"}, {"site": "BOS", "rack": "2"}]
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(changed.read_bytes()[:-50])
    with pytest.raises(BadInput, match="no Parquet file"):
        import_(bad, home=home)
    duckdb.sql(f"COPY (SELECT 'zz' AS device_id, 'a' AS site) TO '{bad}' (FORMAT parquet)")
    with pytest.raises(BadInput, match=r"bad\.parquet:1: device_id must have 32"):
        import_(bad, home=home)


def test_the_inventory_comes_in_pages(world: World, home: Path) -> None:
    for site in ("ATL", "CDG", "ATL", "LHR"):
        world.enrol(world.token(labels={"site": site}))
    digest = world.release(1)
    rollout = world.rollout(max_harmed=4, placebo_per_treated=0.0, canary=4)
    del digest, rollout
    whole = world.operators.get("/api/v1/inventory").json()
    assert whole["next"] is None and sum(one["count"] for one in whole["classes"]) == 4
    pages, after = [], -1
    while after is not None:
        page = world.operators.get("/api/v1/inventory", params={"limit": 2, "after": after}).json()
        pages += page["classes"]
        after = page["next"]
    assert pages == whole["classes"] and len(pages) == 3
    assert world.operators.get("/api/v1/inventory", params={"after": "x"}).status_code == 400


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_what_is_no_import_is_refused(still: World, body: bytes, refuses: Any) -> None:
    with refuses(still, 400, "the import is no file of arrays") as replies:
        for path in ("/api/v1/inventory/labels", "/api/v1/inventory/devices"):
            replies.append(still.operators.post(path, content=body, params={"who": "ada"}))


def packed(**arrays: Any) -> bytes:
    into = io.BytesIO()
    np.savez_compressed(into, allow_pickle=False, **arrays)
    return into.getvalue()


def said_larger(data: bytes) -> bytes:
    """A file whose array says that it has a trillion rows."""
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        inside = {name: old.read(name) for name in old.namelist()}
    inside["rows.npy"] = inside["rows.npy"].replace(b"'shape': (3,), }             ", b"'shape': (1000000000000,), } ")
    into = io.BytesIO()
    with zipfile.ZipFile(into, "w") as new:
        for name, body in inside.items():
            new.writestr(name, body)
    return into.getvalue()


THREE = {"sets": np.frombuffer(b"[{}]", np.uint8), "numbers": np.zeros(3, np.int32), "lines": np.arange(3)}
BOMBS = {
    "unpacks to": packed(**THREE, rows=np.zeros(30_000_000, np.int64)),
    "rows, more than this fleet can have": packed(**THREE, rows=np.zeros(2_000_000, np.int8)),
    "which is no part of one": packed(**THREE, rows=np.arange(3), more=np.zeros(9)),
    "rows is said to be larger than it is": said_larger(packed(**THREE, rows=np.arange(3))),
}


@pytest.mark.parametrize("sentence", BOMBS)
def test_what_would_unpack_to_more_than_a_fleet_can_need_is_refused_packed(
    still: World, sentence: str, refuses: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpack(*_: Any, **__: Any) -> None:
        raise AssertionError("it was unpacked")

    monkeypatch.setattr("tidegate.api.inventory.np.load", unpack)
    assert len(BOMBS[sentence]) < 1 << 20
    with refuses(still, 400, sentence) as replies:
        for path in ("/api/v1/inventory/labels", "/api/v1/inventory/devices"):
            replies.append(still.operators.post(path, content=BOMBS[sentence], params={"who": "ada"}))


def test_labels_of_many_are_one_act_in_columns() -> None:
    """More devices than one act takes: two acts that hold nothing but columns."""
    count = PER_ACT + 100_000
    fleet = Fleet()
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 256, (count, 16), dtype=np.uint8)
    fleet.add_many(0, ids, np.zeros((count, 4), np.uint64), np.zeros(count, np.bool_), np.zeros(count, np.int64))
    fleet.labels.number({})
    order = rng.permutation(count)
    assert np.array_equal(rows_of(fleet, ids[order]), order)
    strange = ids[:3].copy()
    strange[:, 15] ^= 1
    assert rows_of(fleet, strange).tolist() == [-1, -1, -1]
    sets: list[Partial] = [{"site": f"s{n}"} for n in range(1000)]
    events, named = labels_set(fleet, 1, Who("ada"), order, sets, order % 1000, replace=False)
    body = pack(events)
    assert named == count and len(events) == 2 and len(body) < 7 * count
    other = Fleet()
    other.add_many(0, ids, np.zeros((count, 4), np.uint64), np.zeros(count, np.bool_), np.zeros(count, np.int64))
    other.labels.number({})

    for event in unpack(body).events:
        fold_labels(other, event.body)  # type: ignore[union-attr]
    assert other.labels_of(123_456) == {"site": "s456"}
    assert int(other.labelled({"site": "s7"}).sum()) == count // 1000
