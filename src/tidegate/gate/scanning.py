"""Scans of corpora on all cores; what unchanged content files have found before is not looked for again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tidegate.gate.corpus import Corpus, shards
from tidegate.gate.interpreters import Match, Scanned
from tidegate.gate.port import Say
from tidegate.gate.sources import Source, find_item, line_of
from tidegate.gate.trial import Edition, Trial, digests

MOST_SUSPECTS = 60
MOST_TRACED = 2


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep found: matches, trouble, bytes that were looked at now, and content files that were not new."""

    matches: tuple[Match, ...]
    trouble: tuple[tuple[str, str], ...]
    bytes: int
    files: int
    reused: int
    tried: int


def sweep(trial: Trial, edition: Edition, corpora: Sequence[Corpus], say: Say, what: str) -> Swept:
    """Scan corpora with an edition's content.

    Where each content file means the same alone, each has an answer of its own, by its digest, the interpreter's
    version and the corpora: a changed file is tried alone.
    """
    interpreter = trial.need_interpreter()
    names = interpreter.content_files(edition.content)
    corpus_key = [corpus.digest for corpus in corpora]
    if not interpreter.separable:
        found = _scan(trial, edition, None, corpora, say, what)
        return Swept(found.matches, _trouble(found, edition), found.bytes, len(_files(corpora)), 0, len(names))
    keys = {
        name: ["sweep", digest, name, trial.interpreter_inputs(), corpus_key]
        for name, digest in digests(edition.content, names).items()
    }
    known: list[Match] = []
    new: list[str] = []
    for name in names:
        answer = trial.cache.get(keys[name])
        if answer is None:
            new.append(name)
        else:
            known += [Match(sample, rule, name) for sample, rule in answer]
    if not new:
        return Swept(tuple(known), (), 0, len(_files(corpora)), len(names), 0)
    found = _scan(trial, edition, new if len(new) < len(names) else None, corpora, say, what)
    if not found.trouble and found.loaded.ok:
        for name in new:
            mine = sorted([match.sample, match.rule] for match in found.matches if match.file == name)
            trial.cache.put(keys[name], mine)
    matches = (*known, *found.matches)
    return Swept(matches, _trouble(found, edition), found.bytes, len(_files(corpora)), len(names) - len(new), len(new))


def _trouble(found: Scanned, edition: Edition) -> tuple[tuple[str, str], ...]:
    """Give what kept files from being looked at; where content was not taken, none was."""
    if found.loaded.ok:
        return found.trouble
    return (*found.trouble, ("", f"{edition.title} was not taken: {found.loaded.sentence}"))


def _files(corpora: Sequence[Corpus]) -> list[tuple[str, int]]:
    return [entry for corpus in corpora for entry in corpus.paths()]


def _scan(
    trial: Trial, edition: Edition, only: list[str] | None, corpora: Sequence[Corpus], say: Say, what: str
) -> Scanned:
    interpreter, payload = trial.need_interpreter(), edition.content
    if only is not None:
        payload = trial.part_of(edition, only)
    parts = shards(_files(corpora), trial.jobs)
    places = [(corpus.root, corpus.inside) for corpus in corpora if corpus.inside != "/usr"]
    total, looked = max(sum(len(part) for part in parts), 1), [0] * len(parts)

    def one(number: int) -> Scanned:
        def heard(count: int) -> None:
            looked[number] = count
            say(sum(looked) / total, f"{what}: {sum(looked):,} of {total:,} files")

        return interpreter.scan(payload, parts[number], places, heard)

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
    """Find the changed content file behind each trouble. Trying takes long where it hangs, so only the first are."""
    found: list[dict[str, Any]] = []
    for number, (sample, _) in enumerate(trouble):
        found.append(suspect(trial, sample, corpora) if number < MOST_TRACED else {"sample": sample})
    return found


def suspect(trial: Trial, sample: str, corpora: Sequence[Corpus]) -> dict[str, Any]:
    """Find the changed content file that an interpreter dies of on a sample, by trying each alone."""
    interpreter = trial.need_interpreter()
    changed = trial.changed_sources()
    names = sorted({source.file for source in changed.values()})
    if not interpreter.separable or not 1 <= len(names) <= MOST_SUSPECTS:
        return {"sample": sample}
    places = [(corpus.root, corpus.inside) for corpus in corpora if corpus.inside != "/usr"]

    if len(names) == 1 and all(source.file in names for source in trial.sources.values()):
        return _first_of(changed, names[0], sample)  # there is no other

    def dies(name: str) -> bool:
        part = trial.part_of(trial.candidate, [name])
        found = interpreter.scan(part, [(sample, 0)], places)
        shutil.rmtree(part, ignore_errors=True)
        return bool(found.trouble)

    with ThreadPoolExecutor(trial.jobs) as pool:
        guilty = [name for name, died in zip(names, pool.map(dies, names), strict=True) if died]
    if not guilty:
        return {"sample": sample}
    return _first_of(changed, guilty[0], sample)


def _first_of(sources: Mapping[str, Source], file: str, sample: str) -> dict[str, Any]:
    first = min((s for s in sources.values() if s.file == file), key=lambda s: s.line)
    return {"sample": sample, "file": first.file, "line": first.line, "rule": first.name}


def where(trial: Trial, match: Match) -> dict[str, Any]:
    """Give the file, line and rule of a match, as a finding names them."""
    file, line = match.file, line_of(trial.sources, match.file, match.rule)
    if not line and (source := find_item(trial.sources, match.rule)) is not None:
        file, line = source.file, source.line
    return {"file": file, "line": line, "rule": match.rule, "sample": match.sample}
