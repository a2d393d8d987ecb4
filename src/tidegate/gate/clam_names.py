"""ClamAV's signatures that bear one name: it takes them all, and whoever has it ignore one has it ignore the others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from tidegate.gate.sources import YARA_SUFFIXES, Source

_NAMED = (
    ".cdb", ".db", ".hdb", ".hdu", ".hsb", ".hsu", ".idb", ".imp", ".ldb", ".ldu", ".mdb", ".mdu", ".msb", ".msu",
    ".ndb", ".ndu", ".sdb",
)  # fmt: skip
"""Files of signatures; the lines of others begin with something else (.cfg, .ftm, .fp, .ign2, .pdb ...)."""
MOST_NAMES, MOST_PLACES = 20, 3


def alike(sources: Iterable[Source]) -> list[tuple[Source, str]]:
    """Give (the second of them, what it says) for each name that stands more than once; of many names the first."""
    found: dict[str, list[Source]] = {}
    for source in sources:
        suffix = PurePosixPath(source.file).suffix.lower()
        if suffix in _NAMED or suffix in YARA_SUFFIXES:
            # A rule of YARA's language goes by another name in what ClamAV reports.
            found.setdefault(f"YARA.{source.name}" if suffix in YARA_SUFFIXES else source.name, []).append(source)
    twice = [each for each in found.values() if len(each) > 1]
    told = [(each[1], _sentence(each)) for each in twice[:MOST_NAMES]]
    if more := len(twice) - len(told):
        told[-1] = told[-1][0], f"{told[-1][1]}; {more:,} other names stand more than once, too"
    return told


def _sentence(each: list[Source]) -> str:
    places = ", ".join(source.place for source in (each[0], *each[2:])[:MOST_PLACES])
    more = f" and {len(each) - 1 - MOST_PLACES:,} more" if len(each) - 1 > MOST_PLACES else ""
    same = "; they look for the same" if len({source.text for source in each}) == 1 else ""
    return (
        f"signature {each[0].name} stands also in {places}{more}: ClamAV reports them all by one name, and who has it"
        f" ignore that name has it ignore all of them{same}"
    )
