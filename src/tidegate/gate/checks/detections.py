"""Check `detections`: what the baseline finds, the candidate finds; planted samples are found at all."""

from __future__ import annotations

from typing import Any

from tidegate.gate.port import Say, Seen
from tidegate.gate.scanning import sweep
from tidegate.gate.sources import line_of
from tidegate.gate.trial import Trial

MOST_SHOWN = 20


class DetectionsCheck:
    """Planted samples of the vendor's, and samples made from the rules' own texts."""

    name = "detections"
    question = "Does it still find what it should?"
    order = 60
    needs = ("load",)
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """Both contents, the interpreter and the samples."""
        samples = [corpus.digest for corpus in (*trial.planted_corpora, trial.made_samples)]
        base = [edition.digest for edition in trial.baselines[:1]]
        return [self.name, trial.candidate.digest, base, trial.interpreter_inputs(), samples]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Scan the samples with both."""
        planted, made = trial.planted_corpora, trial.made_samples
        corpora = [corpus for corpus in (*planted, made) if corpus.files]
        if not corpora:
            seen.skipped = "there are no planted samples: name some (--planted DIRECTORY)"
            return
        now = sweep(trial, trial.candidate, corpora, say, "planted samples")
        found: dict[str, set[str]] = {}
        for match in now.matches:
            found.setdefault(match.sample, set()).add(match.rule)
        own = [path for corpus in planted for path, _ in corpus.paths()]
        missed = [path for path in own if path not in found]
        exercised = {(match.file, match.rule) for match in now.matches}
        seen.figures |= {"planted": len(own), "made": len(made.files), "detected": len(found)}
        seen.figures["rules exercised"] = f"{len(exercised):,} of {len(trial.sources):,}"
        if not trial.baselines:
            for path in missed[:MOST_SHOWN]:
                seen.fail("a planted sample is not detected", sample=path)
            return
        self._compare(trial, seen, say, set(own), found)

    def _compare(self, trial: Trial, seen: Seen, say: Say, own: set[str], found: dict[str, set[str]]) -> None:
        baseline = trial.baselines[0]
        corpora = [corpus for corpus in (*trial.planted_corpora, trial.made_samples) if corpus.files]
        before = sweep(trial, baseline, corpora, say, f"the same with {baseline.title}")
        held: dict[str, set[tuple[str, str]]] = {}
        for match in before.matches:
            held.setdefault(match.sample, set()).add((match.file, match.rule))
        sources, names = trial.sources, {source.name for source in trial.sources.values()}
        retired: set[str] = set()
        lost = 0
        for sample, rules in sorted(held.items()):
            if sample in found:
                continue
            alive = sorted(rule for rule in rules if rule[1] in names)
            if sample not in own and not alive:
                retired |= {rule for _, rule in rules}
                continue
            lost += 1
            if lost <= MOST_SHOWN:
                file, rule = alive[0] if alive else sorted(rules)[0]
                what = "a planted sample" if sample in own else "a sample of its own"
                seen.fail(
                    f"{what} is not detected any more; {baseline.title} found it by {rule}",
                    file=file,
                    line=line_of(sources, file, rule),
                    rule=rule,
                    sample=sample,
                )
        for path in sorted(own - set(found) - set(held))[:MOST_SHOWN]:
            seen.warn(f"a planted sample is detected neither by this nor by {baseline.title}", sample=path)
        seen.figures |= {"detected by the baseline": len(held), "lost": lost, "retired rules": sorted(retired)[:100]}
        seen.figures["newly detected"] = len(set(found) - set(held))
        if retired:
            some = ", ".join(sorted(retired)[:5])
            seen.note(f"{len(retired)} rules of {baseline.title} are gone, with what they detected: {some}")
