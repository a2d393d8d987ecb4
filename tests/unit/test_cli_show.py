"""What devices, vendors and operators write is shown as it is: no markup, no word to the terminal, no line torn."""

from __future__ import annotations

import pytest

from tidegate.cli.show import coloured, out, table

NAMES = ("v1[/x]", "[red]2026.1", "[link=https://example.org]a[/link]", "rules [1] and [2]")


@pytest.mark.parametrize("name", NAMES)
def test_brackets_are_no_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table(f"Releases of {name}", ("version", f"of {name}"), [(name, coloured("halted"))], empty="")
    out(name)
    shown = capsys.readouterr().out
    assert shown.count(name) == 4
    assert "halted" in shown


def test_nobody_speaks_to_the_terminal_through_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    note = "fine\x1b[2J\x1b]0;owned\x07 \x9b31m\r\x00end"
    table("Notes", ("note",), [(note,)], empty="")
    out(note)
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\x07\x9b\r\x00")
    assert shown.count(r"fine\x1b[2J\x1b]0;owned\x07 \x9b31m\x0d\x00end") == 2


def test_a_table_in_a_pipe_keeps_each_row_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    digest = "0123456789abcdef" * 4
    table("Releases", ("digest", "component", "why"), [(digest, "edr-rules", "reboots machines " * 4)], empty="")
    assert [line for line in capsys.readouterr().out.splitlines() if digest in line and "machines" in line]
