"""A ceremony's end at the server: a bundle of signed metadata is taken in whole, or not at all."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from tuf.api.metadata import Root, Targets

from tidegate.core.errors import Refused, Untrusted
from tidegate.trust import layout
from tidegate.trust.ceremony import ONLINE, Bundle, lifetime_s, metadata_of
from tidegate.trust.durable import write_durably
from tidegate.trust.ledger_policy import policy_of
from tidegate.trust.metadata import latest_bytes, moment, parse, verify, versioned
from tidegate.trust.votes import check_all_votes

LEAST_LEFT_S = 600


def accept_bundle(
    repo: Path, bundle: Bundle, now: int, *, online: Collection[str] | None = None, ledger: Collection[bytes] = ()
) -> list[str]:
    """Take in a bundle that was signed offline: the server's step, safe to repeat.

    Args:
        repo: the repository.
        bundle: from `sign_bundle`.
        now: unix seconds.
        online: ids of the private keys that this server holds; a change that names others for its roles is refused.
        ledger: public halves of the ledger keys that it holds; a change that names another for the ledger is refused.

    Returns:
        The roles that are new now.

    Raises:
        Untrusted: if anything in it lacks signatures, is not the next version, is past its date, adds or removes a
            file, or would leave a standing list without enough valid signatures. Nothing has been written.
        Refused: if the server does not hold the online keys that it names.
    """
    fresh = {
        role: text.encode() for role, text in bundle.following.items() if latest_bytes(repo, role) != text.encode()
    }
    for role, data in fresh.items():
        check_all_votes(metadata_of(role, data.decode()).signed)
    root_before = parse(Root, latest_bytes(repo, layout.ROOT), "the root metadata").signed
    root = _accept_root(repo, root_before, fresh.get(layout.ROOT), now)
    standing = parse(Targets, latest_bytes(repo, layout.TARGETS), "the targets metadata")
    trunk = standing.signed
    if layout.TARGETS in fresh:
        found = parse(Targets, fresh[layout.TARGETS], "the new targets metadata")
        _check_next(standing.signed, found.signed, layout.TARGETS, now)
        trunk = found.signed
    carried = parse(Targets, fresh.get(layout.TARGETS) or latest_bytes(repo, layout.TARGETS), "the targets metadata")
    verify(root, layout.TARGETS, carried, "the targets metadata")
    _check_lists(repo, trunk, fresh, now)
    policy = policy_of(trunk)
    if online is not None:
        _check_online(root, trunk, online)
        if policy is not None and policy != policy_of(standing.signed) and policy.note_key.public not in ledger:
            raise Refused("this server does not hold the ledger key that it names; see tidegate keys ledger")
    for role in sorted(fresh, key=lambda role: (role == layout.ROOT, role == layout.TARGETS)):
        version = metadata_of(role, fresh[role].decode()).signed.version
        write_durably(versioned(repo, role, version), fresh[role])
    return sorted(fresh)


def _accept_root(repo: Path, before: Root, data: bytes | None, now: int) -> Root:
    if data is None:
        return before
    found = parse(Root, data, "the new root metadata")
    _check_next(before, found.signed, layout.ROOT, now)
    verify(before, layout.ROOT, found, "the new root metadata, under the root keys so far,")
    verify(found.signed, layout.ROOT, found, "the new root metadata, under its own root keys,")
    if not found.signed.consistent_snapshot:
        raise Untrusted("the new root metadata ends consistent snapshots, which devices rely on")
    return found.signed


def _check_lists(repo: Path, trunk: Targets, fresh: Mapping[str, bytes], now: int) -> None:
    roles = (trunk.delegations.roles if trunk.delegations else None) or {}
    for role in fresh:
        if role not in roles and role not in (layout.ROOT, layout.TARGETS):
            raise Untrusted(f"role {role} is in the bundle, but the targets do not delegate to it")
    for role in roles:
        if role == layout.PLANS:
            continue
        found = parse(Targets, fresh.get(role) or latest_bytes(repo, role), f"role {role}")
        verify(trunk, role, found, f"role {role}")
        if role in fresh:
            _check_next(parse(Targets, latest_bytes(repo, role), f"role {role}").signed, found.signed, role, now)


def _check_next(before: Root | Targets, after: Root | Targets, role: str, now: int) -> None:
    if after.version != before.version + 1:
        raise Untrusted(f"role {role} is version {after.version}, {before.version + 1} is next: begin the change anew")
    if not moment(now, LEAST_LEFT_S) < after.expires <= moment(now, lifetime_s(role) + 86_400):
        raise Untrusted(f"role {role} must expire within {lifetime_s(role) // 86_400} days; begin the change anew")
    if isinstance(after, Targets) and isinstance(before, Targets) and after.targets != before.targets:
        raise Untrusted(f"role {role} changes its files; a ceremony changes keys and dates alone")


def _check_online(root: Root, trunk: Targets, held: Collection[str]) -> None:
    for role in ONLINE:
        delegator = trunk if role == layout.PLANS else root
        if not set(delegator.get_delegated_role(role).keyids) & set(held):
            raise Refused(f"this server does not hold the new {role} key; make them here: tidegate keys rotate online")
