"""Samples put together from the texts that rules look for: a rule whose sample it does not detect has no sample.

They stand in for recorded ones where a vendor gives none. What a sample is for is known only after a scan: the rules
that the baseline finds in it are the ones that the candidate must find.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tidegate.gate.corpus import Corpus, directory_corpus
from tidegate.gate.sources import Source, hexes_of, texts_of

MOST_SAMPLES = 3000
MOST_BYTES = 256 * 1024
_PE = b"MZ" + bytes(58) + b"\x80\0\0\0" + bytes(64) + b"PE\0\0\x4c\x01\0\0" + bytes(12) + b"\xe0\0\x02\x01" + bytes(224)
_ELF = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0\1\0\0\0" + bytes(40)


def planted_corpus(sources: Mapping[str, Source], directory: Path) -> Corpus:
    """Write a sample for each rule that names plain texts or bytes. Gives them as a corpus at `/made`."""
    directory.mkdir(parents=True, exist_ok=True)
    for key, source in list(sources.items())[:MOST_SAMPLES]:
        data = sample_of(source)
        if data:
            name = hashlib.sha256(f"{key}\0{source.text}".encode(errors="replace")).hexdigest()[:24]
            (directory / name).write_bytes(data)
    found = directory_corpus("samples made from the rules' own texts", directory, "/made")
    names = "\n".join(f"{name} {size}" for name, size in found.files)
    return Corpus(found.name, found.root, found.inside, found.files, hashlib.sha256(names.encode()).hexdigest())


def sample_of(source: Source) -> bytes:
    """Put together all that a rule looks for, behind the header that its condition asks for."""
    parts: list[bytes] = []
    for text, modifiers in texts_of(source):
        wide = b"".join(bytes([byte, 0]) for byte in text)
        if "wide" in modifiers.split():
            parts.append(wide)
            if "ascii" not in modifiers.split():
                continue
        parts.append(text)
    parts += hexes_of(source)
    if not parts:
        return b""
    condition = source.text.rpartition("condition")[2]
    head = b""
    if "0x5A4D" in condition or "0x5a4d" in condition or "pe." in condition:
        head = _PE
    elif "0x464c457f" in condition.lower() or "0x7f454c46" in condition.lower() or "elf." in condition:
        head = _ELF
    return (head + b"\0".join(parts) + b"\0")[:MOST_BYTES]
