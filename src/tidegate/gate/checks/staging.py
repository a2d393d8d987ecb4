"""Check `staging`: a rollout can notice that something is wrong, and it cannot go to everyone at once (RCA-6)."""

from __future__ import annotations

from typing import Any

from tidegate.core.assign import SHARE_ONE
from tidegate.core.wire import plain
from tidegate.gate.port import Say, Seen
from tidegate.gate.trial import Trial
from tidegate.trust.release import signed_terms

OWN_PROBES = ("yara", "clamav", "self")
"""Drivers that look at health by themselves."""


class StagingCheck:
    """Soak, probes, and the speed limit if it is signed already."""

    name = "staging"
    question = "Can a rollout see that something is wrong before everyone has it?"
    order = 95
    needs: tuple[str, ...] = ()
    alone = False

    def inputs(self, trial: Trial) -> Any:
        """The manifest and the signed list."""
        signed = trial.candidate.signed
        return None if signed else [self.name, trial.candidate.digest, plain(trial.settings.staging)]

    def run(self, trial: Trial, seen: Seen, say: Say) -> None:
        """Look at what the manifest and the terms say."""
        manifest, wanted = trial.candidate.manifest, trial.settings.staging
        health = manifest.health
        seen.figures |= {"soak seconds": health.soak_s, "probes": len(health.probes)}
        if health.soak_s < wanted.least_soak_s:
            seen.fail(
                f"devices confirm after a soak of {health.soak_s} s; at least {wanted.least_soak_s} s are wanted, or a"
                " fault shows only when everyone has it (--soak-s)"
            )
        if not health.probes and manifest.driver not in OWN_PROBES:
            seen.warn(f"no probe looks at health, and the driver {manifest.driver} has none of its own (--probe)")
        if trial.candidate.signed is None:
            seen.note("its speed limit is not signed yet, and was not looked at")
            return
        terms = signed_terms(trial.candidate.signed.read_bytes(), trial.candidate.digest)
        if terms is None:
            seen.fail("its signed list of releases does not hold it; sign it anew")
            return
        steps = terms.speed.steps
        seen.figures["speed limit"] = [[age_s, share / SHARE_ONE] for age_s, share in steps]
        if len(steps) < wanted.least_steps or steps[0][1] >= SHARE_ONE:
            seen.fail(
                f"its signed speed limit lets {steps[0][1] / SHARE_ONE:.0%} of the fleet have it at once, in"
                f" {len(steps)} steps; at least {wanted.least_steps} are wanted"
            )
