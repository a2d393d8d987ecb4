"""Scans of corpora on all cores; what unchanged content files have found before is not looked for again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.gate.corpus import Corpus, shards
from tidegate.gate.interpreters import Match, Scanned
from tidegate.gate.known import Known
from tidegate.gate.port import Say
from tidegate.gate.sources import find_item, line_of
from tidegate.gate.tracing import traced
from tidegate.gate.trial import Edition, Trial, digests

MOST_TRACED = 2
HURRY = 5
"""What takes longer than a file may is traced with so much less: the rest of the content takes far less still."""
SMALL_BYTES = 4 << 20
"""What is not more than this is not split: each part costs a start of the interpreter."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: matches, trouble, bytes that were looked at now, how many content files had all their answers
    from before (`reused`) or not (`tried`), and when the oldest of those answers was found (`since_s`, 0: none was)."""

    matches: tuple[Match, ...]
    trouble: tuple[tuple[str, str], ...]
    bytes: int
    files: int
    reused: int
    tried: int
    since_s: float = 0.0


def sweep(
    trial: Trial, edition: Edition, corpora: Sequence[Corpus], say: Say, what: str, *, whole: bool = False
) -> Swept:
    """Scan corpora with an edition's content; `whole`: all of it on all of them, whatever has been seen before.

    Where each content file means the same alone, it has an answer of its own for each file of a corpus, by the digest
    of the one, the mark of the other and the interpreter: what has changed on either side is tried anew, all of it.
    """
    interpreter = trial.need_interpreter()
    names = interpreter.content_files(edition.content)
    count = sum(len(corpus.files) for corpus in corpora)
    if whole or not interpreter.separable:
        found = _scan(trial, edition, None, corpora, say, what)
        return Swept(found.matches, _trouble(found, edition), found.bytes, count, 0, len(names))
    known = Known(trial, digests(edition.content, names), corpora)
    matches = list(known.matches)
    trouble: list[tuple[str, str]] = []
    looked, bad = 0, False
    for group, paths in known.groups():
        # Few of many: compiling the others costs more than that these are looked at by all.
        only = group if 2 * len(group) < len(names) else None
        found = _scan(trial, edition, only, corpora, say, what, set(paths))
        matches += [match for match in found.matches if match.file in group]
        trouble += [each for each in _trouble(found, edition) if each not in trouble]
        looked, bad = looked + found.bytes, bad or bool(found.trouble) or not found.loaded.ok
    if not bad:  # what goes wrong may not go wrong again, and is looked for each time
        known.keep(matches)
    fresh = {name for group, _ in known.groups() for name in group}
    tried, reused = len(fresh), len(names) - len(fresh)
    return Swept(tuple(dict.fromkeys(matches)), tuple(trouble), looked, count, reused, tried, known.since_s)


def _trouble(found: Scanned, edition: Edition) -> tuple[tuple[str, str], ...]:
    """Give what kept files from being looked at; where content was not taken, none was."""
    if found.loaded.ok:
        return found.trouble
    return (*found.trouble, ("", f"{edition.title} was not taken: {found.loaded.sentence}"))


def _scan(
    trial: Trial,
    edition: Edition,
    only: list[str] | None,
    corpora: Sequence[Corpus],
    say: Say,
    what: str,
    paths: set[str] | None = None,
) -> Scanned:
    """Scan all files of the corpora, or those of `paths`, with all content files or `only` some."""
    interpreter, payload = trial.need_interpreter(), edition.content
    if only is not None:
        payload = trial.part_of(edition, only)
    files = [entry for corpus in corpora for entry in corpus.paths() if paths is None or entry[0] in paths]
    small = sum(size for _, size in files) < SMALL_BYTES
    parts = shards(files, 1 if small else trial.jobs)
    places = [(corpus.root, corpus.inside) for corpus in corpora if corpus.inside != "/usr"]
    total, looked = max(sum(len(part) for part in parts), 1), [0] * len(parts)

    def one(number: int) -> Scanned:
        def heard(count: int) -> None:
            looked[number] = count
            say(sum(looked) / total, f"{what}: {sum(looked):,} of {total:,} files")

        if number == 0 and only is None and interpreter.separable:
            trial.compile(
                edition
            )  # for later; where it has not been yet, the other parts do it for themselves meanwhile
        return interpreter.scan(payload, parts[number], places, heard, compiled=only is None)

    with ThreadPoolExecutor(max(len(parts), 1)) as pool:
        found = list(pool.map(one, range(len(parts))))
    if only is not None:
        shutil.rmtree(payload, ignore_errors=True)
    if not found:
        return Scanned(interpreter.load(edition.content))
    bad = next((each.loaded for each in found if not each.loaded.ok), None)
    return Scanned(
        bad or found[0].loaded,
        tuple(match for each in found for match in each.matches),
        tuple(trouble for each in found for trouble in each.trouble),
        sum(each.bytes for each in found),
        sum(each.cpu_s for each in found),
        max(each.peak_mb for each in found),
    )


def suspects(trial: Trial, trouble: Sequence[tuple[str, str]], corpora: Sequence[Corpus]) -> list[dict[str, Any]]:
    """Find the change behind each trouble. Trying takes long where it hangs, so only the first are traced.

    Where those lead to one place, the others are laid to it as well.
    """
    traced = [suspect(trial, sample, corpora) for sample, _ in trouble[:MOST_TRACED]]
    places = {(each.get("file", ""), each.get("line", 0), each.get("rule", "")) for each in traced}
    file, line, rule = places.pop() if len(places) == 1 else ("", 0, "")
    others = trouble[MOST_TRACED:]
    return [*traced, *({"sample": sample, "file": file, "line": line, "rule": rule} for sample, _ in others)]


def suspect(trial: Trial, sample: str, corpora: Sequence[Corpus]) -> dict[str, Any]:
    """Find the change that an interpreter dies of on a sample, by trying ever fewer of them on it. Gives what a finding
    takes, and as `more` what to add to its sentence.

    What was found to explode in one check is not looked for again in another: it is at the same place.
    """
    interpreter, patience = trial.need_interpreter(), trial.runner.patience
    places = [(corpus.root, corpus.inside) for corpus in corpora if corpus.inside != "/usr"]
    hurried_s = max(trial.runner.file_cpu_s // HURRY, 1)

    def dies(content: Path) -> bool:
        return bool(interpreter.scan(content, [(sample, 0)], places, each_s=hurried_s).trouble)

    if not sample:
        return {}
    with trial.tracing:
        if patience.lost and trial.guilty:
            return {**trial.guilty, "sample": sample}
        found, more = traced(trial, dies)
        if patience.over:
            trial.guilty = trial.guilty or found
    return {**found, "sample": sample, "more": more}


def where(trial: Trial, match: Match) -> dict[str, Any]:
    """Give the file, line and rule of a match, as a finding names them."""
    file, line = match.file, line_of(trial.sources, match.file, match.rule)
    if not line and (source := find_item(trial.sources, match.rule)) is not None:
        file, line = source.file, source.line
    return {"file": file, "line": line, "rule": match.rule, "sample": match.sample}
