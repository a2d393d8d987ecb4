"""What the gate saw, as in-toto statements: one for each check that looked, and a summary that names them."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from securesystemslib.signer import Signer

from tidegate import __version__
from tidegate.core.errors import TidegateError
from tidegate.core.wire import encode
from tidegate.gate.cache import code_digest
from tidegate.gate.pipeline import passed
from tidegate.gate.port import PASSED, SKIPPED, WARNED, Result
from tidegate.gate.trial import Trial
from tidegate.trust.dsse import Envelope
from tidegate.trust.statement import Subject, check_result, rfc3339, summary

MOST_SIGNED = 20
SUMMARY = "summary"


def attest(trial: Trial, results: Sequence[Result], signers: Sequence[Signer]) -> tuple[list[Envelope], list[str]]:
    """Sign one attestation per check that looked, and the summary. Gives the envelopes and what to call their files."""
    candidate = trial.candidate
    subject = Subject(candidate.title, candidate.digest)
    suite = _configuration(trial)
    envelopes: list[Envelope] = []
    names: list[str] = []
    for result in results:
        if result.result == SKIPPED:
            continue
        findings = [{k: v for k, v in asdict(each).items() if v} for each in result.findings[:MOST_SIGNED]]
        statement = check_result(
            subject,
            result.check,
            result.result,
            started_s=result.started_s,
            finished_s=result.started_s + (0 if result.reused else result.took_s),
            configuration=suite,
            findings=findings,
            figures={**result.figures, **({"reused from": rfc3339(result.seen_s)} if result.reused else {})},
        )
        envelopes.append(statement.signed(signers))
        names.append(result.check)
    good = [result.check for result in results if result.result in (PASSED, WARNED)]
    policy: dict[str, Any] = {"uri": "urn:tidegate:gate:settings", "digest": {"sha256": _settings_digest(trial)}}
    made = summary(
        subject,
        passed(results),
        good,
        at_s=time.time(),
        policy=policy,
        inputs=[envelope.digest for envelope in envelopes],
        version=__version__,
    )
    return [*envelopes, made.signed(signers)], [*names, SUMMARY]


def _settings_digest(trial: Trial) -> str:
    return hashlib.sha256(encode(trial.settings)).hexdigest()


def _configuration(trial: Trial) -> list[dict[str, Any]]:
    """Name what was tried in and on: resource descriptors, as the predicate wants them."""
    found: list[dict[str, Any]] = [
        {"name": "tidegate gate", "digest": {"sha256": code_digest()}, "annotations": {"version": __version__}},
        {"name": "settings", "digest": {"sha256": _settings_digest(trial)}},
    ]
    for interpreter in trial.interpreters:
        try:
            found.append({"name": interpreter.name, "annotations": {"version": interpreter.version()}})
        except TidegateError:
            continue
    found += [{"name": f"baseline {e.title}", "digest": {"sha256": e.digest}} for e in trial.baselines]
    for corpus in trial.benign_corpora:
        about = {"files": len(corpus.files), "bytes": corpus.size, "fingerprint": corpus.digest}
        found.append({"name": corpus.name, "annotations": about})
    return found
