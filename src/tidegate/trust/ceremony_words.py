"""What a bundle changes and whose signatures it still needs, in sentences, for those who are asked to sign."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from tuf.api.metadata import Root, Targets

from tidegate.core.errors import BadInput
from tidegate.trust import layout
from tidegate.trust.ceremony import Bundle, metadata_of
from tidegate.trust.ledger_policy import describe_policy, policy_of


def describe(bundle: Bundle) -> list[str]:
    """Say in sentences what a bundle changes, made from the metadata and not from its title."""
    lines: list[str] = []
    for role, text in sorted(bundle.following.items()):
        before = metadata_of(role, bundle.standing[role])
        after = metadata_of(role, text)
        lasts = f"{after.signed.expires:%Y-%m-%d}"
        lines.append(f"{role}: version {before.signed.version} -> {after.signed.version}, lasts until {lasts}")
        old, new = _held(before.signed), _held(after.signed)
        for name in sorted(old | new):
            (old_keys, old_k), (new_keys, new_k) = old.get(name, (set[str](), 0)), new.get(name, (set[str](), 0))
            lines += [f"  {name} gets key {key[:16]}" for key in sorted(new_keys - old_keys)]
            lines += [f"  {name} loses key {key[:16]}" for key in sorted(old_keys - new_keys)]
            if old_k != new_k:
                lines.append(f"  {name} needs {new_k} signatures, so far {old_k}")
        if isinstance(before.signed, Targets) and isinstance(after.signed, Targets):
            moved = set(before.signed.targets) ^ set(after.signed.targets)
            lines += [f"  CHANGES THE FILE {path}" for path in sorted(moved)]
            lines += describe_policy(policy_of(before.signed), policy_of(after.signed))
        lines += [f"  {need}" for need in _needs(bundle, role)]
    return lines


def lacking(bundle: Bundle) -> list[str]:
    """Say whose signatures a bundle still needs before it can be in force; nothing if it has them all."""
    return [f"{role} {need}" for role in sorted(bundle.following) for need in _needs(bundle, role) if "; " in need]


def _needs(bundle: Bundle, role: str) -> list[str]:
    found = metadata_of(role, bundle.following[role])
    needs: list[str] = []
    for whose, delegator in _delegators(bundle, role):
        try:
            result = delegator.get_verification_result(role, found.signed_bytes, found.signatures)
        except ValueError:
            raise BadInput(f"role {role} of the bundle is in nobody's charge; draw the change up anew") from None
        said = f"has {len(result.signed)} of {result.threshold} signatures{whose}"
        more = " ".join(sorted(key[:16] for key in result.unsigned))
        needs.append(said if result else f"{said}; {result.missing} more of {more}")
    return needs


def _delegators(bundle: Bundle, role: str) -> list[tuple[str, Root | Targets]]:
    """Give whose keys sign the role's next version; for root those of the root so far, and its own."""
    texts = {**bundle.standing, **bundle.following}
    root = metadata_of(layout.ROOT, texts[layout.ROOT]).signed
    if role == layout.ROOT:
        before = metadata_of(role, bundle.standing[role]).signed
        if _held(before)[role] == _held(root)[role]:
            return [("", root)]
        return [(" of the root keys so far", before), (" of the root keys to come", root)]
    return [("", root if role == layout.TARGETS else metadata_of(layout.TARGETS, texts[layout.TARGETS]).signed)]


def _held(signed: Root | Targets) -> dict[str, tuple[set[str], int]]:
    if isinstance(signed, Root):
        return {name: (set(role.keyids), role.threshold) for name, role in signed.roles.items()}
    roles = (signed.delegations.roles if signed.delegations else None) or {}
    return {name: (set(role.keyids), role.threshold) for name, role in roles.items()}
