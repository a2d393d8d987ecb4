"""The gate's report as plain values, for scripts and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tidegate import __version__
from tidegate.core.errors import TidegateError
from tidegate.core.scouts import Pair, say_pair
from tidegate.gate.matrix import pairs_covered
from tidegate.gate.pipeline import passed
from tidegate.gate.port import Check, Finding, Result
from tidegate.gate.trial import Trial
from tidegate.trust.statement import rfc3339

MOST_PAIRS = 200


def report(trial: Trial, checks: Sequence[Check], results: Sequence[Result], took_s: float) -> dict[str, Any]:
    """Give all that the gate saw: {release, passed, checks: [...], coverage, notes, ...}; times in seconds."""
    candidate = trial.candidate
    questions = {check.name: check.question for check in checks}
    return {
        "release": {
            "digest": candidate.digest,
            "component": candidate.manifest.component,
            "version": candidate.manifest.version,
            "seq": candidate.manifest.seq,
            "driver": candidate.manifest.driver,
        },
        "baselines": [{"version": e.manifest.version, "digest": e.digest} for e in trial.baselines],
        "passed": passed(results),
        "refused_by": [result.check for result in results if result.result == "FAILED"],
        "took_s": round(took_s, 2),
        "gate": __version__,
        "interpreters": interpreters_of(trial),
        "checks": [
            {
                **asdict(result),
                "reused_from": rfc3339(result.seen_s) if result.reused else None,
                "result": result.result,
                "question": questions[result.check],
                "findings": [{**asdict(finding), "place": finding.place} for finding in result.findings],
            }
            for result in results
        ],
        "coverage": coverage(trial),
    }


def interpreters_of(trial: Trial) -> list[dict[str, str]]:
    """Name the interpreters, with the versions that are to be had."""
    found: list[dict[str, str]] = []
    for interpreter in trial.interpreters:
        try:
            version = interpreter.version()
        except TidegateError as error:
            version = f"not to be had: {error}"
        found.append({"kind": interpreter.kind, "version": version, "name": interpreter.name if version else ""})
    return found


def coverage(trial: Trial) -> dict[str, Any] | None:
    """Say which pairs of label values of the fleet the tried interpreter versions cover; None without an inventory."""
    if not trial.inventory:
        return None
    versions = [each["version"] for each in interpreters_of(trial)]
    settings = trial.settings
    covered, not_covered = pairs_covered(trial.inventory, settings.labels, settings.version_fact, versions)
    return {
        "labels": list(settings.labels),
        "versions": versions,
        "pairs": len(covered) + len(not_covered),
        "covered": len(covered),
        "covered_pairs": _listed(covered),
        "not_covered": _listed(not_covered),
    }


def _listed(pairs: Mapping[Pair, int]) -> list[dict[str, Any]]:
    return [{"pair": say_pair(pair), "devices": count} for pair, count in sorted(pairs.items())[:MOST_PAIRS]]


def say_finding(check: str, finding: Finding) -> str:
    """Write a finding in one line: where, then what, then on which sample."""
    where = f"{finding.place}: " if finding.place else ""
    sample = f" (on {finding.sample})" if finding.sample and finding.sample not in finding.sentence else ""
    return f"{check}: {where}{finding.sentence}{sample}"


def refusal(results: Sequence[Result]) -> list[str]:
    """Give the lines that say why a release was refused, the check first."""
    return [
        say_finding(result.check, finding)
        for result in results
        for finding in result.findings
        if finding.grave and not finding.note
    ]
