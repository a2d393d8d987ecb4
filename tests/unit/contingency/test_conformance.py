"""Conformance: every demand has its row, what is claimed is there, and what is not there is shown as a gap."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tidegate.cli.main import app, run
from tidegate.contingency.conformance import ANSWERED, GAP, UNCLAIMED, markdown, rows

ROOT = Path(__file__).resolve().parents[3]
DEMANDS = ROOT.parent / "shared" / "facts" / "requirements.md"


def test_every_demand_has_a_row() -> None:
    if not DEMANDS.exists():
        pytest.skip("the list of demands is not at hand")
    named: set[str] = set()
    for line in re.findall(r"^\| ([A-Z].*?) \|", DEMANDS.read_text(), re.MULTILINE):
        for part in line.split(", "):
            first = re.fullmatch(r"([A-Z]+-?[A-Z]?)(\d+)(?:\.\.(?:[A-Z]+-?)?[A-Z]?(\d+))?", part)
            if first is None:
                continue
            prefix = first[1] if "-" in first[1] else "CISA-" + first[1]
            named |= {f"{prefix}{n}" for n in range(int(first[2]), int(first[3] or first[2]) + 1)}
    assert len(named) >= 45 and named <= {row.id for row in rows()}, sorted(named - {row.id for row in rows()})


def test_the_page_names_what_is_there_and_claims_nothing_unread() -> None:
    text = (ROOT / "docs" / "conformance.md").read_text()
    for row in rows():
        line = next(one for one in text.splitlines() if one.startswith(f"| {row.id} |"))
        if "**gap**" not in line:
            assert not row.missing(ROOT), f"{row.id} names what is not there: make the page anew"
            assert ("**not claimed**" in line) == (row.standing == "U")


def test_a_gap_is_a_gap(tmp_path: Path) -> None:
    assert {row.state(tmp_path) for row in rows()} == {GAP}
    assert markdown(tmp_path).count("**gap**") == len(rows())
    assert {row.state(ROOT) for row in rows() if row.standing == "U"} <= {UNCLAIMED, GAP}
    assert any(row.state(ROOT) == ANSWERED for row in rows())


def test_commands_that_are_claimed_exist() -> None:
    text = (ROOT / "docs" / "conformance.md").read_text()
    for row in rows():
        line = next(one for one in text.splitlines() if one.startswith(f"| {row.id} |"))
        if "**gap**" not in line:
            command = app
            for word in row.command.split()[1:]:
                if not word.startswith("-"):
                    command = command[word]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TIDEGATE_BOOK", str(tmp_path / "book"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run(["conformance", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert ended.value.code == (1 if found["gaps"] else 0)
    assert next(row for row in found["rows"] if row["id"] == "MVI-1")["evidence"] == "none yet"
