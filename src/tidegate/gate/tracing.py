"""Finds the change of a release that brings a trouble about, by trying ever fewer of its changes: log2 n tries."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.gate.nearest import parting
from tidegate.gate.sources import BINARY_BYTES, YARA_SUFFIXES
from tidegate.gate.trial import Trial, digests

TRACE_S = 30.0
"""What the search for one place may take altogether; a try that has begun is let end."""
MOST_LINES = 1_000_000
Shows = Callable[[Path], bool]
"""Says whether a directory of content shows the trouble."""


class _TooLate(Exception):
    pass


@dataclass(frozen=True, slots=True)
class Piece:
    """One change within a file: its first line, how many lines it has, and the name of what stands there."""

    line: int
    count: int
    name: str


def traced(trial: Trial, shows: Shows, *, within_s: float = TRACE_S) -> tuple[dict[str, Any], str]:
    """Find the first change with which content shows a trouble, among the changed files and then within that file.

    Returns:
        ({file, line, rule} as a finding takes them, words to add to its sentence). The first is empty where there is no
        one such change, the trouble does not show again, or the time is up.
    """
    give_up = time.monotonic() + within_s

    def tried(files: Sequence[str], later: Sequence[str], cut: Sequence[Piece] = ()) -> bool:
        if time.monotonic() > give_up:
            raise _TooLate
        place = _content(trial, files, later, cut)
        try:
            return shows(place)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    files = changed_files(trial)
    try:
        if not files or not tried(files, []) or (_has_baseline(trial) and tried([], files)):
            return {}, ""
        number = _first(len(files), lambda count: tried(files[:count], files[count:]))
        file, later = files[number - 1], files[number:]
    except _TooLate:
        return {}, ""
    pieces = pieces_of(trial, file)
    if not pieces:
        return _parting(trial, file)
    with suppress(_TooLate):
        at = _first(len(pieces), lambda count: tried(files[:number], later, pieces[count:]))
        found = pieces[at - 1]
        place = {"file": file, "line": found.line, "rule": found.name}
        others, rest = [each for each in files if each != file], [each for each in pieces if each is not found]
        if (number, at) == (1, 1) or tried([file], others, rest):
            return place, ""
        return place, " (with the changes before it)"
    return {
        "file": file,
        "line": pieces[0].line,
        "rule": "",
    }, " (or another change: finding out takes long)"


def changed_files(trial: Trial) -> list[str]:
    """Give the candidate's content files that the first baseline has not, or not with these bytes."""
    old = trial.baselines[0].content if trial.baselines else None
    after = trial.content_digests
    before = digests(old, [name for name in after if (old / name).is_file()]) if old else {}
    return sorted(name for name, digest in after.items() if before.get(name) != digest)


def pieces_of(trial: Trial, file: str) -> list[Piece]:
    """Give a file's new or changed rules, or lines; none where it is no text."""
    if file.lower().endswith(YARA_SUFFIXES):
        changed = [source for source in trial.changed_sources().values() if source.file == file]
        found = [Piece(each.line, each.text.count("\n") + 1, each.name) for each in changed]
        return sorted(found, key=lambda piece: piece.line)
    data = (trial.candidate.content / file).read_bytes()
    lines = data.splitlines()
    if b"\0" in data[:BINARY_BYTES] or len(lines) > MOST_LINES:
        return []
    old = trial.baselines[0].content / file if trial.baselines else None
    before = set(old.read_bytes().splitlines()) if old and old.is_file() else set[bytes]()
    names = {source.line: source.name for source in trial.sources.values() if source.file == file}
    return [
        Piece(n, 1, names.get(n, "")) for n, line in enumerate(lines, start=1) if line.strip() and line not in before
    ]


def _first(count: int, shows: Callable[[int], bool]) -> int:
    """Give the least number of changes with which it shows, where it does with all of them and does not with none."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high


def _has_baseline(trial: Trial) -> bool:
    """Say whether content without any of the changes can be tried as well."""
    return bool(trial.baselines) and not trial.need_interpreter().separable


def _content(trial: Trial, files: Sequence[str], later: Sequence[str], cut: Sequence[Piece]) -> Path:
    """Make the baseline's content with these files of the candidate's, the last of them without some of its pieces.

    Where each file means the same alone, the changed files alone.
    """
    root, alone = trial.candidate.content, trial.need_interpreter().separable
    place = Path(tempfile.mkdtemp(prefix="part-", dir=trial.work))
    place.chmod(0o755)
    others = [] if alone else [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    for name in dict.fromkeys([*others, *files]):
        if name not in later:
            _link(root / name, place / name)
        elif (trial.baselines[0].content / name).is_file() if trial.baselines else False:
            _link(trial.baselines[0].content / name, place / name)
    if cut:
        lines = (root / files[-1]).read_bytes().splitlines(keepends=True)
        gone = {number for piece in cut for number in range(piece.line, piece.line + piece.count)}
        (place / files[-1]).unlink()
        kept = [line for number, line in enumerate(lines, start=1) if number not in gone]
        (place / files[-1]).write_bytes(b"".join(kept))
    return place


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _parting(trial: Trial, file: str) -> tuple[dict[str, Any], str]:
    """Give where a file parts from the baseline's."""
    old = trial.baselines[0].content / file if trial.baselines else Path(os.devnull)
    line, byte = parting(old, trial.candidate.content / file)
    return {"file": file, "line": line, "rule": ""}, "" if line else f"; the file differs from byte {byte:,} on"
