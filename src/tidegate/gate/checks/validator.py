"""Check `validator`: the vendor's own validator is tested itself, on content that is known to be broken (RCA-4)."""

from __future__ import annotations

from typing import Any

from tidegate.core.wire import plain
from tidegate.gate.interpreters import PAYLOAD
from tidegate.gate.jobs import Job
from tidegate.gate.port import Say, Seen
from tidegate.gate.trial import Trial

MOST_VARIANTS = 25
MOST_SHOWN = 5


class ValidatorCheck:
    """A validator that passes what the interpreter refuses is worse than none."""

    name = "validator"
    question = "Does the vendor's own validator refuse what is broken?"
    order = 75
    needs = ("load",)
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """Nothing where there is a validator: its own files are not known."""
        return None if trial.settings.validator else [self.name, plain(trial.settings.validator)]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Let it judge the candidate, and variants that the interpreter refuses."""
        settings = trial.settings.validator
        if settings is None:
            seen.skipped = "the settings name no validator of the vendor's"
            return
        said = self._ask(trial, trial.candidate.content)
        if said is not None:
            seen.fail(f"the validator refuses the release itself: {said}")
        variants, attempted = trial.damaged
        broken = [variant for variant in variants if not attempted[variant.name].ok][:MOST_VARIANTS]
        passed = 0
        for number, variant in enumerate(broken):
            say(number / max(len(broken), 1), "damaged content in the validator")
            if self._ask(trial, trial.damaged_place / variant.name) is None:
                passed += 1
                if passed <= MOST_SHOWN:
                    seen.fail(
                        f"the validator passes content with damage ({variant.kind}) that the interpreter does not take:"
                        f" {attempted[variant.name].sentence}",
                        file=variant.file,
                        line=variant.line,
                    )
        seen.figures |= {"broken variants": len(broken), "passed by the validator": passed}

    def _ask(self, trial: Trial, content: Any) -> str | None:
        """Give why the validator refuses, or None if it passes."""
        settings = trial.settings.validator
        assert settings is not None
        words = tuple(word.replace("{payload}", PAYLOAD) for word in settings.command)
        read = [((trial.base / name).resolve(), str((trial.base / name).resolve())) for name in settings.read]
        ran = trial.runner.run(Job(words, (*read, (content, PAYLOAD)), limits=trial.runner.limits))
        return None if ran.ok else ran.last_line or ran.sentence
