"""in-toto statements, version 1: what somebody says of a release, by its digest; and the predicates used here.

Sources: in-toto Attestation Framework, Statement v1; its `test-result/v0.1`; SLSA Verification Summary Attestation v1.
Both let readers meet fields that they do not know; what Tidegate adds stands under `tidegate`.
"""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from securesystemslib.signer import Signer

from tidegate.core.errors import BadInput
from tidegate.core.wire import canonical, parse_json
from tidegate.trust.dsse import IN_TOTO, Envelope, sign_envelope

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
VSA = "https://slsa.dev/verification_summary/v1"
HEALTH = "urn:tidegate:predicate:product-health:v1"
REVIEW = "urn:tidegate:predicate:release-review:v1"
SHORT = {"test-result": TEST_RESULT, "vsa": VSA, "product-health": HEALTH, "review": REVIEW}
PASSED, WARNED, FAILED = "PASSED", "WARNED", "FAILED"
VERIFIER = "urn:tidegate:gate"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a statement is about."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, as it was signed. `predicate` is plain JSON."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Json = field(default_factory=lambda: {})

    def payload(self) -> bytes:
        """Write what is signed."""
        subjects = [{"name": each.name, "digest": {"sha256": each.sha256}} for each in self.subjects]
        return canonical(
            {
                "_type": STATEMENT,
                "subject": subjects,
                "predicateType": self.predicate_type,
                "predicate": self.predicate,
            }
        )

    def signed(self, signers: Iterable[Signer]) -> Envelope:
        """Put it into a signed envelope."""
        return sign_envelope(self.payload(), signers)

    @property
    def short(self) -> str:
        """The predicate's short name, as policies write it; its whole type if it has none."""
        return next((name for name, uri in SHORT.items() if uri == self.predicate_type), self.predicate_type)

    @property
    def result(self) -> str:
        """PASSED, WARNED or FAILED; what says neither has failed."""
        name = {TEST_RESULT: "result", VSA: "verificationResult", HEALTH: "verdict", REVIEW: "verdict"}
        said = self.predicate.get(name.get(self.predicate_type, "result"))
        return said if said in (PASSED, WARNED) else FAILED

    @property
    def at_s(self) -> float:
        """When it was made, unix seconds; 0 if it does not say, which no demand for freshness takes."""
        own = self.predicate.get("tidegate")
        said = {
            VSA: self.predicate.get("timeVerified"),
            TEST_RESULT: cast("Json", own).get("finishedOn") if isinstance(own, dict) else None,
        }.get(self.predicate_type, self.predicate.get("at"))
        try:
            return datetime.fromisoformat(str(said)).timestamp() if said else 0.0
        except (ValueError, OverflowError, OSError):
            return 0.0

    @property
    def checks(self) -> frozenset[str]:
        """Names of the gate's checks that it says have passed."""
        if self.predicate_type == VSA:
            levels = self.predicate.get("verifiedLevels")
            found = cast("list[Any]", levels) if isinstance(levels, list) else []
            return frozenset(str(level).removeprefix(LEVEL).lower() for level in found if str(level).startswith(LEVEL))
        own = self.predicate.get("tidegate")
        name = cast("Json", own).get("check") if isinstance(own, dict) else None
        return frozenset([str(name)]) if name and self.result != FAILED else frozenset()


LEVEL = "TIDEGATE_GATE_"


def parse_statement(envelope: Envelope, what: str = "the attestation") -> Statement:
    """Read an envelope's statement; whose it is has to be asked of the envelope.

    Raises:
        BadInput: if it is no in-toto statement v1 about things that are named by SHA-256.
    """
    if envelope.payload_type != IN_TOTO:
        raise BadInput(f"{what} carries {envelope.payload_type!r}, not an in-toto statement")
    try:
        value = parse_json(envelope.payload)
        if value["_type"] != STATEMENT:
            raise BadInput(f"{what} is of type {value['_type']!r}; {STATEMENT} is read here")
        subjects = tuple(Subject(str(each.get("name", "")), each["digest"]["sha256"]) for each in value["subject"])
        kind, predicate = value["predicateType"], value.get("predicate", {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadInput(f"{what} is no in-toto statement") from None
    if not subjects or not all(isinstance(each.sha256, str) and _SHA256.match(each.sha256) for each in subjects):
        raise BadInput(f"{what} names no subject by SHA-256")
    if not isinstance(kind, str) or not isinstance(predicate, dict):
        raise BadInput(f"{what} has no predicate")
    return Statement(subjects, kind, cast("Json", predicate))


def rfc3339(at_s: float) -> str:
    """Write a moment as in-toto does."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_result(
    subject: Subject,
    check: str,
    result: str,
    *,
    started_s: float,
    finished_s: float,
    configuration: Iterable[Json],
    findings: Iterable[Json] = (),
    figures: Json | None = None,
) -> Statement:
    """Make a `test-result/v0.1` of one check of the gate."""
    lists = {PASSED: "passedTests", WARNED: "warnedTests", FAILED: "failedTests"}
    predicate: Json = {"result": result, "configuration": list(configuration)}
    for name in lists.values():
        predicate[name] = [check] if lists[result] == name else []
    predicate["tidegate"] = {
        "check": check,
        "startedOn": rfc3339(started_s),
        "finishedOn": rfc3339(finished_s),
        "findings": list(findings),
        "figures": figures or {},
    }
    return Statement((subject,), TEST_RESULT, predicate)


def summary(
    subject: Subject,
    passed: bool,
    checks: Iterable[str],
    *,
    at_s: float,
    policy: Json,
    inputs: Iterable[str],
    version: str,
) -> Statement:
    """Make the gate's verification summary (SLSA VSA v1). `inputs` are digests of the envelopes it rests on."""
    predicate: Json = {
        "verifier": {"id": VERIFIER, "version": {"tidegate": version}},
        "timeVerified": rfc3339(at_s),
        "resourceUri": f"urn:tidegate:release:{subject.sha256}",
        "policy": policy,
        "inputAttestations": [{"digest": {"sha256": each}} for each in inputs],
        "verificationResult": PASSED if passed else FAILED,
        "verifiedLevels": [f"{LEVEL}{name.upper()}" for name in checks] if passed else [FAILED],
        "slsaVersion": "1.0",
    }
    return Statement((subject,), VSA, predicate)


def review(subject: Subject, *, reviewer: str, approves: bool, notes_sha256: str, note: str, at_s: float) -> Statement:
    """Make one person's word on a release: who has read which notes, and whether it may go."""
    predicate: Json = {
        "reviewer": reviewer,
        "verdict": PASSED if approves else FAILED,
        "notes": {"digest": {"sha256": notes_sha256}},
        "note": note,
        "at": rfc3339(at_s),
    }
    return Statement((subject,), REVIEW, predicate)


def product_health(subject: Subject, rollout: Json, *, at_s: float) -> Statement:
    """Make the account of how a release did in the field, from a rollout as the operators' HTTP shows it.

    Counts are of devices: `sizes` what was at stake, `counts` what came of it, `window` from when to when.
    """
    counts = {name: rollout[name] for name in ("exposed", "confirmed", "reverted", "silent", "never_exposed")}
    ended = rollout.get("ended_ms")
    closed = rollout["phase"] == "closed"
    predicate: Json = {
        "rollout": rollout["rollout"],
        "component": rollout["component"],
        "verdict": PASSED if closed else FAILED if rollout["phase"] == "halted" else "OPEN",
        "sentence": rollout["sentence"],
        "counts": counts,
        "sizes": {"devices": rollout["devices"], "max_harmed": rollout["budget"]["max_harmed"]},
        "window": {
            "startedOn": rfc3339(rollout["started_ms"] / 1000),
            "finishedOn": rfc3339(ended / 1000) if ended else None,
        },
        "at": rfc3339(at_s),
    }
    return Statement((subject,), HEALTH, predicate)
