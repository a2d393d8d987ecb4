"""Words that sentences in all rooms have in common."""

from __future__ import annotations


def counted(count: int, word: str, words: str = "") -> str:
    """Write how many there are of something, whose plural ends in s if none is given."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"
