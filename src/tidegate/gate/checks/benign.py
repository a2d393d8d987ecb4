"""Check `benign`: nothing that every device has is taken for something bad."""

from __future__ import annotations

import time
from typing import Any

from tidegate.gate.interpreters import Match
from tidegate.gate.port import Say, Seen
from tidegate.gate.scanning import suspects, sweep, where
from tidegate.gate.trial import Trial
from tidegate.trust.statement import rfc3339

MOST_SHOWN = 20
MB = 1 << 20


class BenignCheck:
    """This machine's programs, and what the vendor or the fleet has recorded as benign."""

    name = "benign"
    question = "Does it leave benign files alone?"
    order = 50
    needs = ("load",)
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """The content, the interpreter and the corpora."""
        corpora = [[corpus.name, corpus.digest] for corpus in trial.benign_corpora]
        return [self.name, trial.candidate.digest, trial.interpreter_inputs(), corpora]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Scan them; each detection is a false one."""
        corpora = trial.benign_corpora
        if not corpora:
            seen.skipped = (
                "there is no benign corpus: name one (--benign DIRECTORY), or let this machine's programs be it"
            )
            return
        began = time.monotonic()
        found = sweep(trial, trial.candidate, corpora, say, "benign files")
        took_s = time.monotonic() - began
        seen.figures |= {
            "corpora": {
                corpus.name: {"files": len(corpus.files), "MB": round(corpus.size / MB, 1)} for corpus in corpora
            },
            "content files tried": found.tried,
            "content files reused": found.reused,
            **({"reused from": rfc3339(found.since_s)} if found.since_s else {}),
            "MB a second": round(found.bytes / MB / took_s, 1) if found.bytes else 0,
        }
        by_rule: dict[tuple[str, str], list[Match]] = {}
        for match in sorted(found.matches, key=lambda match: (match.file, match.rule, match.sample)):  # both cores scan
            by_rule.setdefault((match.file, match.rule), []).append(match)
        for matches in list(by_rule.values())[:MOST_SHOWN]:
            first, others = matches[0], len(matches) - 1
            more = f", and {others:,} others" if others else ""
            sentence = f"rule {first.rule} takes the benign file {first.sample}{more} for something bad"
            seen.fail(sentence, **where(trial, first))
        if len(by_rule) > MOST_SHOWN:
            seen.fail(f"{len(by_rule):,} rules have {len(found.matches):,} false detections altogether")
        for (_, sentence), place in zip(found.trouble, suspects(trial, found.trouble, corpora), strict=True):
            seen.fail(sentence + place.pop("more", ""), **place)
