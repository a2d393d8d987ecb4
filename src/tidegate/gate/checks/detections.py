"""Check `detections`: what the baseline finds, the candidate finds; planted samples are found at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tidegate.core.wire import plain
from tidegate.gate.interpreters import Match
from tidegate.gate.planting import sample_name
from tidegate.gate.port import Say, Seen
from tidegate.gate.scanning import MOST_TRACED, suspect, sweep, where
from tidegate.gate.sources import Source, find_item
from tidegate.gate.switches import engine_level, left_out, switched_off
from tidegate.gate.tracing import traced
from tidegate.gate.trial import Edition, Trial
from tidegate.trust.statement import rfc3339

MOST_SHOWN = 20
MOST_IDLE = 5
_GLOBAL = re.compile(r"\s*(?:private\s+)?global\s")
_SILENCING = (".ign", ".ign2", ".fp", ".sfp")
"""ClamAV's lists of signatures and files to let through."""
_FORMS = {
    "whole": "all that it looks for, from the start of the file",
    "inside": "all that it looks for, within other text",
    "wide": "its texts in 16 bits a letter",
    "one": "one of its texts alone",
    "within": "one of its texts alone, within other text",
    "most": "all of its texts but the last",
}


def _rule_named(name: str, sources: Mapping[str, Source]) -> Source | None:
    """Find an item that detects by its name, and none that lets something of this name through."""
    return find_item({k: each for k, each in sources.items() if not each.file.lower().endswith(_SILENCING)}, name)


def _able(beside: list[Source], lost: str) -> list[Source]:
    """Give those of new and changed items that may have silenced a rule: the surest kind of them alone."""
    silencing = [each for each in beside if each.file.lower().endswith(_SILENCING)]
    naming = [each for each in silencing if each.name == lost]
    return naming or silencing or [each for each in beside if _GLOBAL.match(each.text)] or beside


def _silences(found: Source) -> str:
    if found.file.lower().endswith(_SILENCING):
        return f"{found.name} in {found.file} lets something through"
    decides = "decides on all rules of its file" if _GLOBAL.match(found.text) else "silences it"
    return f"{found.name} {decides}"


def _form(sample: str) -> str:
    return sample.rpartition("-")[2].rstrip("0123456789")


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
        return [
            self.name,
            trial.candidate.digest,
            base,
            trial.interpreter_inputs(),
            samples,
            plain(trial.settings.detections),
        ]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Scan the samples with both."""
        planted, made = trial.planted_corpora, trial.made_samples
        corpora = [corpus for corpus in (*planted, made) if corpus.files]
        self._switches(trial, seen)
        if not corpora:
            seen.skipped = "there are no planted samples: name some (--planted DIRECTORY)"
            return
        now = sweep(trial, trial.candidate, corpora, say, "planted samples")
        for sample, sentence in now.trouble:
            place = suspect(trial, sample, corpora)
            seen.fail(f"it could not be looked at: {sentence}{place.pop('more', '')}", **place)
        found: dict[str, set[str]] = {}
        for match in now.matches:
            found.setdefault(match.sample, set()).add(match.rule)
        own = [path for corpus in planted for path, _ in corpus.paths()]
        missed = [path for path in own if path not in found]
        exercised = {(match.file, match.rule) for match in now.matches}
        if now.since_s:
            seen.figures["reused from"] = rfc3339(now.since_s)
        seen.figures |= {"planted": len(own), "made": len(made.files), "detected": len(found)}
        seen.figures["rules exercised"] = f"{len(exercised):,} of {len(trial.sources):,}"
        self._untried(trial, seen, {rule for _, rule in exercised})
        if not trial.baselines:
            for path in missed[:MOST_SHOWN]:
                seen.fail("a planted sample is not detected", sample=path)
            return
        self._compare(trial, seen, say, set(own), found)

    def _switches(self, trial: Trial, seen: Seen) -> None:
        before = trial.sources_of(trial.baselines[0]) if trial.baselines else {}
        changed = trial.changed_sources().values()
        off = switched_off(changed, before)
        if trial.need_interpreter().kind == "clamav" and (level := engine_level()):
            off += left_out(changed, level)
        for source, says in off[:MOST_SHOWN]:
            if not any(fnmatchcase(source.name, pattern) for pattern in trial.settings.detections.retired):
                says += f"; if that is meant, name {source.name} among what goes ([detections] retired)"
                seen.fail(says, file=source.file, line=source.line, rule=source.name)

    def _untried(self, trial: Trial, seen: Seen, exercised: set[str]) -> None:
        """Warn of new or changed rules that have detected nothing at all, not even samples made of their own texts."""
        made = {path.rpartition("/")[2].partition("-")[0] for path, _ in trial.made_samples.paths()}
        idle = [each for key, each in trial.changed_sources().items()
                if each.name not in exercised and sample_name(key, each) in made]  # fmt: skip
        for source in idle[:MOST_IDLE]:
            more = f", nor do {len(idle) - 1:,} others that are new or changed" if len(idle) > 1 else ""
            seen.warn(
                f"the rule has detected nothing, not even what was made of its own texts{more}: nobody knows whether it"
                " ever will; plant a sample that it must detect (--planted)",
                file=source.file,
                line=source.line,
                rule=source.name,
            )

    def _compare(self, trial: Trial, seen: Seen, say: Say, own: set[str], found: dict[str, set[str]]) -> None:
        baseline = trial.baselines[0]
        corpora = [corpus for corpus in (*trial.planted_corpora, trial.made_samples) if corpus.files]
        before = sweep(trial, baseline, corpora, say, f"the same with {baseline.title}")
        for sample, sentence in before.trouble:
            seen.fail(
                f"what {baseline.title} finds in it is not known, so there is no comparison: {sentence}", sample=sample
            )
        held: dict[str, set[tuple[str, str]]] = {}
        for match in before.matches:
            held.setdefault(match.sample, set()).add((match.file, match.rule))
        names = {source.name for source in trial.sources.values()}
        known = {source.name for source in trial.sources_of(baseline).values()}
        retired: set[str] = set()
        renamed: dict[str, str] = {}
        lost = 0
        told: set[tuple[str, str]] = set()
        for sample, rules in sorted(held.items()):
            if sample in found:
                fresh = sorted(found[sample] - known)
                renamed |= {rule: fresh[0] for _, rule in rules if rule not in names and fresh}
                continue
            alive = sorted(rule for rule in rules if rule[1] in names)
            if sample not in own and not alive:
                retired |= {rule for _, rule in rules}
                continue
            lost += 1
            file, rule = alive[0] if alive else sorted(rules)[0]
            if len(told) < MOST_SHOWN and (sample in own or (file, rule) not in told):
                told.add((file, rule))
                what = "a planted sample" if sample in own else f"a sample of its own ({_FORMS[_form(sample)]})"
                was = find_item(trial.sources_of(baseline), rule)
                stood = f" ({was.file}:{was.line} there)" if was else ""
                place, why = self._reason(trial, baseline, Match(sample, rule, file), len(told) <= MOST_TRACED)
                seen.fail(f"{what} is not detected any more; {baseline.title} found it by {rule}{stood}{why}", **place)
        for path in sorted(own - set(found) - set(held))[:MOST_SHOWN]:
            seen.warn(f"a planted sample is detected neither by this nor by {baseline.title}", sample=path)
        seen.figures |= {"detected by the baseline": len(held), "lost": lost, "retired rules": sorted(retired)[:100]}
        seen.figures["newly detected"] = len(set(found) - set(held))
        for old, new in sorted(renamed.items())[:MOST_SHOWN]:
            sentence = f"what {baseline.title} finds as {old} is {new} now: what knows it by its name will miss it"
            seen.warn(sentence, **where(trial, Match("", new)))
        self._gone(trial, seen, retired, set(renamed))

    def _reason(self, trial: Trial, baseline: Edition, lost: Match, trace: bool) -> tuple[dict[str, Any], str]:
        """Give the place to look at: the rule itself, or what has changed beside it where its own words have not."""
        key = f"{lost.file}:{lost.rule}"
        own, was = trial.sources.get(key), trial.sources_of(baseline).get(key)
        alone = trial.need_interpreter().separable
        beside = [each for each in trial.changed_sources().values() if each.file == lost.file or not alone]
        if own is None and was is None:  # ClamAV does not say which file a signature came from
            own, was = (_rule_named(lost.rule, sources) for sources in (trial.sources, trial.sources_of(baseline)))
        if own is None or was is None or own.text != was.text or not beside:
            return where(trial, lost), ""
        able = _able(beside, lost.rule)
        if len(able) == 1 and able is not beside:
            place = {"file": able[0].file, "line": able[0].line, "rule": able[0].name, "sample": lost.sample}
            return place, f"; that rule is as it was, but {_silences(able[0])}"
        place = self._silencer(trial, lost) if trace else {}
        if not place:
            return where(trial, lost), f"; that rule is as it was; new or changed beside it: {len(able):,}"
        found = trial.sources.get(f"{place['file']}:{place['rule']}")
        says = _silences(found) if found else "what is new here silences it"
        return {**place, "sample": lost.sample}, f"; that rule is as it was, but {says}"

    def _silencer(self, trial: Trial, lost: Match) -> dict[str, Any]:
        """Find the change without which a rule that is as it was detects its sample, by trying."""
        interpreter = trial.need_interpreter()
        corpora = (*trial.planted_corpora, trial.made_samples)
        places = [(corpus.root, corpus.inside) for corpus in corpora if corpus.files]

        def silent(content: Path) -> bool:
            found = interpreter.scan(content, [(lost.sample, 0)], places)
            return found.loaded.ok and all(match.rule != lost.rule for match in found.matches)

        with trial.tracing:
            place, unsure = traced(trial, silent)
        return {} if unsure else place

    def _gone(self, trial: Trial, seen: Seen, retired: set[str], renamed: set[str]) -> None:
        """Judge detections that are gone with their rules: some are retired on purpose, many are an accident."""
        own, baseline = trial.settings.detections, trial.baselines[0]
        gone = sorted(
            name for name in retired | renamed if not any(fnmatchcase(name, pattern) for pattern in own.retired)
        )
        if retired:
            some, are = ", ".join(sorted(retired)[:5]), "rule is" if len(retired) == 1 else "rules are"
            seen.warn(f"{len(retired)} {are} gone that {baseline.title} has, with what they detected: {some}")
        before = trial.sources_of(baseline)
        if len(gone) <= own.may_go * len(before):
            return
        was = find_item(before, gone[0])
        seen.fail(
            f"{len(gone)} of the {len(before):,} rules of {baseline.title} are gone,"
            f" {'with what they detected' if retired else 'for they have other names'}"
            f" ({', '.join(gone[:5])}; the first stood in {f'{was.file}:{was.line}' if was else 'it'}):"
            f" {own.may_go:.0%} may go; name those that go on purpose"
            f' ([detections] retired = ["{gone[0]}"], or a pattern), or allow more (may_go)',
            file=was.file if was and (trial.candidate.content / was.file).is_file() else "",
            rule=gone[0],
        )
