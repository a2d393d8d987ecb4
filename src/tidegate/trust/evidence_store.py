"""Where a control plane keeps attestations: one file each, under the release that they speak of."""

from __future__ import annotations

from pathlib import Path

from tidegate.core.errors import BadInput, Refused
from tidegate.trust.dsse import MOST_ENVELOPE, Envelope, parse_envelope
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.evidence_policy import EvidencePolicy, digest_of, read_policy
from tidegate.trust.statement import Statement, parse_statement

MOST_PER_RELEASE = 500
POLICIES = ("policy.toml", "policy.yaml", "policy.yml")


class EvidenceStore:
    """A directory of attestations. The file is durable before anyone hears of it; the same one twice is once."""

    def __init__(self, directory: Path, policies: Path) -> None:
        """Name the directory, and the one in which the policy file lies."""
        self._directory, self._policies = directory, policies

    def add(self, release: str, data: bytes) -> tuple[Envelope, Statement, bool]:
        """Keep an attestation; give it, what it says, and whether it was news.

        Raises:
            BadInput: if it is none, or speaks of another release.
            Refused: if the release has too many already.
        """
        envelope = parse_envelope(data)
        said = parse_statement(envelope)
        if all(subject.sha256 != release for subject in said.subjects):
            raise BadInput(f"the attestation speaks of {said.subjects[0].sha256[:16]}, not of {release[:16]}")
        place = self._directory / release / f"{envelope.digest}.json"
        if place.exists():
            return envelope, said, False
        make_directory(place.parent, 0o700)
        if sum(1 for _ in place.parent.glob("*.json")) >= MOST_PER_RELEASE:
            raise Refused(f"{release[:16]} has {MOST_PER_RELEASE} attestations already")
        write_durably(place, envelope.data())
        return envelope, said, True

    def of(self, release: str) -> list[Envelope]:
        """Give all attestations of a release; what cannot be read is passed over."""
        found: list[Envelope] = []
        for path in sorted((self._directory / release).glob("*.json")):
            try:
                if path.stat().st_size <= MOST_ENVELOPE:
                    found.append(parse_envelope(path.read_bytes(), path.name))
            except (BadInput, OSError):
                continue
        return found

    def policy(self) -> tuple[EvidencePolicy, str] | None:
        """Read the policy and its digest; None if there is no file.

        Raises:
            BadInput: if it cannot be read, or there are two: nothing may start on a guess.
        """
        there = [path for name in POLICIES if (path := self._policies / name).exists()]
        if not there:
            return None
        if len(there) > 1:
            raise BadInput(f"there are two evidence policies, {there[0].name} and {there[1].name}; keep one")
        data = there[0].read_bytes()
        return read_policy(data, there[0].name), digest_of(data)
