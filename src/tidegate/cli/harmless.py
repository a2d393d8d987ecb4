"""What others have written (a vendor's version, a device's note), so that it can be shown on a terminal."""

from __future__ import annotations

_CONTROLS = {code: "�" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def harmless(text: str) -> str:
    """Give the text without control characters: none of them moves the cursor, sets a title or hides a line."""
    return text.translate(_CONTROLS)
