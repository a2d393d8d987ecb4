"""Check `variety`: what is tested is not one wildcard (RCA-3). A field that is `*` everywhere has never been tried."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tidegate.gate.checks.size import beyond
from tidegate.gate.port import Say, Seen
from tidegate.gate.records import SCHEMA, read_schema, records_of, schema_line
from tidegate.gate.sources import Source
from tidegate.gate.trial import Trial

_CONSTANT = ("invariant boolean expression", "unsatisfiable expression")
_CLOCK = re.compile(r"\btime\s*\.\s*now\b")


class VarietyCheck:
    """Looks for criteria that are never put to the test."""

    name = "variety"
    question = "Is each field and each rule put to the test by more than a wildcard?"
    order = 15
    needs: tuple[str, ...] = ()
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """The payload and the interpreter."""
        base = [edition.digest for edition in trial.baselines[:1]]
        return [self.name, trial.candidate.digest, base, trial.interpreter_inputs()]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Look at each declared field, and at the interpreter's own warnings about conditions that never change."""
        root = trial.candidate.content
        for kind in read_schema(root):
            records = records_of(root, kind)
            tried = [0] * kind.fields
            for record in records:
                for number, value in enumerate(record.fields[: kind.fields]):
                    tried[number] += value != kind.wild
            seen.figures[f"fields of {kind.name} with a criterion"] = sum(count > 0 for count in tried)
            for number, count in enumerate(tried, start=1):
                if records and not count and number not in kind.may_be_wild:
                    seen.fail(
                        f"field {number} of {kind.name} is a wildcard in all {len(records)} records, so that nothing"
                        " tries it; give it a criterion, or list it in may_be_wild",
                        file=SCHEMA,
                        line=schema_line(root, kind.name),
                        rule=kind.name,
                    )
        say(0.5, "conditions that never change")
        if trial.interpreter is not None and trial.interpreter.kind == "yara-x":
            self._constant(trial, seen)

    def _constant(self, trial: Trial, seen: Seen) -> None:
        changed = trial.changed_sources()
        for key, source in changed.items():
            condition = re.search(r"condition\s*:\s*(.*?)\s*\}\s*$", source.text, re.DOTALL)
            if condition and condition[1].strip() in ("true", "not false", "1"):
                seen.fail(
                    "the rule's condition is always true: it tells nothing from anything",
                    file=source.file,
                    line=source.line,
                    rule=key.rpartition(":")[2],
                )
            elif condition and (clock := _CLOCK.search(condition[1])):
                seen.fail(
                    "the rule's condition reads the clock: what is seen of it today says nothing about tomorrow",
                    file=source.file,
                    line=source.line + source.text.count("\n", 0, condition.start(1) + clock.start()),
                    rule=key.rpartition(":")[2],
                )
        seen.figures["changed rules"] = len(changed)
        if not beyond(trial):
            self._compiler(trial, seen, changed)

    def _compiler(self, trial: Trial, seen: Seen, changed: Mapping[str, Source]) -> None:
        """What the compiler itself says of new conditions that never change."""
        told = {finding.place for finding in seen.findings}
        for warning in trial.loaded(trial.candidate).warnings:
            file, _, rest = warning.partition(":")
            number, _, text = rest.partition(":")
            line = int(number) if number.isdecimal() else 0
            for source in changed.values():
                if source.file == file and source.line <= line <= source.line + source.text.count("\n"):
                    if text.strip() in _CONSTANT and source.place not in told:
                        seen.fail(f"the compiler says of the condition: {text.strip()}: it is the same for whatever is"
                                  " looked at", file=file, line=line, rule=source.name)  # fmt: skip
                    break
