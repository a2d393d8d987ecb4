"""Inputs made to be hard on an interpreter, always the same ones for one release."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tidegate.gate.corpus import MB, Corpus, made_corpus
from tidegate.gate.ordinary import ordinary_files

OWN_WORDS = "own-words"
"""How the names of inputs begin that are full of the changed rules' words."""
LARGE_MB = 32
"""Inputs that are larger than most: what is slow on large files alone, or on those of one kind, is seen on them."""
LARGE_KINDS = (
    "program.exe", "program-64.exe", "program-managed.exe", "library.so", "mach-o", "android.dex", "letter.docx",
    "compound.doc", "document.pdf", "letter.rtf", "page.html", "shell.ps1", "tool.py", "picture.png",
)  # fmt: skip


def unpleasant(directory: Path, words: Sequence[bytes], size: int = 128 * 1024, *, by_kind: bool = True) -> Corpus:
    """Write inputs that are hard on an interpreter: empty, constant, endless, large, full of the content's own words.

    Args:
        directory: is made.
        words: texts that the content looks for, which keep it busy when they stand everywhere.
        size: bytes of each.
        by_kind: large ones of each kind of file as well, for an interpreter that tells kinds apart.
    """
    directory.mkdir(parents=True, exist_ok=True)
    noise = b"".join(hashlib.sha256(i.to_bytes(4, "big")).digest() for i in range(size // 32))
    made = {
        "empty": b"",
        "one-byte": b"\0",
        "zeros": bytes(size),
        "ones": b"\xff" * size,
        "letter-a": b"a" * size,
        "digits": b"0123456789" * (size // 10),
        "spaces": b" " * size,
        "no-newline": b"x" * size,
        "newlines": b"\n" * size,
        "brackets": b"([{<" * (size // 4),
        "slashes": b"/../" * (size // 4),
        "noise": noise,
        "utf-16": ("wide " * (size // 10)).encode("utf-16"),
        "bad-utf-8": b"\xc0\xaf\xed\xa0\x80" * (size // 5),
        "elf-header": b"\x7fELF" + b"\xff" * 2048,
        "pe-header": b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0" + b"\xff" * 2048,
        "zip-header": b"PK\3\4" + b"\xff" * 2048,
        "fields": b"|".join([b"a" * 32] * (size // 33)) + b"!",
        "a-and-an-end": b"a" * 40 + b"!\n",
    }
    joined = b" ".join(words)[: size * 2]
    if joined:
        made[OWN_WORDS] = joined + b"\n"
        made[f"{OWN_WORDS}-often"] = (joined * (1 + size // len(joined)))[: size * 2]
        starts = b"".join(word[: max(len(word) // 2, 4)] for word in words)[:size] or b"x"
        made[f"{OWN_WORDS}-broken-off"] = (starts * (1 + size // len(starts)))[:size]
    made["large"] = b""
    if by_kind:
        kinds = ordinary_files()
        made |= {f"large-{name}": kinds[name] for name in LARGE_KINDS}
    for name, data in made.items():
        with (directory / name).open("wb") as file:
            file.write(data)
            if name.startswith("large"):
                file.truncate(LARGE_MB * MB)  # takes no room on the disk
    return made_corpus("unpleasant inputs", directory, "/unpleasant", made)
