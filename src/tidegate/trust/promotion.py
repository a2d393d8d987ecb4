"""Promotions: what lifts one release above the ceiling that was signed in it, under a key of its own.

The speed limit's steps stay as they were: a promotion opens what time alone must not open, and never sooner than time.
"""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from securesystemslib.signer import Signer
from tuf.api.metadata import TargetFile, Targets

from tidegate.core.assign import SHARE_ONE
from tidegate.core.errors import BadInput, Refused, Untrusted
from tidegate.core.model import ReleaseTerms, check_digest
from tidegate.core.speed import promoted
from tidegate.core.wire import encode, plain, read
from tidegate.trust import layout
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.metadata import latest_bytes, moment, parse, sign, target, verify, versioned

_WHAT = "the signed list of promotions"


@dataclass(frozen=True, slots=True)
class Promotion:
    """One release's new ceiling: `digest` is the SHA-256 of its manifest, the share is in parts of 2**32."""

    component: str
    seq: int
    digest: str
    ceiling_2p32: int
    signed: int
    v: int = 1

    def __post_init__(self) -> None:
        check_digest("promotion.digest", self.digest)
        if self.v != 1:
            raise ValueError(f"promotion version {self.v} is not known; update the agent")
        if not 0 < self.ceiling_2p32 <= SHARE_ONE:
            raise ValueError("ceiling_2p32 must be 1 to 2**32")


def sign_promotion(promotions: bytes, promotion: Promotion, signers: Iterable[Signer], now: int) -> bytes:
    """Put a promotion on the list and sign the next version of it: the offline step, with the promotions key.

    Raises:
        Refused: if the release has this ceiling or a higher one already; a promotion is taken back with an emergency
            stop, or by withdrawing the release.
    """
    found = parse(Targets, promotions, "the list of promotions")
    path = layout.promotion_path(promotion.component, promotion.seq)
    before = found.signed.targets.get(path)
    if before is not None and read_promotion(before).ceiling_2p32 >= promotion.ceiling_2p32:
        raise Refused(f"{path} has been promoted as far already; promote it further, or not at all")
    found.signed.targets[path] = target(path, encode(promotion), plain(promotion))
    found.signed.version += 1
    found.signed.expires = moment(now, layout.TARGETS_LIFETIME_S)
    found.signatures.clear()
    return sign(found, signers)


def accept_promotion(repo: Path, promotions: bytes, promotion: Promotion, now: int) -> None:
    """Take in a list of promotions that was signed offline: the server's step, safe to repeat.

    Raises:
        Untrusted: if the promotions key did not sign it, it is not the next version, has expired, or does anything but
            raise this one release. Nothing has been written.
    """
    standing = latest_bytes(repo, layout.PROMOTIONS)
    found = parse(Targets, promotions, _WHAT)
    trunk = parse(Targets, latest_bytes(repo, layout.TARGETS), "the targets metadata").signed
    verify(trunk, layout.PROMOTIONS, found, _WHAT)
    path = layout.promotion_path(promotion.component, promotion.seq)
    described = found.signed.targets.get(path)
    if described is None or read_promotion(described) != promotion:
        raise Untrusted(f"{_WHAT} does not hold this promotion of {path}")
    if promotions == standing:
        return
    before = parse(Targets, standing, "the list of promotions").signed
    if found.signed.version != before.version + 1:
        raise Untrusted(f"{_WHAT} is version {found.signed.version}, {before.version + 1} is next: sign the newest one")
    if not moment(now) < found.signed.expires <= moment(now, layout.TARGETS_LIFETIME_S + 86_400):
        raise Untrusted(f"{_WHAT} must expire within {layout.TARGETS_LIFETIME_S // 86_400} days; sign it anew")
    others = {name: entry for name, entry in found.signed.targets.items() if name != path}
    if others != {name: entry for name, entry in before.targets.items() if name != path} or found.signed.delegations:
        raise Untrusted(f"{_WHAT} changes more than {path}; promote one release at a time")
    file = layout.targets_dir(repo) / layout.hashed_path(path, described.hashes["sha256"])
    make_directory(file.parent)
    write_durably(file, encode(promotion))
    write_durably(versioned(repo, layout.PROMOTIONS, found.signed.version), promotions)


def read_promotion(described: TargetFile) -> Promotion:
    """Read a promotion out of its target's custom metadata. Raises BadInput."""
    custom = described.custom
    if not isinstance(custom, dict) or layout.CUSTOM not in custom:
        raise BadInput(f"{described.path} carries no promotion; sign it with `tidegate release promote`")
    return read(Promotion, custom[layout.CUSTOM], "promotion")


def lifted(terms: ReleaseTerms, ceiling_2p32: int) -> ReleaseTerms:
    """Give the terms with the ceiling that a promotion allows; a ceiling is never lowered here."""
    return replace(terms, speed=promoted(terms.speed, ceiling_2p32))
