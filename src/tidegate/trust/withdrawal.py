"""A release taken out of its list by its release keys: no device begins with it any more, whoever names it in a plan.

What was withdrawn, and the highest number ever, stay in the list itself, so that no number is given twice and everyone
can read why. Whoever has seen the shorter list believes no older one.
"""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Targets

from tidegate.core.errors import BadInput, NotFound, Untrusted
from tidegate.core.model import check_digest
from tidegate.core.wire import plain, read
from tidegate.trust import layout
from tidegate.trust.durable import write_durably
from tidegate.trust.metadata import latest_bytes, moment, parse, sign, verify, versioned

MOST_REASON = 500
_WHAT = "the list without what was withdrawn"


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Why a release is in its list no more; `at` in unix seconds."""

    component: str
    seq: int
    digest: str
    at: int
    reason: str = ""

    def __post_init__(self) -> None:
        check_digest("withdrawn", self.digest)
        if len(self.reason) > MOST_REASON:
            raise ValueError(f"a reason has at most {MOST_REASON} characters")


@dataclass(frozen=True, slots=True)
class Gone:
    """What a list of releases remembers of those that it does not hold any more: by path, and the highest numbers."""

    withdrawn: dict[str, Withdrawn] = field(default_factory=lambda: {})
    highest: dict[str, int] = field(default_factory=lambda: {})


class Change(NamedTuple):
    """What a signed list withdraws, beyond the one before it."""

    emergency: bool
    withdrawn: list[Withdrawn]


def gone_of(releases: Targets) -> Gone:
    """Read what a list remembers. Raises BadInput."""
    ours = releases.unrecognized_fields.get(layout.CUSTOM)
    return Gone() if ours is None else read(Gone, ours, "what the list of releases remembers")


def sentence_of(releases: Targets, path: str) -> str:
    """Say why a list does not hold a path."""
    try:
        found = gone_of(releases).withdrawn.get(path)
    except BadInput:
        found = None
    if found is None:
        return f"the plan names {path}, which the release keys have not signed or have withdrawn"
    why = f": {found.reason}" if found.reason else ""
    return f"the plan names {path}, which the release keys have withdrawn{why}"


def sign_withdrawal(
    releases: bytes, component: str, seqs: Collection[int], reason: str, signers: Iterable[Signer], now: int
) -> bytes:
    """Take releases out of their list and sign the next version of it: the offline step. Others countersign.

    Args:
        releases: the newest list that holds them: `releases-<component>`, or `emergency` for urgent ones.
        component: whose releases.
        seqs: their sequence numbers.
        reason: for everyone to read.
        signers: release keys.
        now: unix seconds.

    Raises:
        NotFound: if the list does not hold one of them.
        BadInput: for a reason that is too long.
    """
    found = parse(Targets, releases, "the list of releases")
    gone = gone_of(found.signed)
    withdrawn, highest = dict(gone.withdrawn), dict(gone.highest)
    now = max([now, *(each.at + 1 for each in withdrawn.values())])  # the newest change is known by its time
    for seq in sorted(seqs):
        paths = (layout.release_path(component, seq), layout.emergency_path(component, seq))
        path = next((path for path in paths if path in found.signed.targets), "")
        if not path:
            raise NotFound(f"the list holds no release {seq} of {component}; see tidegate release list")
        digest = found.signed.targets.pop(path).hashes.get("sha256", "")
        try:
            withdrawn[path] = Withdrawn(component, seq, digest, now, reason)
        except ValueError as error:
            raise BadInput(str(error)) from None
        highest[component] = max(seq, highest.get(component, 0))
    found.signed.unrecognized_fields[layout.CUSTOM] = plain(Gone(withdrawn, highest))
    found.signed.version += 1
    urgent = any(path.startswith(f"{layout.EMERGENCY}/") for path in withdrawn)
    found.signed.expires = moment(now, layout.TARGETS_LIFETIME_S if urgent else layout.RELEASES_LIFETIME_S)
    found.signatures.clear()
    return sign(found, signers)


def read_withdrawal(data: bytes, component: str = "") -> Change:
    """Say what a signed list withdraws at its last change. Raises BadInput if it is none."""
    found = parse(Targets, data, _WHAT).signed
    gone = gone_of(found)
    newest = max((each.at for each in gone.withdrawn.values()), default=0)
    last = {path: each for path, each in gone.withdrawn.items() if each.at == newest}
    if not last or (component and any(each.component != component for each in last.values())):
        raise BadInput("this withdraws no release; tidegate release withdraw writes such a file")
    return Change(any(path.startswith(f"{layout.EMERGENCY}/") for path in last), list(last.values()))


def accept_withdrawal(
    repo: Path, signed: bytes, now: int, *, write: Callable[[Path, bytes], None] = write_durably
) -> list[Withdrawn]:
    """Take in a list from which releases were withdrawn: the server's step, safe to repeat.

    Devices see it with the next publication.

    Raises:
        Untrusted: if it is not signed by enough release keys, is not the next version, or changes anything else.
        NotFound, BadInput: if there is no such list, or it cannot be read. Nothing has been written.
    """
    change = read_withdrawal(signed)
    component = change.withdrawn[0].component
    role = layout.EMERGENCY if change.emergency else layout.release_role(component)
    standing = latest_bytes(repo, role)
    found = parse(Targets, signed, _WHAT)
    trunk = parse(Targets, latest_bytes(repo, layout.TARGETS), "the targets metadata").signed
    verify(trunk, role, found, _WHAT)
    if signed != standing:
        _check_change(parse(Targets, standing, "the list of releases").signed, found, change, now)
        write(versioned(repo, role, found.signed.version), signed)
    return change.withdrawn


def _check_change(before: Targets, metadata: Metadata[Targets], change: Change, now: int) -> None:
    found, old, new = metadata.signed, gone_of(before), gone_of(metadata.signed)
    if found.version != before.version + 1:
        raise Untrusted(f"{_WHAT} is version {found.version}, {before.version + 1} is next: sign upon the newest list")
    lifetime_s = layout.TARGETS_LIFETIME_S if change.emergency else layout.RELEASES_LIFETIME_S
    if found.delegations is not None or not moment(now) < found.expires <= moment(now, lifetime_s + 86_400):
        raise Untrusted(f"{_WHAT} hands its trust on, or expires at another time than it should; sign it anew")
    added = {path: each for path, each in new.withdrawn.items() if path not in old.withdrawn}
    expected = {path: target for path, target in before.targets.items() if path not in added}
    named = {path: each.digest for path, each in added.items()}
    held = {path: before.targets[path].hashes.get("sha256") for path in added if path in before.targets}
    kept = all(new.withdrawn.get(path) == each for path, each in old.withdrawn.items())
    kept = kept and _rises(old.highest, new.highest, added)
    if found.targets != expected or named != held or not added or not kept:
        raise Untrusted(f"{_WHAT} changes more than it withdraws; sign it upon the newest list")


def _rises(old: Mapping[str, int], new: Mapping[str, int], added: Mapping[str, Withdrawn]) -> bool:
    wanted = dict(old)
    for each in added.values():
        wanted[each.component] = max(each.seq, wanted.get(each.component, 0))
    return dict(new) == wanted


def check_kept(before: Targets, after: Targets) -> None:
    """See that the next list of releases still remembers what was withdrawn, no more and no less. Raises Untrusted."""
    if gone_of(before) != gone_of(after):
        raise Untrusted("the signed list of releases changes what was withdrawn; sign upon the newest list")
