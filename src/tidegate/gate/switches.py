"""ClamAV's switches in a payload: lines that turn parts of the engine off, or let whole kinds of files through.

Formats: ClamAV's `shared/.../dconf.c` (.cfg: `PART:MASK:...`, each bit a part that is on) and its documentation of file
type magic (.ftm: `how:offset:bytes:name:required type:type`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tidegate.gate.sources import Source

_IGNORED = ("CL_TYPE_IGNORED", "CL_TYPE_BINARY_DATA")


def switched_off(changed: Iterable[Source], before: Mapping[str, Source]) -> list[tuple[Source, str]]:
    """Give (line, what it does) of those lines, new or changed, by which devices would look at less than before."""
    found: list[tuple[Source, str]] = []
    for source in changed:
        parts, file = source.text.split(":"), source.file.lower()
        if file.endswith(".cfg") and (mask := _mask(parts)) is not None:
            was = next((_mask(old.text.split(":")) for old in before.values() if _same_part(old, parts[0])), None)
            if mask == 0 or (was or 0) & ~mask:
                found.append((source, f"it turns {parts[0]} of ClamAV off, {'in part' if mask else 'as a whole'}"))
        elif file.endswith(".ftm") and len(parts) > 5 and parts[5].strip() in _IGNORED:
            found.append((source, f"ClamAV will not look into files that begin so: they count as {parts[5].strip()}"))
    return found


def _same_part(old: Source, part: str) -> bool:
    return old.file.lower().endswith(".cfg") and old.text.split(":")[0] == part


def _mask(parts: list[str]) -> int | None:
    try:
        return int(parts[1], 0)
    except (IndexError, ValueError):
        return None
