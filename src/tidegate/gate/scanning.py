"""Scans of corpora on all cores; what unchanged content files have found before is not looked for again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tidegate.gate.corpus import Corpus, shards
from tidegate.gate.interpreters import Match, Scanned
from tidegate.gate.known import Known
from tidegate.gate.port import Say
from tidegate.gate.sources import Source, find_item, line_of
from tidegate.gate.trial import Edition, Trial, digests

MOST_SUSPECTS = 60
MOST_TRACED = 2
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
    """Find the changed content file behind each trouble. Trying takes long where it hangs, so only the first are.

    Where those lead to one place, the others are laid to it as well.
    """
    traced = [suspect(trial, sample, corpora) for sample, _ in trouble[:MOST_TRACED]]
    places = {(each.get("file", ""), each.get("line", 0), each.get("rule", "")) for each in traced}
    file, line, rule = places.pop() if len(places) == 1 else ("", 0, "")
    others = trouble[MOST_TRACED:]
    return [*traced, *({"sample": sample, "file": file, "line": line, "rule": rule} for sample, _ in others)]


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
