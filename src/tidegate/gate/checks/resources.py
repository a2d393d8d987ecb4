"""Check `resources`: it costs a device no more than the baseline does, measured in pairs of runs."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit  # all of scipy.stats would take a second to load

from tidegate.core.errors import Refused
from tidegate.core.wire import plain
from tidegate.gate.corpus import MB, Corpus
from tidegate.gate.interpreters import Files, Places
from tidegate.gate.planting import sample_name
from tidegate.gate.port import Say, Seen
from tidegate.gate.tracing import changed_files, pieces_of, traced
from tidegate.gate.trial import Edition, Trial, digests
from tidegate.gate.unpleasant import OWN_WORDS

LEAST_PAIRS, MOST_TIMES = 3, 3
"""Where it is not clear after the pairs of the settings, up to so many times as many are measured."""
SMALL_SHARE = 0.2
"""Up to so much of the content changed, the changed files alone are measured, and the rest counts as it did."""
LEAST_S, LEAST_MB = 0.02, 8.0
"""Below these, what is measured is noise."""
LEAST_OF_EXCESS = 0.3
"""So much of what a release costs more must come with one change, for that one to be named."""
TRACE_S = 20.0
"""What the search for the change at fault may take."""
WORDS = {"load": "CPU to load", "scan": "CPU to scan", "memory": "memory"}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run used: CPU seconds to load and to scan, peak MB."""

    load: float
    scan: float
    memory: float


def interval(ratios: Sequence[float], confidence: float) -> tuple[float, float, float]:
    """Give (mean, lower, upper) of a ratio from pairs: Student's t on the logarithms, the geometric mean."""
    logs = np.log(np.asarray(ratios))
    mean = float(logs.mean())
    half = float(stdtrit(len(logs) - 1, (1 + confidence) / 2) * logs.std(ddof=1) / math.sqrt(len(logs)))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def _clear(ratios: Sequence[float], limit: float, confidence: float) -> bool:
    """Say whether a ratio is on one side of its limit, for what has been measured so far."""
    _, low, high = interval(ratios, confidence)
    return high < limit or low > limit


class ResourcesCheck:
    """Load time, scan time and memory, in turns with the baseline; CPU time, so that other work matters less."""

    name = "resources"
    question = "Does it cost a device no more than what it runs now?"
    order = 65
    needs = ("load", "crash")
    alone = True

    def inputs(self, trial: Trial) -> Any:
        """Both contents, the interpreter, the sample and the limits."""
        base = [edition.digest for edition in trial.baselines[:1]]
        corpora = [corpus.digest for corpus in (*trial.benign_corpora, trial.made_samples, trial.unpleasant)]
        limits = plain(trial.settings.resources)
        return [self.name, trial.candidate.digest, base, trial.interpreter_inputs(), corpora, limits]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Measure pairs until it is clear that it is within the limits, or there are enough."""
        if not trial.baselines:
            files, _, places = sample(trial)
            cost = self._whole(trial, trial.candidate, files, places)
            seen.figures |= {"load CPU seconds": round(cost.load, 3), "scan CPU seconds": round(cost.scan, 3)}
            seen.figures["peak MB"] = round(cost.memory, 1)
            seen.skipped = "there is no baseline to compare with: name what devices run (--baseline DIRECTORY)"
            return
        own, ratios = trial.settings.resources, {name: [] for name in WORDS}
        measured = self._pairs(trial, say)
        for number, (old, new) in enumerate(measured, start=1):
            for name, floor in (("load", LEAST_S), ("scan", LEAST_S), ("memory", LEAST_MB)):
                ratios[name].append(max(getattr(new, name), floor) / max(getattr(old, name), floor))
            if number >= LEAST_PAIRS and all(
                _clear(ratios[name], getattr(own, name), own.confidence) for name in WORDS
            ):
                break
        baseline = trial.baselines[0].title
        for name, words in WORDS.items():
            limit = getattr(own, name)
            mean, low, high = interval(ratios[name], own.confidence)
            seen.figures[f"{words} against {baseline}"] = f"{mean:.2f} times ({low:.2f} to {high:.2f}, limit {limit})"
            if low > limit:
                place, more = self._suspect(trial, name, mean)
                seen.fail(
                    f"{words} is {mean:.1f} times that of {baseline} ({low:.2f} to {high:.2f} with confidence"
                    f" {own.confidence:g}, {len(ratios[name])} pairs); {limit:g} times is allowed{more}",
                    **place,
                )
            elif high > limit and mean > limit:
                seen.warn(
                    f"{words} may be above {limit:g} times that of {baseline}: {low:.2f} to {high:.2f} after"
                    f" {len(ratios[name])} pairs; let it run on a machine with less else to do"
                )
        seen.figures["pairs"] = len(ratios["scan"])

    def _pairs(self, trial: Trial, say: Say) -> Any:
        """Give (baseline's cost, candidate's cost) of one pair after the other, the order swapped each time."""
        old, new = trial.baselines[0], trial.candidate
        files, more, places = sample(trial)
        parts = self._parts(trial, old, new, files, places)
        files += more
        pairs = MOST_TIMES * max(trial.settings.resources.pairs, LEAST_PAIRS)
        for number in range(pairs):
            say(number / pairs, f"pair {number + 1} of {pairs}")
            turn = [(old, 0), (new, 1)] if number % 2 == 0 else [(new, 1), (old, 0)]
            found: dict[int, Cost] = {}
            for edition, side in turn:
                found[side] = self._measure(trial, edition, parts[side] if parts else None, files, places)
            if parts:
                rest = parts[2]
                found = {
                    0: rest,
                    1: Cost(
                        max(rest.load + found[1].load - found[0].load, 0.0),
                        max(rest.scan + found[1].scan - found[0].scan, 0.0),
                        max(rest.memory + found[1].memory - found[0].memory, 0.0),
                    ),
                }
            yield found[0], found[1]

    def _parts(self, trial: Trial, old: Edition, new: Edition, files: Files, places: Places) -> Any:
        """Give (changed files of the old, of the new, the old's whole cost) where that is enough; else None.

        Among both is one file that has not changed, so that what the interpreter itself takes counts on both sides.
        """
        interpreter = trial.need_interpreter()
        if not interpreter.separable:
            return None
        before = digests(old.content, interpreter.content_files(old.content))
        after = trial.content_digests
        held = [{source.file for source in sources.values()} for sources in (trial.sources_of(old), trial.sources)]
        # A file without an item costs nothing, and cannot be measured alone.
        gone = [name for name in before if after.get(name) != before[name] and name in held[0]]
        fresh = [name for name in after if before.get(name) != after[name] and name in held[1]]
        same = sorted(held[0] & {name for name in after if before.get(name) == after[name]})
        if len(fresh) > SMALL_SHARE * len(after) or len(before) < 5 or not same:
            return None
        anchor = min(same, key=lambda name: (new.content / name).stat().st_size)
        return [anchor, *gone], [anchor, *fresh], self._whole(trial, old, files, places)

    def _whole(self, trial: Trial, edition: Edition, files: Files, places: Places) -> Cost:
        """Give what all of an edition costs: the lesser of two runs, for what else the machine does only adds to it."""
        key = _key(trial, edition, files)
        known = trial.cache.get(key)
        if known is None:
            costs = [self._measure(trial, edition, None, files, places) for _ in range(2)]
            known = [min(getattr(cost, name) for cost in costs) for name in WORDS]
            trial.cache.put(key, known)
        return Cost(*(float(value) for value in known))

    def _measure(self, trial: Trial, edition: Edition, only: list[str] | None, files: Files, places: Places) -> Cost:
        payload = edition.content if only is None else trial.part_of(edition, only)
        found = trial.need_interpreter().scan(payload, files, places)
        if found.trouble or not found.loaded.ok:
            sample, sentence = found.trouble[0] if found.trouble else ("", found.loaded.sentence)
            raise Refused(f"{edition.title} did not get through the sample {sample}: {sentence}")
        return Cost(found.loaded.cpu_s, found.cpu_s, found.peak_mb)

    def _suspect(self, trial: Trial, what: str, times: float) -> tuple[dict[str, Any], str]:
        """Find the change that most of the cost comes with; or say that no single one does it."""
        files, more, places = sample(trial)
        files += more
        whole = getattr(self._measure(trial, trial.candidate, None, files, places), what)
        excess = whole - whole / times
        line = self._without(trial, what, files, places, whole / times) + excess / 2
        seen: list[float] = []

        def costs(content: Path) -> bool:
            found = trial.need_interpreter().scan(content, files, places)
            cost = Cost(found.loaded.cpu_s, found.cpu_s, found.peak_mb)
            seen.append(float(getattr(cost, what)) if found.loaded.ok else 0.0)
            return seen[-1] > line

        with trial.tracing:
            place, words = traced(trial, costs, within_s=TRACE_S)
        under, over = (side for side in ([c for c in seen if c <= line], [c for c in seen if c > line]))
        if place and under and over and min(over) - max(under) < LEAST_OF_EXCESS * excess:
            files_changed = changed_files(trial)
            words = f"; no one change does it, it is spread over {len(files_changed)} changed files"
            pieces = pieces_of(trial, files_changed[0])
            place = {"file": files_changed[0], "line": pieces[0].line if pieces else 0}
        return place, words

    def _without(self, trial: Trial, what: str, files: Files, places: Places, before: float) -> float:
        """Give what content costs without any change, in the form in which changes are tried: all of it as it was, or,
        where files are tried alone, next to none."""
        interpreter = trial.need_interpreter()
        if not interpreter.separable:
            return before
        with tempfile.TemporaryDirectory(prefix="none-", dir=trial.work) as directory:
            place = Path(directory)
            place.chmod(0o755)
            (place / "none.yar").write_text("rule none { condition: filesize == 7 }\n")
            found = interpreter.scan(place, files, places)
        return float(getattr(Cost(found.loaded.cpu_s, found.cpu_s, found.peak_mb), what))


def sample(trial: Trial) -> tuple[list[tuple[str, int]], list[tuple[str, int]], Places]:
    """Give what is scanned to measure: a part of the benign files, samples, and the unpleasant inputs.

    Returns:
        (files that the candidate's own changes do not choose, so that what the baseline costs on them holds for other
        candidates as well; more of them, that its changes do choose; places).
    """
    left = trial.settings.resources.sample_mb * MB
    before = trial.sources_of(trial.baselines[0]) if trial.baselines else trial.sources
    lasting = {sample_name(key, source) for key, source in before.items()}

    def chosen(path: str) -> bool:
        name = path.rpartition("/")[2]
        if path.startswith("/unpleasant/"):
            return name.startswith(OWN_WORDS)
        return path.startswith("/made/") and name.partition("-")[0] not in lasting

    files: list[tuple[str, int]] = []
    more: list[tuple[str, int]] = []
    room = left // 4
    for corpus in _corpora(trial):
        share = left // 2 if corpus is trial.made_samples else left
        for path, size in corpus.paths():
            if chosen(path):
                if size <= room:
                    more.append((path, size))
                    room -= size
            elif size <= min(share, left) and size <= 4 * MB:
                files.append((path, size))
                left, share = left - size, share - size
    places = [(corpus.root, corpus.inside) for corpus in _corpora(trial) if corpus.inside != "/usr" and corpus.files]
    return files, more, places


def _corpora(trial: Trial) -> list[Corpus]:
    return [trial.unpleasant, trial.made_samples, *trial.benign_corpora]


def _key(trial: Trial, edition: Edition, files: Files) -> Any:
    marks = {path: mark for corpus in _corpora(trial) for path, mark in corpus.marked().items()}
    return ["cost", edition.digest, trial.interpreter_inputs(), [[path, marks[path]] for path, _ in files]]
