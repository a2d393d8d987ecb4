"""Check `load`: each interpreter version that the fleet runs takes the content (RCA-5)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tidegate.core.errors import TidegateError
from tidegate.core.wire import plain
from tidegate.gate.checks.size import beyond
from tidegate.gate.interpreters import Interpreter, Loaded
from tidegate.gate.matrix import wanted_versions
from tidegate.gate.port import Say, Seen
from tidegate.gate.scanning import HURRY
from tidegate.gate.sources import line_of
from tidegate.gate.tracing import traced
from tidegate.gate.trial import Trial


class LoadCheck:
    """The real interpreters, one after the other."""

    name = "load"
    question = "Does each interpreter version that the fleet runs take it?"
    order = 30
    needs: tuple[str, ...] = ()
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """The payload, every interpreter's version, and the versions that are wanted."""
        try:
            versions = [[each.kind, each.name, each.fingerprint()] for each in trial.interpreters]
        except TidegateError:
            return None
        wanted = sorted(wanted_versions(trial.inventory, trial.settings.version_fact).items())
        own = trial.settings
        return [self.name, trial.candidate.digest, versions, wanted, own.missing_interpreter, plain(own.size)]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Let each take the content."""
        driver = trial.candidate.manifest.driver
        if not trial.interpreters:
            if driver in trial.settings.without_interpreter:
                seen.skipped = f"the settings say that nothing interprets payloads of driver {driver}"
                return
            seen.fail(
                f"no interpreter is known for payloads of driver {driver}: name the program that reads them"
                " ([[interpreter]] in the settings), or list the driver in without_interpreter"
            )
            return
        if too_large := beyond(trial):
            sentence, file = too_large[0]
            seen.fail(f"it was not tried: {sentence}", file=file)
            return
        versions: dict[str, int] = {}
        for number, interpreter in enumerate(trial.interpreters):
            try:
                version = interpreter.version()
                say(number / len(trial.interpreters), interpreter.name)
                first = interpreter is trial.interpreter
                found = trial.loaded(trial.candidate) if first else interpreter.load(trial.candidate.content)
            except TidegateError as error:
                seen.fail(f"{error}; what it would say is not known, the others were asked all the same")
                continue
            versions[version] = found.items
            if first:  # what the others lack or refuse does not keep the other checks from a look in this one
                seen.blocks = not found.ok
            if not found.ok:
                place, more = self._place(trial, interpreter, found)
                seen.fail(f"{interpreter.name} {'died' if found.crashed else 'refuses it'}: {found.sentence}{more}",
                          **place)  # fmt: skip
            elif first:
                seen.figures |= {"items": found.items, "load CPU seconds": round(found.cpu_s, 3)}
                self._warnings(found.warnings, seen)
        seen.figures["versions"] = sorted(versions)
        self._missing(trial, seen, set(versions))

    def _place(self, trial: Trial, interpreter: Interpreter, found: Loaded) -> tuple[dict[str, Any], str]:
        """Give where to look: what the interpreter names, or the change without which it does not say so."""
        if line := found.line or line_of(trial.sources, found.file, ""):
            return {"file": found.file, "line": line}, ""
        bound_s = trial.load_bound_s()
        hurried_s = math.ceil(bound_s / HURRY)

        def same(content: Path) -> bool:
            now = interpreter.load(content, hurried_s)
            return now.crashed if found.crashed else not now.ok and now.sentence == found.sentence

        with trial.tracing:
            place, more = traced(trial, same) if interpreter is trial.interpreter else ({}, "")
        if bound_s and any(word in found.sentence for word in ("SIGXCPU", "did not end")):
            more = f" (it was given {bound_s} s of CPU, {trial.baselines[0].title} needs far less){more}"
        return {"file": found.file, **place}, more

    def _warnings(self, warnings: tuple[str, ...], seen: Seen) -> None:
        seen.figures["compiler warnings"] = len(warnings)
        for warning in warnings[:5]:
            file, _, rest = warning.partition(":")
            line, _, text = rest.partition(":")
            where = {"file": file, "line": int(line)} if line.isdecimal() else {}
            seen.note(f"the compiler warns: {text.strip() or warning}", **where)

    def _missing(self, trial: Trial, seen: Seen, have: set[str]) -> None:
        wanted = wanted_versions(trial.inventory, trial.settings.version_fact)
        for version, devices in sorted(wanted.items()):
            if version not in have:
                say = seen.fail if trial.settings.missing_interpreter == "fail" else seen.warn
                say(
                    f"{devices:,} device{' runs' if devices == 1 else 's run'} version {version}, which is not at hand"
                    " here; name an environment that has it ([[interpreter]] python = ...)"
                )
