"""What ClamAV signatures look for, and where they stand: by examples of each format."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.gate.clam_texts import bodies_of
from tidegate.gate.planting import samples_of
from tidegate.gate.sources import Source, read_sources

pytestmark = pytest.mark.room("gate")


@pytest.mark.parametrize(
    ("file", "line", "target", "bodies"),
    [
        ("a.ndb", "Name:0:*:cafebabe", 0, [b"\xca\xfe\xba\xbe"]),
        ("a.ndb", "Name:6:4:ca??be", 6, [b"\0\0\0\0\xca\0\xbe"]),
        ("a.ndb", "Name:1:EP+0:ca{2-4}fe*be", 1, [b"\xca\0\0\xfe\xbe"]),
        ("a.ndb", "Name:0:*:(ca|fe)be[1-2]!(00)11:51", 0, [b"\xca\xbe\0\0\x11"]),
        ("a.ndb", "Name:0:*:zz", 0, []),
        ("a.ndb", "Name", 0, []),
        ("a.db", "Name=cafe", 0, [b"\xca\xfe"]),
        ("a.ldb", "Name;Engine:51-255,Target:1;0&1;cafe;EP+0:babe::i", 1, [b"\xca\xfe", b"\xba\xbe"]),
        ("a.ldb", "Name;Target:0;0;0/pattern/g", 0, []),
    ],
)
def test_bodies_are_read(file: str, line: str, target: int, bodies: list[bytes]) -> None:
    assert bodies_of(file, line) == (target, bodies)


def test_samples_hold_all_bodies_behind_a_header_of_the_target() -> None:
    forms = samples_of(Source("a.ldb", "Name", 1, "Name;Target:6;0&1;cafe;babe"))
    assert set(forms) == {"whole", "inside", "one0", "one1"}
    assert all(data.startswith(b"\x7fELF") for data in forms.values())
    assert b"\xca\xfe" in forms["inside"] and b"\xba\xbe" in forms["inside"] and b"\xba\xbe" not in forms["one0"]


def test_each_format_says_where_its_name_stands(tmp_path: Path) -> None:
    lines = {"a.ndb": "Tide.A:0:*:cafe", "b.hdb": "00ff:17:Tide.B", "c.mdb": "17:00ff:Tide.C", "d.db": "Tide.D=cafe",
             "e.ldb": "Tide.E;Target:0;0;cafe", "f.ign2": "Tide.A", "g.ign": "a.ndb:1:Tide.A"}  # fmt: skip
    for name, line in lines.items():
        (tmp_path / name).write_text(f"# a comment\n{line}\n")
    (tmp_path / "h.cvd").write_bytes(b"ClamAV-VDB:\0binary")
    found = read_sources(tmp_path, [*lines, "h.cvd"])
    assert list(found) == [
        "a.ndb:Tide.A", "b.hdb:Tide.B", "c.mdb:Tide.C", "d.db:Tide.D", "e.ldb:Tide.E", "f.ign2:Tide.A", "g.ign:Tide.A",
    ]  # fmt: skip
    assert all(source.line == 2 for source in found.values())
