"""ClamAV's switches in a payload: lines that turn parts of the engine off, or let whole kinds of files through.

Formats: ClamAV's `shared/.../dconf.c` (.cfg: `PART:MASK:...`, each bit a part that is on) and its documentation of file
type magic (.ftm: `how:offset:bytes:name:required type:type`).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from tidegate.gate.sources import Source

_DIGESTS = (".hdb", ".hdu", ".hsb", ".hsu", ".mdb", ".mdu", ".msb", ".msu", ".fp", ".sfp")
_LEVELS = {".ndb": (4, 5), ".ndu": (4, 5), ".idb": (4, 5), ".cdb": (10, 11), **dict.fromkeys(_DIGESTS, (3, 4))}
"""Where a line says from which level of the engine on, and up to which, it counts."""
_IN_LOGIC = re.compile(r"Engine:(\d+)-(\d+)")
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
        elif file.endswith(".crb") and source.text.split(";")[1:2] == ["1"]:
            found.append((source, "ClamAV will let through what is signed with this certificate"))
    return found


def left_out(changed: Iterable[Source], level: int) -> list[tuple[Source, str]]:
    """Give (signature, why) of those that an engine of this level leaves out without a word."""
    found: list[tuple[Source, str]] = []
    for source in changed:
        suffix = PurePosixPath(source.file).suffix.lower()
        parts = source.text.split(":")
        if suffix in (".ldb", ".ldu"):
            said = _IN_LOGIC.search(source.text.partition(";")[2].partition(";")[0])
            low, high = (said[1], said[2]) if said else ("", "")
        else:
            low, high = ((parts[at].strip() if len(parts) > at else "") for at in _LEVELS.get(suffix, (999, 999)))
        least, most = int(low) if low.isdecimal() else 0, int(high) if high.isdecimal() else level
        if not least <= level <= most:
            bounds = f"from {least} on" if most == level else f"{least} to {most}"
            says = f"it is for engines of level {bounds}, and this one is of level {level}"
            found.append((source, f"ClamAV leaves it out without a word: {says}"))
    return found


def engine_level() -> int:
    """Give the level of the installed ClamAV's functions, as signatures name it; 0 where it does not say."""
    try:
        return int(ctypes.CDLL(ctypes.util.find_library("clamav") or "libclamav.so").cl_retflevel())
    except (OSError, AttributeError):
        return 0


def _same_part(old: Source, part: str) -> bool:
    return old.file.lower().endswith(".cfg") and old.text.split(":")[0] == part


def _mask(parts: list[str]) -> int | None:
    try:
        return int(parts[1], 0)
    except (IndexError, ValueError):
        return None
