"""How long each role's signature still lasts, and the warning before it hurts."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tuf.api.metadata import Metadata, Root, Targets

from tidegate.trust import layout
from tidegate.trust.ceremony import lifetime_s
from tidegate.trust.metadata import latest_bytes, latest_versions, parse

_ONLINE_S = {
    layout.SNAPSHOT: layout.SNAPSHOT_LIFETIME_S,
    layout.TIMESTAMP: layout.TIMESTAMP_LIFETIME_S,
    layout.PLANS: layout.PLANS_LIFETIME_S,
}
WARN_PART = 6
"""A warning comes with a sixth of the life left: two months for root, one for targets, five days for releases."""


class RoleDate(NamedTuple):
    """One role: version, keys and threshold, the second at which it expires, and a warning or nothing."""

    role: str
    version: int
    keyids: tuple[str, ...]
    threshold: int
    expires: int
    warning: str


def role_dates(repo: Path, now: int) -> list[RoleDate]:
    """Give every role of a repository, by name. Raises NotFound where there is none."""
    root = parse(Root, latest_bytes(repo, layout.ROOT), "the root metadata").signed
    targets = parse(Targets, latest_bytes(repo, layout.TARGETS), "the targets metadata").signed
    delegated = (targets.delegations.roles if targets.delegations else None) or {}
    known = {**root.roles, **delegated}
    standing = latest_versions(repo)
    found: list[RoleDate] = []
    for role in sorted(known):
        if role == layout.TIMESTAMP:
            file = layout.metadata_dir(repo) / f"{role}.json"
            data = file.read_bytes() if file.exists() else b""
        else:
            data = latest_bytes(repo, role) if role in standing else b""
        if not data:
            continue
        signed = Metadata[Any].from_bytes(data).signed
        expires = int(signed.expires.timestamp())
        warning = _warning(role, expires - now)
        found.append(RoleDate(role, signed.version, tuple(known[role].keyids), known[role].threshold, expires, warning))
    return found


def trust_view(repo: Path, now: int) -> dict[str, Any]:
    """Show dates and warnings, and the same as figures that a Prometheus scrape can hold."""
    dates = role_dates(repo, now)
    rows = [
        {"role": d.role, "version": d.version, "threshold": d.threshold, "keys": list(d.keyids), "expires": d.expires}
        for d in dates
    ]
    figures = {f'tidegate_role_expires_in_seconds{{role="{d.role}"}}': d.expires - now for d in dates}
    return {"roles": rows, "warnings": [d.warning for d in dates if d.warning], "figures": figures}


def _warning(role: str, left_s: int) -> str:
    lasts_s = _ONLINE_S.get(role) or lifetime_s(role)
    if left_s > lasts_s // WARN_PART:
        return ""
    how = (
        "let the server sign it again (is it running?)"
        if role in _ONLINE_S
        else f"tidegate keys export {role} --output renew.bundle"
    )
    if left_s <= 0:
        return f"role {role} has expired: devices take nothing on its word; {how}"
    days, hours = left_s // 86_400, left_s // 3_600
    return f"role {role} expires in {f'{days} days' if days >= 2 else f'{hours} hours'}; {how}"
