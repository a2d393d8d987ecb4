"""Where each rule stands in its file, read without a compiler: for the line in a report, and for release notes.

Works for YARA's language, and for formats with one record a line (ClamAV's signatures, separated fields).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tidegate.gate.clam_texts import bodies_of, has_bodies

_RULE = re.compile(r"^[ \t]*(?:(?:private|global)[ \t]+)*rule[ \t]+([A-Za-z_]\w*)", re.MULTILINE)
_IN_COMMENT = re.compile(r"^[ \t/*]*(?:(?:private|global)[ \t]+)*rule[ \t]+([A-Za-z_]\w*)", re.MULTILINE)
_BLANK = re.compile(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|//[^\n]*', re.DOTALL)
_TEXT = re.compile(r'(\$\w*)\s*=\s*"((?:\\.|[^"\\\n])*)"([^\n]*)')
_HEX = re.compile(r"(\$\w*)\s*=\s*\{([^{}]*)\}")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)")
_PLAIN_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", '"': b'"', "\\": b"\\"}
_NAME_IS_THIRD = (".hdb", ".hdu", ".hsb", ".hsu", ".mdb", ".mdu", ".msb", ".msu", ".imp", ".fp", ".sfp", ".ign")
"""ClamAV's files of digests: DIGEST:SIZE:NAME, or SIZE:DIGEST:NAME."""
YARA_SUFFIXES = (".yar", ".yara")
BINARY_BYTES = 4096
"""A file with a zero byte in its first ones is no text, and has no items to name."""
MOST_TEXT = 64 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """One rule, record or signature: its file, name, lines and words."""

    file: str
    name: str
    line: int
    text: str

    @property
    def place(self) -> str:
        """Where it stands, as `file:line`."""
        return f"{self.file}:{self.line}"


def read_sources(root: Path, files: Sequence[str]) -> dict[str, Source]:
    """Find all items of content files, by `file` and name joined by a colon; another one of that name ends in `#2`."""
    found: dict[str, Source] = {}
    times: Counter[str] = Counter()
    for file in files:
        path = root / file
        if path.stat().st_size > MOST_TEXT:
            continue
        data = path.read_bytes()
        yara = path.suffix.lower() in YARA_SUFFIXES
        if b"\0" in data[:BINARY_BYTES] and not yara:
            continue
        text = data.decode(errors="replace")
        items = _yara(file, text) if yara else _lines(file, text)
        for item in items:
            key = f"{file}:{item.name}"
            times[key] += 1
            found[key if times[key] == 1 else f"{key}#{times[key]}"] = item
    return found


def _yara(file: str, text: str) -> list[Source]:
    # Comments and texts are blanked for the search alone, so that `rule` within them is no rule.
    bare = _BLANK.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    starts = list(_RULE.finditer(bare))
    found: list[Source] = []
    line, counted = 1, 0
    for here, match in enumerate(starts):
        end = starts[here + 1].start() if here + 1 < len(starts) else len(text)
        # What stands between two rules, as an import, belongs to neither.
        end = max(bare.rfind("}", match.start(), end) + 1, match.end())
        line, counted = line + text.count("\n", counted, match.start(1)), match.start(1)
        found.append(Source(file, match[1], line, text[match.start() : end].rstrip()))
    return found


def commented(text: str) -> int:
    """Give the line of the first rule that stands in a comment, 0 if there is none."""
    found = _IN_COMMENT.search(text)
    return text.count("\n", 0, found.start(1)) + 1 if found else 0


def _lines(file: str, text: str) -> list[Source]:
    found: list[Source] = []
    suffix = Path(file).suffix.lower()
    behind = 2 if suffix in _NAME_IS_THIRD else 3 if suffix == ".ftm" else 0
    for number, line in enumerate(text.splitlines(), start=1):
        parts = re.split(r"[:;|,\t=]", line, maxsplit=4)
        name = parts[behind if len(parts) > behind else 0].strip()
        if name and not line.startswith("#"):
            found.append(Source(file, name[:100], number, line))
    return found


def words_of(source: Source) -> list[bytes]:
    """Give the plain texts and bytes that a rule looks for; patterns with holes have their holes filled with zeros."""
    if has_bodies(source.file):
        return bodies_of(source.file, source.text)[1]
    found = [unescape(match[2]) for match in _TEXT.finditer(source.text)]
    found += hexes_of(source)
    return [word for word in found if word] or ([source.text.encode()[:200]] if ":" in source.text[:80] else [])


def texts_of(source: Source) -> list[tuple[bytes, str]]:
    """Give (text, what stands behind it, as `wide nocase`) of a rule's plain texts."""
    return [(unescape(match[2]), match[3]) for match in _TEXT.finditer(source.text)]


def hexes_of(source: Source) -> list[bytes]:
    """Give one sequence of bytes for each hex pattern that is plain enough."""
    return [data for match in _HEX.finditer(source.text) if (data := hex_bytes(match[2]))]


def unescape(text: str) -> bytes:
    """Give the bytes that a text of YARA's language stands for."""

    def value(match: re.Match[str]) -> str:
        code = match[1]
        data = bytes([int(code[1:], 16)]) if code[0] == "x" and len(code) == 3 else _PLAIN_ESCAPES.get(code, b"?")
        return data.decode("latin-1")

    return _ESCAPE.sub(value, text.encode("utf-8", "replace").decode("latin-1")).encode("latin-1")


def hex_bytes(pattern: str) -> bytes | None:
    """Give one sequence of bytes that a hex pattern matches; None where it is not plain enough to say."""
    pattern = re.sub(r"/\*.*?\*/|//[^\n]*", " ", pattern, flags=re.DOTALL)
    # Of alternatives the first; of a jump its least length.
    for _ in range(4):
        pattern = re.sub(r"\(([^()|]*)(?:\|[^()]*)?\)", r" \1 ", pattern)
    pattern = re.sub(r"\[\s*(\d*)\s*(?:-\s*\d*\s*)?\]", lambda m: " 00 " * min(int(m[1] or 0), 4096), pattern)
    pattern = re.sub(r"~\s*[0-9A-Fa-f?]{2}", " 00 ", pattern)
    digits = re.sub(r"\s", "", pattern)
    if len(digits) % 2 or not re.fullmatch(r"[0-9A-Fa-f?]*", digits) or len(digits) > 1 << 16:
        return None
    return bytes.fromhex(digits.replace("?", "0"))


def line_of(sources: dict[str, Source], file: str, name: str) -> int:
    """Give an item's line, 0 if it was not found."""
    found = sources.get(f"{file}:{name}")
    return found.line if found else 0


def find_item(sources: dict[str, Source], name: str) -> Source | None:
    """Find an item by name alone, where an interpreter does not say which file it came from."""
    return next((source for source in sources.values() if source.name == name), None)
