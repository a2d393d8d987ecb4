"""What content files have found in files of corpora before, and what therefore has to be looked at now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.gate.corpus import Corpus
from tidegate.gate.interpreters import Match
from tidegate.gate.trial import Trial

MOST_GROUPS = 4
"""Content files that lack the same answers are tried together; in more groups than these they all lack all."""


class Known:
    """The answers for some content files (name -> SHA-256) and corpora.

    An answer is kept for a content file and a corpus, with the digest of the corpus: it holds for those files in it
    that are there still, with the same mark.
    """

    def __init__(self, trial: Trial, content: Mapping[str, str], corpora: Sequence[Corpus]) -> None:
        """Look up what is known."""
        self._cache, self._content, self._corpora = trial.cache, content, corpora
        self._engine = trial.interpreter_inputs()
        self._compared: dict[tuple[str, str], tuple[frozenset[str], frozenset[str]]] = {}
        self._joined: dict[tuple[str, ...], frozenset[str]] = {}
        self.matches: list[Match] = []
        """What they found, where that holds still."""
        self.since_s = 0.0
        """When the oldest answer that holds was found."""
        self._missing = {name: self._look(name) for name in content}

    def groups(self) -> list[tuple[list[str], frozenset[str]]]:
        """Give (content files, paths that they have not been tried on), as few as that takes."""
        found: dict[frozenset[str], list[str]] = {}
        for name, paths in self._missing.items():
            if paths:
                found.setdefault(paths, []).append(name)
        if len(found) > MOST_GROUPS:
            every = frozenset(path for paths in found for path in paths)
            return [([name for names in found.values() for name in names], every)]
        return [(names, paths) for paths, names in found.items()]

    def keep(self, matches: Sequence[Match]) -> None:
        """Keep what was found for all paths, old answers and new ones together."""
        lacking = [name for name, paths in self._missing.items() if paths]
        if not lacking:
            return
        by_name: dict[str, set[tuple[str, str]]] = {}
        for match in matches:
            by_name.setdefault(match.file, set()).add((match.sample, match.rule))
        for corpus in self._corpora:
            self._cache.put(["listing", corpus.digest], corpus.marked())
            own = {path for path, _ in corpus.paths()}
            for name in lacking:
                mine = sorted([sample, rule] for sample, rule in by_name.get(name, ()) if sample in own)
                self._cache.put(self._key(name, corpus), [corpus.digest, mine])

    def _key(self, name: str, corpus: Corpus) -> Any:
        return ["sweep", self._content[name], name, self._engine, corpus.inside, corpus.lasting]

    def _look(self, name: str) -> frozenset[str]:
        """Note what a content file is known to have found; give the paths for which nothing is known."""
        digests: list[str] = []
        lacking: list[frozenset[str]] = []
        for corpus in self._corpora:
            answer, at_s = self._cache.look(self._key(name, corpus))
            digest, found = answer or ("", [])
            same, others = self._still(digest, corpus)
            if same:
                self.since_s = min(self.since_s or at_s, at_s)
            self.matches += [Match(sample, rule, name) for sample, rule in found if sample in same]
            digests.append(digest)
            lacking.append(others)
        key = tuple(digests)  # most content files lack the same, and it may be tens of thousands of paths
        if key not in self._joined:
            self._joined[key] = frozenset().union(*lacking)
        return self._joined[key]

    def _still(self, digest: str, corpus: Corpus) -> tuple[frozenset[str], frozenset[str]]:
        """Split a corpus's paths into those that stood in an earlier one with the same mark, and the others."""
        key = (digest, corpus.digest)
        if key not in self._compared:
            now = corpus.marked()
            before = now if digest == corpus.digest else self._cache.get(["listing", digest]) or {}
            same = frozenset(path for path, mark in now.items() if before.get(path) == mark)
            self._compared[key] = same, frozenset(now.keys() - same)
        return self._compared[key]
