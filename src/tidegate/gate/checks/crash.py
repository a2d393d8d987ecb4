"""Check `crash`: on inputs that are hard on it the interpreter neither dies nor hangs."""

from __future__ import annotations

from typing import Any

from tidegate.gate.port import Say, Seen
from tidegate.gate.scanning import suspects, sweep
from tidegate.gate.trial import Trial


class CrashCheck:
    """Empty, constant, broken and endless inputs, and such as are full of the content's own words."""

    name = "crash"
    question = "Does the interpreter survive unpleasant inputs with this content?"
    order = 40
    needs = ("load",)
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """The content, the interpreter and the inputs."""
        return [self.name, trial.candidate.digest, trial.interpreter_inputs(), trial.unpleasant.digest]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Scan them, all with all of the content: what each of its files bears alone, they may not bear together."""
        found = sweep(trial, trial.candidate, [trial.unpleasant], say, "unpleasant inputs", whole=True)
        seen.figures |= {"inputs": found.files, "bytes": found.bytes}
        for (_, sentence), place in zip(found.trouble, suspects(trial, found.trouble, [trial.unpleasant]), strict=True):
            seen.fail(sentence + place.pop("more", ""), **place)
