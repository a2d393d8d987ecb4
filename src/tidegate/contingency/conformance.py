"""What others demand, and what answers it: a table made from the code that is there; what is not there is a gap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tidegate.contingency.document import Document

STANDING = {"V": "source read", "S": "secondary source", "U": "source not read"}
ANSWERED, UNCLAIMED, GAP = "answered", "not claimed", "gap"


@dataclass(frozen=True, slots=True)
class Row:
    """One demand. `needs` are paths of this repository without which it is a gap; `live` names evidence of its own."""

    id: str
    standing: str
    demand: str
    feature: str
    command: str
    needs: tuple[str, ...]
    tests: tuple[str, ...]
    live: str

    def missing(self, root: Path) -> list[str]:
        """Name what is not there."""
        return [path for path in (*self.needs, *self.tests) if not _there(root / path)]

    def state(self, root: Path) -> str:
        """Say whether it is answered: a row whose source nobody has read is never claimed."""
        if self.missing(root):
            return GAP
        return UNCLAIMED if self.standing == "U" else ANSWERED


def _there(path: Path) -> bool:
    return path.exists()


@cache
def rows() -> tuple[Row, ...]:
    """Give all rows."""
    text = (files("tidegate.contingency") / "conformance.yaml").read_text(encoding="utf-8")
    found: list[Row] = []
    for place in Document("conformance.yaml", text).root.need("rows").items():
        names = [one.name for one in fields(Row)]
        place.fields(names, names)
        value: dict[str, Any] = {name: place.need(name).text() for name in names if name not in ("needs", "tests")}
        found.append(Row(**value, needs=place.need("needs").names(), tests=place.need("tests").names()))
    return tuple(found)


def markdown(root: Path) -> str:
    """Give the page docs/conformance.md as the repository at `root` stands."""
    found = [(row, row.state(root)) for row in rows()]
    counts = {state: sum(one == state for _, one in found) for state in (ANSWERED, UNCLAIMED, GAP)}
    lines = [
        "# What others demand, and what answers it",
        "",
        "Generated: `tidegate conformance --markdown` in a checkout writes it, and gaps show as gaps. Without the",
        "option it shows the same for an installation, with the evidence that it has of its own.",
        "",
        f"{len(found)} demands: {counts[ANSWERED]} answered, {counts[UNCLAIMED]} not claimed because nobody has read"
        f" their source, {counts[GAP]} gaps.",
        "",
        "| id | demand | answered by | command | tests | standing |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row, state in found:
        tests = "<br>".join(f"`{path}`" for path in row.tests)
        if state == GAP:
            lines.append(f"| {row.id} | {row.demand} | **gap**: not built yet | - | - | {STANDING[row.standing]} |")
            continue
        claim = "**not claimed**: " if state == UNCLAIMED else ""
        lines.append(
            f"| {row.id} | {row.demand} | {claim}{row.feature} | `{row.command}` | {tests} | {STANDING[row.standing]} |"
        )
    return "\n".join(lines) + "\n"


def table_rows(live: Mapping[str, str], root: Path | None) -> list[dict[str, str]]:
    """Give the table for an installation; `root` is None where only the package is there, not the repository."""
    found: list[dict[str, str]] = []
    for row in rows():
        state = row.state(root) if root else (UNCLAIMED if row.standing == "U" else ANSWERED)
        evidence = live.get(row.live, "none yet")
        found.append(
            {
                "id": row.id,
                "demand": row.demand,
                "state": state,
                "feature": row.feature,
                "command": row.command,
                "standing": row.standing,
                "evidence": "-" if state == GAP else evidence,
            }
        )
    return found
