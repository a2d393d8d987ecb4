"""Reading, checking and signing single TUF metadata files; the errors are Tidegate's."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from tidegate.core.errors import BadInput, NotFound, Untrusted
from tidegate.trust import layout
from tidegate.trust.durable import read_bytes
from tidegate.trust.votes import check_votes

Kind = TypeVar("Kind", Root, Snapshot, Targets, Timestamp)
_VERSIONED = re.compile(r"(\d+)\.(.+)\.json\Z")


def moment(now: int, lifetime_s: int = 0) -> datetime:
    """Give the date `lifetime_s` seconds after `now` (unix seconds), as TUF wants it."""
    return datetime.fromtimestamp(now + lifetime_s, UTC)


def parse(kind: type[Kind], data: bytes, what: str) -> Metadata[Kind]:
    """Read metadata of one kind; nothing is verified yet.

    Raises:
        BadInput: if it is none, of another kind, or longer than METADATA_LIMIT.
    """
    if len(data) > layout.METADATA_LIMIT:
        raise BadInput(f"{what} has {len(data)} bytes; at most {layout.METADATA_LIMIT} are read")
    try:
        found = Metadata[Kind].from_bytes(data)
    except DeserializationError as error:
        raise BadInput(f"{what} is no TUF metadata: {error.__cause__ or error}") from None
    if not isinstance(found.signed, kind):
        raise BadInput(f"{what} is metadata of another kind; {kind.__name__} is needed")
    return found


def verify(delegator: Root | Targets, role: str, found: Metadata[Kind], what: str) -> None:
    """Check that enough of the right keys signed.

    Raises:
        Untrusted: naming how many signatures are valid and how many are needed; or as `check_votes`.
    """
    try:
        result = delegator.get_verification_result(role, found.signed_bytes, found.signatures)
    except ValueError as error:
        raise NotFound(f"{what}: {error}") from None
    check_votes(delegator, role)
    if not result:
        raise Untrusted(
            f"{what} has {len(result.signed)} valid signatures of the keys of role {role}, "
            f"{result.threshold} are needed; have it signed by more key holders"
        )


def sign(found: Metadata[Kind], signers: Iterable[Signer]) -> bytes:
    """Sign with every key, beside the signatures that are there, and give the file."""
    for signer in signers:
        found.sign(signer, append=True)
    return found.to_bytes()


def latest_versions(repo: Path) -> dict[str, int]:
    """Give the highest version of each role that stands in the repository; `timestamp` has no version in its name."""
    latest: dict[str, int] = {}
    for path in layout.metadata_dir(repo).iterdir():
        if found := _VERSIONED.match(path.name):
            latest[found[2]] = max(int(found[1]), latest.get(found[2], 0))
    return latest


def versioned(repo: Path, role: str, version: int) -> Path:
    """Where one version of a role lies."""
    return layout.metadata_dir(repo) / f"{version}.{role}.json"


def latest_bytes(repo: Path, role: str) -> bytes:
    """Give the newest file of a role.

    Raises:
        NotFound: if the repository has no such role.
    """
    if not layout.metadata_dir(repo).is_dir():
        raise NotFound(f"there is no repository at {repo}; bring it back from a backup, or begin with `tidegate init`")
    version = latest_versions(repo).get(role)
    if version is None:
        raise NotFound(f"the repository at {repo} has no role {role}")
    return read_bytes(versioned(repo, role, version), f"role {role}")


def current_root(repo: Path) -> bytes:
    """Give the newest root metadata, which a new device gets as its anchor."""
    return latest_bytes(repo, layout.ROOT)


def root_digest(root: bytes) -> str:
    """Give the digest by which an enrolment token pins the root: SHA-256 of the file, in hexadecimal."""
    return hashlib.sha256(root).hexdigest()


def root_by_digest(repo: Path, digest: str) -> bytes:
    """Give the root that a token pins, also one that has been followed by newer ones.

    Raises:
        NotFound: if this repository never had it: the token belongs to another server.
    """
    for path in layout.metadata_dir(repo).glob("*.root.json"):
        data = path.read_bytes()
        if root_digest(data) == digest:
            return data
    raise NotFound("this repository never had the root that the token pins; the token belongs to another server")


def target(path: str, data: bytes, custom: object = None) -> TargetFile:
    """Describe a target file by its SHA-256 and length, with custom metadata where given."""
    extra = {} if custom is None else {"custom": {layout.CUSTOM: custom}}
    return TargetFile(len(data), {"sha256": hashlib.sha256(data).hexdigest()}, path, extra)
