"""Writes measured blocks of docs/scale.md: each stands between `<!-- measured: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
BLOCK = re.compile(r"(<!-- measured: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def put(name: str, text: str) -> None:
    """Replace one block. Raises ValueError if the page has none of this name."""
    page = PAGE.read_text()
    if name not in {found["name"] for found in BLOCK.finditer(page)}:
        raise ValueError(f"{PAGE.name} has no block <!-- measured: {name} -->")
    body = text.strip("\n")
    PAGE.write_text(
        BLOCK.sub(lambda found: f"{found[1]}\n{body}\n\n{found[3]}" if found["name"] == name else found[0], page)
    )


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
