"""A release's way into the repository: signed offline, bytes in and bytes out; accepted for its signatures.

No private key passes through the server. What a release carries is in `payload.py` and can be had from here as well.
"""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from securesystemslib.signer import Signer
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata, TargetFile, Targets

from tidegate.core.errors import BadInput, Refused, Untrusted
from tidegate.core.model import Manifest, ReleaseTerms
from tidegate.core.speed import least_share, percent
from tidegate.core.wire import decode, encode, plain, read
from tidegate.core.words import counted
from tidegate.trust import layout
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.metadata import latest_bytes, moment, parse, sign, target, verify, versioned
from tidegate.trust.payload import describe_payload, pack_payload, store_payload, unpack_payload, verify_payload
from tidegate.trust.withdrawal import check_kept, gone_of

__all__ = [
    "Accepted",
    "accept_release",
    "countersign",
    "describe_payload",
    "pack_payload",
    "read_terms",
    "sign_release",
    "store_payload",
    "unpack_payload",
    "verify_payload",
]

_WHAT = "the signed list of releases"


class Accepted(NamedTuple):
    """A release that the repository holds; `digest` is the SHA-256 of its manifest file."""

    manifest: Manifest
    terms: ReleaseTerms
    digest: str


def sign_release(
    releases: bytes,
    manifest: Manifest,
    terms: ReleaseTerms,
    signers: Iterable[Signer],
    now: int,
    *,
    drop: Collection[str] = (),
    lifetime_s: int = 0,
    emergency: bool = False,
) -> bytes:
    """Add a release to its component's list and sign the next version of it: the offline step.

    Args:
        releases: the newest `releases-<component>` metadata; of an urgent release the newest `emergency` metadata.
        manifest: the release; its canonical JSON is the target file.
        terms: order, sequence and speed limit.
        signers: k release keys; or fewer, and `countersign` elsewhere.
        now: unix seconds.
        drop: target paths of earlier releases that are to be no longer available.
        lifetime_s: how long the list counts; 0 for as long as its role's lists usually do.
        emergency: it is urgent: all release holders must sign, and its speed limit may be a faster one.

    Returns:
        The signed metadata, for `accept_release`.

    Raises:
        BadInput: if terms and manifest differ in seq, or `drop` names what is not there.
        Refused: if seq is not higher than that of all releases so far.
    """
    if terms.seq != manifest.seq:
        raise BadInput(f"the manifest has seq {manifest.seq} and the terms have {terms.seq}; they must be the same")
    found = parse(Targets, releases, "the list of releases")
    highest = _highest_seq(found.signed, manifest.component)
    if manifest.seq <= highest:
        raise Refused(f"seq {manifest.seq} is not higher than {highest}, the last of {manifest.component}")
    for path in drop:
        if found.signed.targets.pop(path, None) is None:
            raise BadInput(f"{path} cannot be dropped: it is not in the list of releases")
    path = _path(manifest.component, manifest.seq, emergency)
    found.signed.targets[path] = target(path, encode(manifest), plain(terms))
    found.signed.version += 1
    found.signed.expires = moment(now, lifetime_s or _lifetime_s(emergency))
    found.signatures.clear()
    return sign(found, signers)


def countersign(releases: bytes, signers: Iterable[Signer]) -> bytes:
    """Add signatures to a list that another key holder has signed, on a machine of one's own."""
    return sign(parse(Targets, releases, _WHAT), signers)


def accept_release(
    repo: Path,
    component: str,
    releases: bytes,
    manifest_bytes: bytes,
    now: int,
    *,
    emergency: bool = False,
    write: Callable[[Path, bytes], None] = write_durably,
) -> Accepted:
    """Take in a release that was signed offline: the server's step, safe to repeat.

    Devices see it with the next publication. The manifest is durable before the list that names it.

    Args:
        repo: the repository.
        component: whose release it is.
        releases: from `sign_release`.
        manifest_bytes: the canonical manifest.
        now: unix seconds.
        emergency: it was signed as an urgent one.
        write: how files are put in place.

    Raises:
        NotFound: if there is no such repository or component.
        BadInput: if it cannot be read, or manifest, terms and path do not belong together.
        Untrusted: if it is not signed by enough release keys, is not the next version, changes an earlier release, or
            has expired. Nothing has been written.
    """
    usual = latest_bytes(repo, layout.release_role(component))
    role = layout.EMERGENCY if emergency else layout.release_role(component)
    standing = latest_bytes(repo, role)
    before = parse(Targets, standing, "the list of releases").signed
    found = parse(Targets, releases, _WHAT)
    trunk = parse(Targets, latest_bytes(repo, layout.TARGETS), "the targets metadata").signed
    verify(trunk, role, found, _WHAT)
    manifest = decode(Manifest, manifest_bytes, "the manifest")
    if encode(manifest) != manifest_bytes:
        raise BadInput("the manifest is not in its canonical form; sign what `tidegate release create` wrote")
    if manifest.component != component:
        raise BadInput(f"the manifest is of component {manifest.component}, not {component}")
    path = _path(component, manifest.seq, emergency)
    accepted = _read_release(found.signed, path, manifest, manifest_bytes)
    if releases != standing:
        _check_succession(before, found, emergency, now)
        lists = [parse(Targets, data, _WHAT).signed for data in (usual, latest_bytes(repo, layout.EMERGENCY))]
        highest = max(_highest_seq(each, component) for each in lists)
        if manifest.seq <= highest:
            raise Untrusted(f"seq {manifest.seq} is not higher than {highest}, the last one released")
        file = layout.targets_dir(repo) / layout.hashed_path(path, accepted.digest)
        make_directory(file.parent)
        write(file, manifest_bytes)
        write(versioned(repo, role, found.signed.version), releases)
    return accepted


def continues(signed: bytes, newest: bytes, manifest: Manifest, digest: str) -> bool:
    """Say whether a signed list holds this very release, and is the newest one or the next upon it."""
    found, standing = (parse(Targets, data, _WHAT).signed for data in (signed, newest))
    paths = (_path(manifest.component, manifest.seq, emergency) for emergency in (False, True))
    mine = any(path in found.targets and found.targets[path].hashes.get("sha256") == digest for path in paths)
    return mine and found.version in (standing.version, standing.version + 1)


def signed_terms(signed: bytes, digest: str) -> ReleaseTerms | None:
    """Give the terms under which a signed list holds a release; None if it does not hold it. Raises BadInput."""
    for described in parse(Targets, signed, _WHAT).signed.targets.values():
        if described.hashes.get("sha256") == digest:
            return read_terms(described)
    return None


def describe_list(signed: bytes, digest: str) -> list[str]:
    """Say in sentences what a signed list says of a release besides its content, for whoever is to sign it too."""
    terms = signed_terms(signed, digest)
    if terms is None:
        raise BadInput("the signed list does not hold this release; sign the draft anew")
    found, limit = parse(Targets, signed, _WHAT).signed, terms.speed
    steps = ", ".join(f"{percent(share)} after {seconds} s" for seconds, share in limit.steps)
    listed = counted(len(found.targets), "release")
    lines = [
        f"  the list: version {found.version}, {listed}, lasts until {found.expires:%Y-%m-%d}",
        f"  logged {moment(limit.logged):%Y-%m-%d %H:%M} UTC, last day {moment(limit.not_after):%Y-%m-%d}",
        f"  speed limit: {steps}; ceiling {percent(limit.ceiling_2p32)}; dwell {limit.dwell_s} s",
    ]
    if limit.clock_slack_s:
        lines.append(f"  each step {limit.clock_slack_s} s later, for clocks that differ")
    if limit.least_devices:
        share = percent(least_share(limit))
        fleet = counted(limit.fleet_devices, "device")
        lines.append(f"  from the start {limit.least_devices} of {fleet}, which are {share}")
    return lines


def is_emergency(signed: bytes) -> bool:
    """Say whether a signed list is that of urgent releases: all its paths begin so, and there is one at least."""
    paths = parse(Targets, signed, _WHAT).signed.targets
    return bool(paths) and all(path.startswith(f"{layout.EMERGENCY}/") for path in paths)


def read_terms(described: TargetFile) -> ReleaseTerms:
    """Read the terms out of a release target's custom metadata. Raises BadInput."""
    custom = described.custom
    if not isinstance(custom, dict) or layout.CUSTOM not in custom:
        raise BadInput(f"{described.path} carries no release terms; sign it with `tidegate release sign`")
    return read(ReleaseTerms, custom[layout.CUSTOM], "release terms")


def _path(component: str, seq: int, emergency: bool) -> str:
    return layout.emergency_path(component, seq) if emergency else layout.release_path(component, seq)


def _lifetime_s(emergency: bool) -> int:
    return layout.TARGETS_LIFETIME_S if emergency else layout.RELEASES_LIFETIME_S


def _read_release(found: Targets, path: str, manifest: Manifest, manifest_bytes: bytes) -> Accepted:
    described = found.targets.get(path)
    if described is None:
        raise BadInput(f"{_WHAT} does not hold {path}; it was signed for another manifest")
    try:
        described.verify_length_and_hashes(manifest_bytes)
    except LengthOrHashMismatchError:
        raise Untrusted(f"the manifest is not the one that was signed as {path}") from None
    if set(described.hashes) != {"sha256"}:
        raise BadInput(f"{path} must be named by SHA-256 alone")
    terms = read_terms(described)
    if terms.seq != manifest.seq:
        raise BadInput(f"the terms of {path} have seq {terms.seq}, its manifest {manifest.seq}")
    return Accepted(manifest, terms, hashlib.sha256(manifest_bytes).hexdigest())


def _check_succession(before: Targets, metadata: Metadata[Targets], emergency: bool, now: int) -> None:
    found, lifetime_s = metadata.signed, _lifetime_s(emergency)
    if found.version != before.version + 1:
        raise Untrusted(f"{_WHAT} is version {found.version}, {before.version + 1} is next: sign upon the newest list")
    if found.delegations is not None:
        raise Untrusted(f"{_WHAT} hands its trust on to other keys, which is not allowed")
    if not moment(now) < found.expires <= moment(now, lifetime_s + 86_400):
        raise Untrusted(f"{_WHAT} must expire within {lifetime_s // 86_400} days; sign it anew")
    new = [path for path in found.targets if path not in before.targets]
    if len(new) != 1:
        raise Untrusted(f"{_WHAT} adds {counted(len(new), 'release')}; it must add exactly one")
    check_kept(before, found)
    for path, described in found.targets.items():
        if path in before.targets and described != before.targets[path]:
            raise Untrusted(f"{_WHAT} changes {path}, which had been released already")


def _highest_seq(releases: Targets, component: str) -> int:
    """Each version adds a number that is higher than all before; of what was withdrawn the list remembers it."""
    own = tuple(f"{kind}/{component}/" for kind in ("releases", "emergency"))
    mine = (described for path, described in releases.targets.items() if path.startswith(own))
    held = max((read_terms(described).seq for described in mine), default=0)
    return max(held, gone_of(releases).highest.get(component, 0))
