"""Samples put together from the texts that rules look for: a rule whose sample it does not detect has no sample.

They stand in for recorded ones where a vendor gives none. What a sample is for is known only after a scan: the rules
that the baseline finds in it are the ones that the candidate must find. Each rule has several, so that a condition that
was tightened (a place, whole words, case, `all` for `any`, a size) loses one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tidegate.gate.clam_texts import bodies_of, has_bodies
from tidegate.gate.corpus import Corpus, made_corpus
from tidegate.gate.programs import windows_program
from tidegate.gate.sources import Source, hexes_of, texts_of

MOST_RULES = 3000
MOST_ALONE = 4
MOST_BYTES = 256 * 1024
_PE = b"MZ" + bytes(58) + b"\x80\0\0\0" + bytes(64) + b"PE\0\0\x4c\x01\0\0" + bytes(12) + b"\xe0\0\x02\x01" + bytes(224)
_ELF = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0\1\0\0\0" + bytes(40)


def planted_corpus(sources: Mapping[str, Source], directory: Path) -> Corpus:
    """Write samples for each rule that names plain texts or bytes. Gives them as a corpus at `/made`."""
    directory.mkdir(parents=True, exist_ok=True)
    made: dict[str, bytes] = {}
    for key, source in list(sources.items())[:MOST_RULES]:
        for form, data in samples_of(source).items():
            made[name := f"{sample_name(key, source)}-{form}"] = data
            with open(f"{directory}/{name}", "wb", buffering=0) as file:
                file.write(data)
    return made_corpus("samples made from the rules' own texts", directory, "/made", made)


def sample_name(key: str, source: Source) -> str:
    """Give how the names of a rule's samples begin."""
    return hashlib.sha256(f"{key}\0{source.text}".encode(errors="replace")).hexdigest()[:24]


def samples_of(source: Source) -> dict[str, bytes]:
    """Put together what a rule looks for, in several forms, behind the header that its condition asks for.

    `whole`: all of it, in words of their own, from the start; `inside`: all of it within other text, further on, in the
    other case where case is said not to matter; `wide`: in 16 bits a letter alone; `one` and `within`:
    one of them by itself, in either way; `most`: all but the last.
    """
    if has_bodies(source.file):
        return _signature_samples(source)
    whole: list[bytes] = []
    inside: list[bytes] = []
    wide: list[bytes] = []
    for text, behind in texts_of(source):
        modifiers = behind.split()
        other = text.swapcase() if "nocase" in modifiers else text
        if "wide" in modifiers:
            whole.append(_wide(text))
            inside.append(_wide(other))
            wide.append(_wide(text))
            if "ascii" not in modifiers:
                continue
        whole.append(text)
        inside.append(other)
    patterns = hexes_of(source)
    if not whole and not patterns:
        return {}
    forms = {"whole": b"\0".join([*whole, *patterns]) + b"\0"}
    forms["inside"] = b"x" * 99 + b"xx".join([*inside, *patterns]) + b"x" * 4000
    if wide and len(wide) < len(whole):
        forms["wide"] = b"\0\0".join([*wide, *patterns]) + b"\0\0"
    parts = [*whole, *patterns]
    if len(parts) > 1:
        forms |= {f"one{n}": part + b"\0" for n, part in enumerate(parts[:MOST_ALONE])}
        forms |= {f"within{n}": b"x" * 99 + part + b"x" * 99 for n, part in enumerate(inside[:MOST_ALONE])}
    if len(parts) > 2:
        forms["most"] = b"\0".join(parts[:-1]) + b"\0"
    head = _head(source.text.rpartition("condition")[2].lower())
    return {form: (head + data)[:MOST_BYTES] for form, data in forms.items()}


def _signature_samples(source: Source) -> dict[str, bytes]:
    """Do it for a ClamAV signature: all of its bodies, behind a program's header or further on, and each alone."""
    target, bodies = bodies_of(source.file, source.text)
    if not bodies:
        return {}
    head = {1: windows_program(), 6: _ELF}.get(target, b"")
    forms = {"whole": head + b"\0".join(bodies) + b"\0", "inside": head + b"x" * 99 + b"xx".join(bodies) + b"x" * 99}
    if len(bodies) > 1:
        forms |= {f"one{number}": head + body for number, body in enumerate(bodies[:MOST_ALONE])}
    return {form: data[:MOST_BYTES] for form, data in forms.items()}


def _wide(text: bytes) -> bytes:
    return b"".join(bytes([byte, 0]) for byte in text)


def _head(condition: str) -> bytes:
    if "0x5a4d" in condition or "pe." in condition:
        return _PE
    if "0x464c457f" in condition or "0x7f454c46" in condition or "elf." in condition:
        return _ELF
    return b""
