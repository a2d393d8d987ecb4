"""What the signed targets say of the ledger: its key, its witnesses, and what devices demand of it."""

# The libraries re-export these public names without saying so.
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tuf.api.metadata import Targets

from tidegate.core.errors import BadInput
from tidegate.core.wire import plain, read
from tidegate.core.words import counted
from tidegate.trust import layout
from tidegate.trust.note import COSIGNATURE, ED25519, NoteKey, parse_key

_PART = "ledger"
MOST_WITNESSES = 16


@dataclass(frozen=True, slots=True)
class NamedWitness:
    """A witness's public key, and the address that the ledger submits its checkpoints to; empty: it fetches them."""

    key: str
    url: str = ""

    def __post_init__(self) -> None:
        _key(self.key, COSIGNATURE, "a witness")
        try:
            found = urlsplit(self.url)
            plain_address = not self.url or (found.scheme in ("http", "https") and found.hostname is not None)
        except ValueError:
            plain_address, found = False, urlsplit("")
        if not plain_address or found.username or found.password or any(c.isspace() for c in self.url):
            raise ValueError(f"a witness's address begins with http:// or https:// and holds no password: {self.url!r}")

    @property
    def note_key(self) -> NoteKey:
        """Its key, as notes are verified with it."""
        return parse_key(self.key)


@dataclass(frozen=True, slots=True)
class LedgerPolicy:
    """`demand`: devices take no release without a proof that the ledger holds it; `quorum` witnesses must cosign that.

    It stands in the targets metadata, below `tidegate` and there `ledger`, and so changes only by a ceremony.
    """

    key: str
    demand: bool = True
    witnesses: tuple[NamedWitness, ...] = ()
    quorum: int = 0
    v: int = 1

    def __post_init__(self) -> None:
        _key(self.key, ED25519, "the ledger")
        if self.v != 1:
            raise ValueError(f"ledger policy version {self.v} is not known; update this program")
        publics = {witness.note_key.public for witness in self.witnesses}
        if len(publics) < len(self.witnesses) or len(publics) > MOST_WITNESSES:
            raise ValueError(f"there are at most {MOST_WITNESSES} witnesses, each with a key of its own")
        if not 0 <= self.quorum <= len(publics):
            raise ValueError(f"a quorum of {self.quorum} cannot be had of {len(publics)} witnesses")

    @property
    def note_key(self) -> NoteKey:
        """The ledger's key."""
        return parse_key(self.key)

    def text(self) -> str:
        """Write it as a C2SP tlog-policy, which other verifiers read."""
        lines = [f"log {self.key}"]
        names = [f"w{number}" for number in range(1, len(self.witnesses) + 1)]
        lines += [f"witness {n} {w.key} {w.url}".rstrip() for n, w in zip(names, self.witnesses, strict=True)]
        if self.quorum:
            lines += [f"group all-witnesses {self.quorum} {' '.join(names)}", "quorum all-witnesses"]
        else:
            lines.append("quorum none")
        return "\n".join(lines) + "\n"


def policy_of(targets: Targets) -> LedgerPolicy | None:
    """Read the policy out of targets metadata; None if it names no ledger. Raises BadInput."""
    ours = targets.unrecognized_fields.get(layout.CUSTOM)
    if ours is None:
        return None
    if not isinstance(ours, dict):
        raise BadInput("the targets metadata's own part is no object")
    return read(LedgerPolicy, ours[_PART], "the ledger's policy") if _PART in ours else None


def set_policy(targets: Targets, policy: LedgerPolicy) -> None:
    """Write the policy into targets metadata that is to be signed."""
    ours = targets.unrecognized_fields.get(layout.CUSTOM)
    kept = dict(ours) if isinstance(ours, dict) else {}
    targets.unrecognized_fields[layout.CUSTOM] = {**kept, _PART: plain(policy)}


def describe_policy(before: LedgerPolicy | None, after: LedgerPolicy | None) -> list[str]:
    """Say in sentences what changes."""
    if before == after:
        return []
    if after is None:
        return ["  NAMES NO LEDGER ANY MORE: devices demand no proof"]
    lines: list[str] = []
    if before is None or before.key != after.key:
        lines.append(f"  the ledger is {after.key}" + (f", so far {before.key}" if before else ""))
    if before is None or before.demand != after.demand:
        lines.append("  devices take no release without its proof" if after.demand else "  DEVICES DEMAND NO PROOF")
    old = {witness.key: witness.url for witness in before.witnesses} if before else {}
    new = {witness.key: witness.url for witness in after.witnesses}
    lines += [f"  witness {key} {url}".rstrip() for key, url in new.items() if old.get(key) != url or key not in old]
    lines += [f"  no witness any more: {key}" for key in old if key not in new]
    if (before.quorum if before else 0) != after.quorum:
        lines.append(f"  {counted(after.quorum, 'witness', 'witnesses')} must have cosigned")
    return lines


def _key(text: str, kind: int, what: str) -> None:
    try:
        found = parse_key(text)
    except BadInput as error:
        raise ValueError(str(error)) from None
    if found.kind != kind or found.text() != text:
        raise ValueError(f"{text!r} is not the kind of key that {what} has")
