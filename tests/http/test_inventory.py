"""The inventory exported as Parquet, and read by DuckDB."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server import World

from tidegate.cli.devices import export
from tidegate.control import inventory
from tidegate.core.errors import BadInput

duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed: dev.py setup")
pytestmark = [pytest.mark.room("api"), pytest.mark.room("control")]


def test_duckdb_reads_what_is_exported(world: World, tmp_path: Path) -> None:
    world.home.address.write_text(
        f'{{"devices": "{world.devices.base_url}", "operators": "{world.operators.base_url}"}}'
    )
    atlanta, paris = world.token(labels={"site": "ATL", "rack": "it-is-7"}), world.token(labels={"site": "CDG"})
    devices = [world.enrol(token) for token in (atlanta, paris, atlanta)]
    digest = world.release(1)
    rollout = world.rollout(max_harmed=3, placebo_per_treated=0.0)
    lease = devices[0].announce(rollout).json()
    assert devices[0].report(lease["lease_id"]).status_code == 200
    file = tmp_path / "fleet.parquet"
    export(file, home=world.home.path)
    rows = duckdb.sql(
        f"""SELECT device, device_id, "label.site", "label.rack", "installed.edr-rules", last_heard IS NULL, enrolled
        FROM '{file}' ORDER BY device"""
    ).fetchall()
    rack = "it-is-7"
    ids = [device.device_id for device in devices]
    assert [row[:6] for row in rows] == [
        (0, ids[0], "ATL", rack, digest, False),
        (1, ids[1], "CDG", None, None, True),
        (2, ids[2], "ATL", rack, None, True),
    ]
    assert int(rows[0][6].timestamp() * 1000) == world.controller.state.devices[0].enrolled_ms
    some = tmp_path / "some.parquet"
    export(some, label=["site=ATL"], home=world.home.path)
    assert duckdb.sql(f"SELECT count(*) FROM '{some}'").fetchall() == [(2,)]
    none = tmp_path / "none.parquet"
    export(none, label=["site=nowhere"], home=world.home.path)
    assert duckdb.sql(f"SELECT count(*) FROM '{none}'").fetchall() == [(0,)]
    with pytest.MonkeyPatch.context() as patch:  # a fleet that goes through memory in several parts
        patch.setattr(inventory, "ROWS_AT_ONCE", 2)
        parts = tmp_path / "parts.parquet"
        export(parts, home=world.home.path)
    assert (
        duckdb.sql(f"FROM '{parts}' ORDER BY device").fetchall()
        == duckdb.sql(f"FROM '{file}' ORDER BY device").fetchall()
    )
    with pytest.raises(BadInput, match="already"):
        export(file, home=world.home.path)
    csv = tmp_path / "fleet.csv"
    with pytest.raises(BadInput, match=r"is Parquet; name it fleet\.parquet"):
        export(csv, home=world.home.path)
    assert not csv.exists()
