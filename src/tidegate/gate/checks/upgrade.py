"""Check `upgrade`: it takes over from each release that the fleet runs, and that one comes back when told to."""

from __future__ import annotations

from typing import Any

from tidegate.gate.checks.lifecycle import driver_inputs
from tidegate.gate.driving import PROBE_S, Step, compiled_of, drive, editions_of, judge
from tidegate.gate.port import Say, Seen
from tidegate.gate.trial import Trial


class UpgradeCheck:
    """From each baseline to the candidate, and back."""

    name = "upgrade"
    question = "Does it take over from what devices run, and does the rollback bring that back?"
    order = 85
    needs = ("load", "lifecycle")
    beside = ("lifecycle",)
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """The release, all baselines and the driver's settings."""
        return [self.name, trial.candidate.digest, [e.digest for e in trial.baselines], driver_inputs(trial)]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Lead the driver there and back, for each baseline in a device of its own."""
        if not trial.baselines:
            seen.skipped = "there is no baseline: name what devices run (--baseline DIRECTORY)"
            return
        new = trial.candidate.digest
        for number, edition in enumerate(trial.baselines):
            old = edition.digest
            say(number / len(trial.baselines), edition.title)
            if not trial.candidate.manifest.may_replace(old):
                seen.note(f"its manifest does not let it replace {edition.title}; it was not tried")
                continue
            steps = [
                Step("kept"),
                Step("point", old),
                Step("activate"),
                Step("probe", "0"),
                Step("point", new),
                Step("activate"),
                Step("probe", PROBE_S),
                Step("point", old),
                Step("activate"),
                Step("probe", PROBE_S),
                Step("deactivate"),
                Step("point", ""),
                Step("quiet"),
                Step("left"),
            ]
            words = {
                2: f"activation of {edition.title} itself",
                3: f"health of {edition.title} itself",
                5: f"activation over {edition.title}",
                6: f"health after {edition.title}",
                8: f"rollback to {edition.title}",
                9: f"health of {edition.title} after the rollback",
                10: f"deactivation of {edition.title} after the rollback",
                12: f"the rollback to {edition.title}",
                13: f"the rollback to {edition.title}",
            }
            compiled = compiled_of(trial, edition, trial.candidate)
            came = drive(trial, editions_of(edition, trial.candidate), steps, compiled=compiled)
            judge(came, steps, seen, words, trial.candidate)
        seen.figures["baselines"] = [edition.title for edition in trial.baselines]
