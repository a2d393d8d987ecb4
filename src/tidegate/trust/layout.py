"""The names of roles and files in the repository that devices read, and how long each signature lasts."""

from __future__ import annotations

from pathlib import Path

from tidegate.core.errors import BadInput
from tidegate.core.model import check_digest, check_name

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = "root", "targets", "snapshot", "timestamp"
EMERGENCY, PROMOTIONS, PLANS = "emergency", "promotions", "plans"
CUSTOM = "tidegate"
"""The key of a release's terms in its target's custom metadata."""

_DAY_S = 86_400
ROOT_LIFETIME_S = 365 * _DAY_S
TARGETS_LIFETIME_S = 180 * _DAY_S
RELEASES_LIFETIME_S = 30 * _DAY_S
"""Short: until then a device that is new can be shown an older list of releases."""
SNAPSHOT_LIFETIME_S = 7 * _DAY_S
TIMESTAMP_LIFETIME_S = 3_600
PLANS_LIFETIME_S = 3_600

METADATA_LIMIT = 2_000_000
"""Bytes of one role's metadata, and of one target file; more is refused unread."""


def metadata_dir(repo: Path) -> Path:
    """Where signed metadata lies: `<version>.<role>.json`, and `timestamp.json`."""
    return repo / "metadata"


def targets_dir(repo: Path) -> Path:
    """Where manifests and plans lie, each under a name that begins with its digest."""
    return repo / "targets"


def payloads_dir(repo: Path) -> Path:
    """Where payloads lie, named by digest; the manifest binds them, so they are no targets."""
    return repo / "payloads"


def check_component(component: str) -> str:
    """Give the name back if a component may bear it. Raises BadInput."""
    try:
        check_name("component", component)
    except ValueError as error:
        raise BadInput(str(error)) from None
    return component


def release_role(component: str) -> str:
    """The role whose keys sign this component's releases."""
    return f"releases-{check_component(component)}"


def release_component(role: str) -> str | None:
    """The component whose releases a role signs, or None for another kind of role."""
    return role.removeprefix("releases-") if role.startswith("releases-") else None


def release_path(component: str, seq: int) -> str:
    """The target path of a release's manifest."""
    return f"releases/{check_component(component)}/{seq}.json"


def emergency_path(component: str, seq: int) -> str:
    """The target path of an urgent release's manifest, which all release holders sign."""
    return f"emergency/{check_component(component)}/{seq}.json"


def promotion_path(component: str, seq: int) -> str:
    """The target path of a release's promotion above its ceiling."""
    return f"promotions/{check_component(component)}/{seq}.json"


def stop_path(component: str) -> str:
    """Where a component's emergency stop lies, from the repository's top: no TUF target, so no snapshot names it."""
    return f"emergency/stop/{check_component(component)}.json"


def pardon_path(component: str) -> str:
    """Where a component's pardon lies, from the repository's top; as a stop, no TUF target."""
    return f"emergency/pardon/{check_component(component)}.json"


def release_pattern(component: str) -> str:
    """The paths that a component's release role may sign."""
    return f"releases/{check_component(component)}/*"


def plan_path(component: str) -> str:
    """The target path of a component's plan."""
    return f"plans/{check_component(component)}.json"


def plan_component(path: str) -> str | None:
    """The component whose plan a target path is, or None for another kind of path, and for what is no name."""
    component = path.removeprefix("plans/").removesuffix(".json")
    try:
        return component if path == plan_path(component) else None
    except BadInput:
        return None


def hashed_path(path: str, sha256: str) -> str:
    """Where a target lies below `targets/`: consistent snapshots put the digest before the file's name."""
    directory, slash, name = path.rpartition("/")
    return f"{directory}{slash}{sha256}.{name}"


def payload_path(sha256: str) -> str:
    """Where a payload lies, from the repository's top. Raises BadInput if it is no digest."""
    try:
        check_digest("payload", sha256)
    except ValueError as error:
        raise BadInput(str(error)) from None
    return f"payloads/{sha256}.tar"
