"""Check `idempotence`: what a power cut makes a device do twice comes to the same as once."""

from __future__ import annotations

from typing import Any

from tidegate.gate.checks.lifecycle import driver_inputs
from tidegate.gate.driving import Step, compiled_of, drive, editions_of, judge
from tidegate.gate.port import Say, Seen
from tidegate.gate.trial import Trial
from tidegate.trust.payload import pack_payload


class IdempotenceCheck:
    """Each step twice."""

    name = "idempotence"
    question = "Does doing it twice come to the same as once?"
    order = 90
    needs = ("load",)
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """The release and the driver's settings."""
        return [self.name, trial.candidate.digest, driver_inputs(trial)]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Pack it again, and activate it twice."""
        if pack_payload(trial.candidate.content) != trial.candidate.archive.read_bytes():
            seen.warn("packing its content again gives another archive: it was not made by `tidegate release create`")
        say(0.2, "activation, twice")
        digest = trial.candidate.digest
        steps = [
            Step("kept"),
            Step("point", digest),
            Step("activate"),
            Step("look"),
            Step("point", digest),
            Step("activate"),
            Step("same"),
            Step("probe", "0"),
            Step("deactivate"),
            Step("deactivate"),
            Step("activate"),
            Step("probe", "0"),
        ]
        words = {
            2: "activation",
            5: "a second activation",
            6: "a second activation",
            7: "health after a second activation",
            8: "deactivation",
            9: "a second deactivation",
            10: "activation after that",
            11: "health after that",
        }
        compiled = compiled_of(trial, trial.candidate)
        came = drive(trial, editions_of(trial.candidate), steps, compiled=compiled)
        judge(trial, came, steps, seen, words)
