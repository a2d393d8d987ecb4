"""Check `lifecycle`: a device can install it, finds it healthy, goes through the sham, and gets rid of it again."""

from __future__ import annotations

from typing import Any

from tidegate.core.wire import plain
from tidegate.gate.checks.staging import OWN_PROBES
from tidegate.gate.corpus import directory_corpus, tree_marks
from tidegate.gate.driving import PROBE_S, Step, compiled_of, drive, editions_of, judge
from tidegate.gate.port import Say, Seen
from tidegate.gate.trial import Trial


def driver_inputs(trial: Trial) -> list[Any]:
    """What the driver's behaviour depends on, besides the content."""
    device = trial.settings.device
    files = directory_corpus("device", (trial.base / device).resolve(), "/device").digest if device else ""
    own = trial.settings
    read = [tree_marks((trial.base / name).resolve()) for name in own.read]
    return [plain(own.driver), list(own.read), read, files, plain(own.limits), trial.interpreter_inputs()]


def _must_notice(trial: Trial) -> bool:
    """Say whether the manifest's own probes are what tells that the component runs."""
    manifest, wanted = trial.candidate.manifest, trial.settings.staging.health_must_notice
    return wanted and manifest.driver not in OWN_PROBES and bool(manifest.activate and manifest.deactivate)


class LifecycleCheck:
    """The driver itself, on a device that had nothing."""

    name = "lifecycle"
    question = "Can a device install it, find it healthy, and take it off again?"
    order = 80
    needs = ("load",)
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """The release and the driver's settings."""
        return [self.name, trial.candidate.digest, driver_inputs(trial), plain(trial.settings.staging)]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Lead the driver through a first install and back."""
        digest = trial.candidate.digest
        compiled = compiled_of(trial, trial.candidate)
        steps = [
            # What there is compiled was compiled as the driver's check does it, within its limits.
            Step("look") if compiled else Step("check", digest),
            Step("point", digest),
            Step("ready"),
            Step("activate"),
            Step("probe", PROBE_S),
            Step("kept"),
            Step("sham"),
            Step("probe", "0"),
            Step("outside"),
            Step("deactivate"),
            Step("unwell" if _must_notice(trial) else "look"),
            Step("point", ""),
            Step("quiet"),
            Step("left"),
        ]
        words = {
            0: "the driver's check",
            2: "readiness with the driver's settings",
            3: "activation",
            4: "health through the soak",
            6: "the sham (a restart that changes nothing)",
            7: "health after the sham",
            9: "deactivation",
            10: "health after that",
            12: "getting rid of it",
            13: "getting rid of it",
        }
        came = drive(trial, editions_of(trial.candidate), steps, compiled=compiled)
        judge(trial, came, steps, seen, words)
        written = next((each.said for each in came if each.step.what == "outside"), "")
        if written:
            seen.warn(f"activation writes outside the component's own directory, where no rollback looks: {written}")
        health = next((each.said for each in came if each.step.what == "probe"), "")
        seen.figures |= {"steps": len(came), "health": health[:300]}
        say(1.0, "")
