"""Ceremonies: a change of keys or dates as a bundle that is carried to key holders, signed there, and brought back.

A bundle holds metadata alone: what stands, and what is to follow. Each holder signs on a machine of their own, so no
private key ever meets the server or another holder.
"""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root, Targets

from tidegate.core.errors import BadInput, NotFound, Refused
from tidegate.core.wire import decode, encode
from tidegate.core.words import counted
from tidegate.trust import layout
from tidegate.trust.ledger_policy import LedgerPolicy, policy_of, set_policy
from tidegate.trust.metadata import latest_bytes, moment, parse, sign, verify
from tidegate.trust.votes import check_all_votes

ONLINE = (layout.SNAPSHOT, layout.TIMESTAMP, layout.PLANS)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A ceremony on its way: role name -> metadata file as text. Holders sign `following`, one after the other."""

    title: str
    standing: dict[str, str]
    following: dict[str, str] = field(default_factory=lambda: {})
    v: int = 1

    def __post_init__(self) -> None:
        if self.v != 1:
            raise ValueError(f"bundle version {self.v} is not known; update this Tidegate")
        if not self.following or not {layout.ROOT, layout.TARGETS} <= set(self.standing):
            raise ValueError("a bundle holds the standing root and targets, and something that follows")
        if not set(self.following) <= set(self.standing):
            raise ValueError("a bundle holds what stands of each role that is to follow")
        if any(role in (layout.SNAPSHOT, layout.TIMESTAMP, layout.PLANS) for role in self.following):
            raise ValueError("snapshot, timestamp and plans are signed online; a bundle never holds them")

    def text(self) -> bytes:
        """Give the file."""
        return encode(self)


def read_bundle(data: bytes) -> Bundle:
    """Read a bundle. Raises BadInput."""
    if len(data) > 8 * layout.METADATA_LIMIT:
        raise BadInput("this is too long for a signing bundle")
    return decode(Bundle, data, "the signing bundle")


def begin_change(
    repo: Path,
    now: int,
    title: str,
    *,
    add: Mapping[str, Sequence[Key]] | None = None,
    remove: Mapping[str, Collection[str]] | None = None,
    thresholds: Mapping[str, int] | None = None,
    renew: Collection[str] = (),
    ledger: LedgerPolicy | None = None,
) -> Bundle:
    """Draw up a change of keys, thresholds, dates or the ledger's policy, unsigned.

    Lists that a role has signed so far and that its new keys would not carry are drawn up anew as well.

    Args:
        repo: the repository; only read.
        now: unix seconds.
        title: what it is for, for those who sign.
        add: role -> public keys that it gets.
        remove: role -> key ids that it loses.
        thresholds: role -> how many of its keys must sign from now on.
        renew: roles whose lists are only to last longer.
        ledger: what is to be said of the ledger from now on.

    Raises:
        NotFound: for a role or key that there is not.
        Refused: if a role would be left with fewer keys than must sign, or nothing would change,
            or a role is to be renewed that the server itself signs.
    """
    add, remove, thresholds = dict(add or {}), dict(remove or {}), dict(thresholds or {})
    root = parse(Root, latest_bytes(repo, layout.ROOT), "the root metadata")
    targets = parse(Targets, latest_bytes(repo, layout.TARGETS), "the targets metadata")
    touched = set(add) | set(remove) | set(thresholds)
    relayed = ledger is not None and ledger != policy_of(targets.signed)
    if not touched and not renew and not relayed:
        raise Refused("nothing would change; name keys to add or to remove, a threshold, or roles to renew")
    if online := sorted(set(renew) & set(ONLINE)):
        raise Refused(f"{online[0]} is signed anew by the server itself, as long as it runs; there is nothing to carry")
    for role in [*touched, *renew]:
        _delegator(root.signed, targets.signed, role)
    for role in touched:
        _change(root.signed, targets.signed, role, add.get(role, ()), remove.get(role, ()), thresholds.get(role))
    if ledger is not None:
        set_policy(targets.signed, ledger)
    in_root = {role for role in touched if role in root.signed.roles}
    following: dict[str, bytes] = {}
    if in_root or layout.ROOT in renew:
        following[layout.ROOT] = _next(root, now, layout.ROOT_LIFETIME_S)
    changed = {role for role in touched if _keys_moved(repo, role, add, remove, thresholds)}
    if relayed or touched - in_root or layout.TARGETS in set(renew) | changed:
        following[layout.TARGETS] = _next(targets, now, layout.TARGETS_LIFETIME_S)
    for role in sorted((set(renew) | changed) - {layout.ROOT, layout.TARGETS, *ONLINE}):
        found = parse(Targets, latest_bytes(repo, role), f"role {role}")
        following[role] = _next(found, now, lifetime_s(role))
    standing = {role: latest_bytes(repo, role).decode() for role in {layout.ROOT, layout.TARGETS, *following}}
    return Bundle(title, standing, {role: data.decode() for role, data in following.items()})


def check_standing(bundle: Bundle, known_root: bytes = b"") -> None:
    """See that what a bundle calls the standing metadata is signed, so that its description cannot be a trick.

    Args:
        bundle: from `begin_change`.
        known_root: a root that the holder has kept; its keys must have signed the standing one.

    Raises:
        Untrusted: if it is not.
        BadInput: if something in it cannot be read.
    """
    for role, text in bundle.following.items():
        found = metadata_of(role, text).signed
        check_all_votes(found)
        if isinstance(found, Targets):
            policy_of(found)
    root = parse(Root, bundle.standing[layout.ROOT].encode(), "the standing root")
    if known_root:
        own = parse(Root, known_root, "the root that you keep")
        verify(own.signed, layout.ROOT, root, "the standing root, under the keys of the root that you keep,")
    verify(root.signed, layout.ROOT, root, "the standing root")
    targets = parse(Targets, bundle.standing[layout.TARGETS].encode(), "the standing targets")
    verify(root.signed, layout.TARGETS, targets, "the standing targets")
    for role in set(bundle.standing) - {layout.ROOT, layout.TARGETS}:
        verify(targets.signed, role, parse(Targets, bundle.standing[role].encode(), f"role {role}"), f"role {role}")


def sign_bundle(bundle: Bundle, signers: Iterable[Signer], known_root: bytes = b"") -> tuple[Bundle, list[str]]:
    """Sign all of a bundle that these keys have a say in: the step on a holder's own machine.

    Returns:
        The bundle with the signatures added, and the roles that were signed.

    Raises:
        Refused: if a key has no say in any of it.
        Untrusted: as `check_standing`.
    """
    check_standing(bundle, known_root)
    following = dict(bundle.following)
    signed: list[str] = []
    for signer in signers:
        mine = [role for role in following if signer.public_key.keyid in _deciders(bundle, role)]
        if not mine:
            raise Refused(f"key {signer.public_key.keyid[:16]} has no say in this bundle; choose another key")
        for role in mine:
            found = metadata_of(role, following[role])
            following[role] = sign(found, [signer]).decode()
        signed += [role for role in mine if role not in signed]
    return Bundle(bundle.title, bundle.standing, following), signed


def merge_bundles(bundles: Sequence[Bundle]) -> Bundle:
    """Put together what holders have signed each on a copy of their own. Raises BadInput if they differ in more."""
    first = bundles[0]
    following = dict(first.following)
    for other in bundles[1:]:
        if set(other.following) != set(following):
            raise BadInput("these bundles are of different ceremonies; bring the copies of one")
        for role, text in other.following.items():
            mine, theirs = (metadata_of(role, each) for each in (following[role], text))
            if mine.signed_bytes != theirs.signed_bytes:
                raise BadInput(f"these bundles say different things of role {role}; bring the copies of one")
            mine.signatures.update(theirs.signatures)
            following[role] = mine.to_bytes().decode()
    return Bundle(first.title, first.standing, following)


def metadata_of(role: str, text: str) -> Metadata[Any]:
    """Read a role's metadata out of a bundle. Raises BadInput."""
    data, what = text.encode(), f"role {role} of the bundle"
    return parse(Root, data, what) if role == layout.ROOT else parse(Targets, data, what)


def lifetime_s(role: str) -> int:
    """Say how long a signature of a role usually lasts."""
    if role == layout.ROOT:
        return layout.ROOT_LIFETIME_S
    return layout.TARGETS_LIFETIME_S if layout.release_component(role) is None else layout.RELEASES_LIFETIME_S


def _delegator(root: Root, targets: Targets, role: str) -> Root | Targets:
    if role in root.roles:
        return root
    if targets.delegations and targets.delegations.roles and role in targets.delegations.roles:
        return targets
    raise NotFound(f"there is no role {role!r} in this repository")


def _change(
    root: Root, targets: Targets, role: str, add: Iterable[Key], remove: Iterable[str], threshold: int | None
) -> None:
    delegator = _delegator(root, targets, role)
    for key in add:
        if key.keyid in delegator.get_delegated_role(role).keyids:
            raise Refused(f"{role} has key {key.keyid[:16]} already")
        delegator.add_key(key, role)
    for keyid in remove:
        try:
            delegator.revoke_key(keyid, role)
        except ValueError:
            raise NotFound(f"{role} has no key {keyid[:16]}; see tidegate keys list") from None
    found = delegator.get_delegated_role(role)
    if role == layout.EMERGENCY and threshold is None:
        threshold = len(found.keyids)  # an urgent release is signed by all holders
    found.threshold = threshold or found.threshold
    if not 1 <= found.threshold <= len(found.keyids):
        has = counted(len(found.keyids), "key")
        raise Refused(f"{role} would have {has} of which {found.threshold} must sign; add keys first")


def _keys_moved(
    repo: Path,
    role: str,
    add: Mapping[str, Sequence[Key]],
    remove: Mapping[str, Collection[str]],
    thresholds: Mapping[str, int],
) -> bool:
    """Say whether what a role has signed so far has to be signed again."""
    return role not in (layout.ROOT, *ONLINE) and bool(add.get(role) or remove.get(role) or role in thresholds)


def _next(found: Metadata[Root] | Metadata[Targets], now: int, lasts_s: int) -> bytes:
    found.signed.version += 1
    found.signed.expires = moment(now, lasts_s)
    found.signatures.clear()
    return found.to_bytes()


def _deciders(bundle: Bundle, role: str) -> set[str]:
    """Give the ids of the keys whose signatures on a role's next version count."""
    texts = {**bundle.standing, **bundle.following}
    if role == layout.ROOT:
        both = (bundle.standing[layout.ROOT], texts[layout.ROOT])
        return {key for text in both for key in metadata_of(role, text).signed.roles[role].keyids}
    if role == layout.TARGETS:
        return set(metadata_of(layout.ROOT, texts[layout.ROOT]).signed.roles[role].keyids)
    trunk = metadata_of(layout.TARGETS, texts[layout.TARGETS]).signed
    roles = (trunk.delegations.roles if trunk.delegations else None) or {}
    return set(roles[role].keyids) if role in roles else set()
