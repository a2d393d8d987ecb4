"""What strangers wrote (devices, vendors, servers), made fit for a terminal and a log: nothing in it moves the cursor.

An escape sequence in a label or in a server's refusal could hide lines, recolour a verdict or forge a prompt.
"""

from __future__ import annotations

from typing import Any, cast

_BIDI = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_LINES = (0x2028, 0x2029)


class _Written(dict[int, str | int]):
    """Code point -> what is shown of it; surrogates are told by their range."""

    def __missing__(self, point: int) -> str | int:
        return f"\\u{point:04x}" if 0xD800 <= point < 0xE000 else point


_TABLE = _Written(
    {
        **{point: f"\\x{point:02x}" for point in (*range(0x20), *range(0x7F, 0xA0)) if point not in (0x09, 0x0A)},
        **{point: f"\\u{point:04x}" for point in (*_BIDI, *_LINES)},
    }
)


def printable(text: str) -> str:
    r"""Write control characters out, as in `\x1b`, and marks that reverse the order of letters; tabs and lines stay."""
    return text if text.isascii() and text.isprintable() else text.translate(_TABLE)


def one_line(text: str) -> str:
    """Give it on one line besides, so that a text of several lines forges none."""
    return " ".join(printable(text).split())


def all_printable(value: Any) -> Any:
    """Make every text within plain JSON printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [all_printable(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {all_printable(name): all_printable(each) for name, each in cast("dict[Any, Any]", value).items()}
    return value


def is_plain(text: str) -> bool:
    """Say whether a text is one line in which nothing would have to be written out."""
    return "\n" not in text and "\t" not in text and printable(text) == text
