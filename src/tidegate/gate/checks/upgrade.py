"""Check `upgrade`: it takes over from each release that the fleet runs, and that one comes back when told to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate.gate.checks.lifecycle import driver_inputs
from tidegate.gate.driving import PROBE_S, Came, Step, compiled_of, drive, editions_of, judge
from tidegate.gate.port import Say, Seen
from tidegate.gate.trial import Edition, Trial

LEAST_MB = 32.0
"""Growth below this is noise."""
_OLD, _NEW = 3, 6
"""The steps after which the baseline, and then the candidate, has been active for a while."""


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
        return [
            self.name,
            trial.candidate.digest,
            [e.digest for e in trial.baselines],
            driver_inputs(trial),
            trial.settings.resources.memory,
        ]

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
            if judge(trial, came, steps, seen, words):
                _memory(trial, seen, edition, came)
        seen.figures["baselines"] = [edition.title for edition in trial.baselines]


def _memory(trial: Trial, seen: Seen, edition: Edition, came: Sequence[Came]) -> None:
    """Compare what activation and a soak hold in memory with what they held of the baseline in the same device."""
    old, new = came[_OLD].mb, came[_NEW].mb
    seen.figures[f"MB held when active, {edition.title} and this"] = [old, new]
    limit = trial.settings.resources.memory
    if new > limit * old and new - old > LEAST_MB:
        words = trial.candidate.manifest.activate
        program = next((word.removeprefix("{current}/") for word in words if word.startswith("{current}/")), "")
        seen.fail(
            f"activation and what it starts hold {new:,.0f} MB of memory, {edition.title} held {old:,.0f} MB;"
            f" {limit:g} times that is allowed ([resources] memory)",
            file=program,
            line=1 if program else 0,
        )
