"""The repository's beginning and its offline trunk: root, targets, and the delegation of each component's releases."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Role, Root, Targets

from tidegate.core.errors import BadInput, Refused, Untrusted
from tidegate.trust import layout
from tidegate.trust.checkpoint import ledger_origin
from tidegate.trust.durable import make_directory, write_durably
from tidegate.trust.keys import create_key, key_path, load_signer, load_signers
from tidegate.trust.ledger_policy import LedgerPolicy, set_policy
from tidegate.trust.metadata import latest_bytes, latest_versions, moment, parse, root_digest, sign, verify, versioned
from tidegate.trust.note import NoteKey
from tidegate.trust.publisher import Publisher

ONLINE_ROLES = (layout.PLANS, layout.SNAPSHOT, layout.TIMESTAMP)
Threshold = tuple[int, int]
"""(k, n): n keys, of which k must sign."""


class _Keys(NamedTuple):
    """The public halves, by role; the list's order is that of the files' numbers."""

    root: list[Key]
    targets: list[Key]
    release: list[Key]
    promotions: list[Key]
    online: dict[str, Key]


def init_repository(
    repo: Path,
    offline: Path,
    online: Path,
    components: Sequence[str],
    now: int,
    *,
    root_keys: Threshold = (2, 3),
    target_keys: Threshold = (2, 3),
    release_keys: Threshold = (2, 3),
    passphrase: bytes | None = None,
    ledger: Key | None = None,
) -> bytes:
    """Make fresh keys and a signed repository with an empty set of plans.

    Offline keys are `root-N`, `targets-N`, `release-N` and `promotions`; online ones `plans`, `snapshot`, `timestamp`.
    All release holders together are the emergency role. Targets have keys of their own, so that the root keys can lie
    deeper than those that add a component.

    Args:
        repo: the directory that devices will read; made.
        offline: for the offline keys; belongs on another machine than the server.
        online: for the server's keys, which are not encrypted.
        components: the first components; more can follow.
        now: unix seconds.
        root_keys, target_keys, release_keys: (k, n).
        passphrase: encrypts the offline keys.
        ledger: the ledger's key: it is named in the targets, and devices demand proofs of it from the first release.

    Returns:
        The root metadata: every device's anchor.

    Raises:
        BadInput: for a component's name or a threshold that cannot be.
        Refused: if there are keys or metadata already; nothing has been written.
    """
    for k, n in (root_keys, target_keys, release_keys):
        if not 1 <= k <= n <= 9:
            raise BadInput(f"{k} of {n} keys cannot be; choose 1 <= k <= n <= 9")
    for component in components:
        layout.check_component(component)
    counts = {"root": root_keys[1], "targets": target_keys[1], "release": release_keys[1]}
    numbered = {group: [f"{group}-{i}" for i in range(1, n + 1)] for group, n in counts.items()}
    _refuse_existing(repo, offline, online, [layout.PROMOTIONS, *itertools.chain(*numbered.values())])

    made = {group: [create_key(offline, name, passphrase) for name in names] for group, names in numbered.items()}
    promotions: list[Key] = [create_key(offline, layout.PROMOTIONS, passphrase)]
    online_keys: dict[str, Key] = {role: create_key(online, role) for role in ONLINE_ROLES}
    keys = _Keys([*made["root"]], [*made["targets"]], [*made["release"]], promotions, online_keys)

    for directory in (layout.metadata_dir(repo), layout.targets_dir(repo), layout.payloads_dir(repo)):
        make_directory(directory)
    release_signers = load_signers(offline, "release", passphrase)
    root = sign(_first_root(keys, root_keys[0], target_keys[0], now), load_signers(offline, "root", passphrase))
    targets = _first_targets(keys, components, release_keys, now)
    if ledger is not None:
        named = NoteKey(ledger_origin(root_digest(root)), bytes.fromhex(ledger.keyval["public"]))
        set_policy(targets.signed, LedgerPolicy(named.text()))
    parts = {layout.EMERGENCY: release_signers}
    parts[layout.PROMOTIONS] = [load_signer(key_path(offline, layout.PROMOTIONS), passphrase)]
    parts |= {layout.release_role(component): release_signers for component in components}
    for role, signers in parts.items():
        write_durably(versioned(repo, role, 1), _empty_role(role, signers, now))
    write_durably(versioned(repo, layout.TARGETS, 1), sign(targets, load_signers(offline, "targets", passphrase)))
    write_durably(versioned(repo, layout.ROOT, 1), root)
    Publisher(repo, online).publish({}, now)
    return root


def sign_component(
    targets: bytes,
    component: str,
    threshold: int,
    target_signers: Iterable[Signer],
    release_signers: Iterable[Signer],
    now: int,
) -> tuple[bytes, bytes]:
    """Delegate a new component's releases to the release holders: the offline step, bytes in and bytes out.

    Args:
        targets: the newest targets metadata.
        component: its name.
        threshold: how many release holders must sign its releases.
        target_signers, release_signers: keys, k of each.
        now: unix seconds.

    Returns:
        The next targets metadata and the component's first, empty list of releases, for `accept_targets`.

    Raises:
        Refused: if the component is there already.
    """
    role = layout.release_role(component)
    found = parse(Targets, targets, "the targets metadata")
    delegations = found.signed.delegations
    if delegations is None or delegations.roles is None:
        raise BadInput("these targets delegate nothing; they are not of a Tidegate repository")
    if role in delegations.roles:
        raise Refused(f"component {component} exists already; sign its releases")
    holders = delegations.roles[layout.EMERGENCY].keyids
    if not 1 <= threshold <= len(holders):
        raise BadInput(f"threshold must be 1 to {len(holders)}, the number of release holders")
    delegations.roles[role] = _release_delegation(component, holders, threshold)
    found.signed.version += 1
    found.signed.expires = moment(now, layout.TARGETS_LIFETIME_S)
    found.signatures.clear()
    return sign(found, target_signers), _empty_role(role, release_signers, now)


def accept_targets(repo: Path, targets: bytes, first: Mapping[str, bytes], now: int) -> None:
    """Take in targets metadata that was signed offline: the server's step, safe to repeat.

    Devices see it with the next publication.

    Args:
        repo: the repository.
        targets: the next targets metadata.
        first: role name -> first metadata, for each role that it delegates anew.
        now: unix seconds.

    Raises:
        Untrusted: if it is not signed by enough keys, is not the next version, has expired, or leaves a role without
            metadata that its keys signed. Nothing has been written.
    """
    what = "the new targets metadata"
    found = parse(Targets, targets, what)
    standing = latest_bytes(repo, layout.TARGETS)
    root = parse(Root, latest_bytes(repo, layout.ROOT), "the root metadata").signed
    verify(root, layout.TARGETS, found, what)
    before = parse(Targets, standing, "the targets metadata").signed.version
    if standing != targets and found.signed.version != before + 1:
        raise Untrusted(f"{what} is version {found.signed.version}; version {before + 1} is next: sign the newest one")
    if found.signed.is_expired(moment(now)):
        raise Untrusted(f"{what} has expired; have it signed again")
    have = latest_versions(repo)
    roles = found.signed.delegations.roles if found.signed.delegations else None
    for role in roles or {}:
        if role in have and role not in ONLINE_ROLES:
            verify(found.signed, role, parse(Targets, latest_bytes(repo, role), f"role {role}"), f"role {role}")
        elif role not in have:
            if role not in first:
                raise Untrusted(f"{what} delegates to {role}, whose first metadata is missing; hand it in together")
            verify(found.signed, role, parse(Targets, first[role], f"role {role}"), f"role {role}")
    for role, data in first.items():
        if role not in have:
            write_durably(versioned(repo, role, 1), data)
    write_durably(versioned(repo, layout.TARGETS, found.signed.version), targets)


def add_component(repo: Path, offline: Path, component: str, now: int, passphrase: bytes | None = None) -> None:
    """Add a component where offline keys and repository are on one machine; else sign_component and accept_targets.

    It gets the threshold of the first component. Devices see it with the next publication.
    """
    standing = latest_bytes(repo, layout.TARGETS)
    delegations = parse(Targets, standing, "the targets metadata").signed.delegations
    roles = (delegations.roles if delegations else None) or {}
    thresholds = [role.threshold for name, role in roles.items() if layout.release_component(name)]
    release_signers = load_signers(offline, "release", passphrase)
    target_signers = load_signers(offline, "targets", passphrase)
    threshold = thresholds[0] if thresholds else min(2, len(release_signers))
    targets, first = sign_component(standing, component, threshold, target_signers, release_signers, now)
    accept_targets(repo, targets, {layout.release_role(component): first}, now)


def _refuse_existing(repo: Path, offline: Path, online: Path, names: Iterable[str]) -> None:
    files = [key_path(offline, name) for name in names] + [key_path(online, role) for role in ONLINE_ROLES]
    metadata = layout.metadata_dir(repo)
    for path in [*files, *(metadata.iterdir() if metadata.is_dir() else ())]:
        if path.exists():
            raise Refused(f"{path} exists already; begin with empty directories")


def _release_delegation(component: str, keyids: list[str], threshold: int) -> DelegatedRole:
    role = layout.release_role(component)
    return DelegatedRole(role, list(keyids), threshold, True, [layout.release_pattern(component)])


def _first_targets(keys: _Keys, components: Iterable[str], release_keys: Threshold, now: int) -> Metadata[Targets]:
    holders = [key.keyid for key in keys.release]
    roles = {layout.EMERGENCY: DelegatedRole(layout.EMERGENCY, holders, len(holders), True, ["emergency/*/*"])}
    for component in components:
        roles[layout.release_role(component)] = _release_delegation(component, holders, release_keys[0])
    promotions, plans = keys.promotions[0].keyid, keys.online[layout.PLANS].keyid
    roles[layout.PROMOTIONS] = DelegatedRole(layout.PROMOTIONS, [promotions], 1, True, ["promotions/*/*"])
    roles[layout.PLANS] = DelegatedRole(layout.PLANS, [plans], 1, True, ["plans/*"])
    all_keys = {key.keyid: key for key in [*keys.release, *keys.promotions, keys.online[layout.PLANS]]}
    signed = Targets(expires=moment(now, layout.TARGETS_LIFETIME_S), delegations=Delegations(all_keys, roles))
    return Metadata(signed)


def _first_root(keys: _Keys, root_threshold: int, targets_threshold: int, now: int) -> Metadata[Root]:
    by_role = {layout.ROOT: (keys.root, root_threshold), layout.TARGETS: (keys.targets, targets_threshold)}
    by_role |= {role: ([keys.online[role]], 1) for role in (layout.SNAPSHOT, layout.TIMESTAMP)}
    roles = {role: Role([key.keyid for key in held], k) for role, (held, k) in by_role.items()}
    all_keys = {key.keyid: key for held, _ in by_role.values() for key in held}
    signed = Root(expires=moment(now, layout.ROOT_LIFETIME_S), keys=all_keys, roles=roles, consistent_snapshot=True)
    return Metadata(signed)


def _empty_role(role: str, signers: Iterable[Signer], now: int) -> bytes:
    is_release = layout.release_component(role) is not None
    lifetime_s = layout.RELEASES_LIFETIME_S if is_release else layout.TARGETS_LIFETIME_S
    return sign(Metadata(Targets(expires=moment(now, lifetime_s))), signers)
