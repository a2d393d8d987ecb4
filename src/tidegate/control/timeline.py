"""Who was exposed to what, when: an account drawn from log and ledger alone, with the proofs that others can check."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tidegate.control.acts import find_rollout
from tidegate.control.ledger_events import LedgerFold, Made
from tidegate.control.state import ServerState
from tidegate.control.timeline_check import TYPE, digest_note
from tidegate.control.timeline_words import exposures_of, sentence_of
from tidegate.control.why import find_device
from tidegate.core.errors import BadInput, NotFound, Refused, Untrusted
from tidegate.core.evidence import LeaseState
from tidegate.log.events import Event
from tidegate.trust.checkpoint import open_checkpoint
from tidegate.trust.merkle import Tree, leaf_hash
from tidegate.trust.note import Note, NoteSigner

MOST_ROWS = 200_000
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom or what an account is about, and by which records that is told."""

    kind: str
    name: str
    devices: frozenset[int]
    rollouts: frozenset[str]
    releases: frozenset[str]

    def concerns(self, record: Json) -> bool:
        """Say whether a record belongs into the account."""
        kind, index, rollout = record.get("kind"), record.get("index"), record.get("rollout")
        if kind in ("segment", "plan"):
            return False
        if kind in ("leased", "reported"):
            return index in self.devices if self.kind == "device" else rollout in self.rollouts
        if kind == "release":
            return record.get("digest") in self.releases
        if kind == "act" and "index" in record:
            return index in self.devices
        return rollout in self.rollouts or index in self.devices


def find_subject(state: ServerState, *, device: str = "", release: str = "", rollout: str = "") -> Subject:
    """Find what is asked for; exactly one of the three.

    Raises:
        BadInput: if none or several are asked for, or the name fits several.
        NotFound: if there is none of that name.
    """
    if sum(map(bool, (device, release, rollout))) != 1:
        raise BadInput("ask for one of device, release and rollout")
    if device:
        index = find_device(state, device).device.index
        mine = {name: found for name, found in state.rollouts.items() if index in found.position}
        digests = frozenset(found.spec.candidate.sha256 for found in mine.values())
        return Subject("device", state.devices.device_id(index), frozenset([index]), frozenset(mine), digests)
    if rollout:
        spec = find_rollout(state, rollout).spec
        digest, kind, name = spec.candidate.sha256, "rollout", spec.rollout
        names = frozenset([name])
    else:
        found = [known for known in state.releases if len(release) >= 8 and known.startswith(release.lower())]
        if not found:
            raise NotFound(f"there is no release whose digest begins with {release!r}; see: tidegate release list")
        if len(found) > 1:
            raise BadInput(f"{release!r} begins {len(found)} digests; give more of it")
        digest, kind, name = found[0], "release", found[0]
        names = frozenset(n for n, r in state.rollouts.items() if r.spec.candidate.sha256 == digest)
    return Subject(kind, name, _leased_in(state, names), names, frozenset([digest]))


def _leased_in(state: ServerState, rollouts: Iterable[str]) -> frozenset[int]:
    found: set[int] = set()
    for name in rollouts:
        rollout = state.rollouts[name]
        found |= set(rollout.spec.roster.array[rollout.evidence.state != LeaseState.NONE].tolist())
    return frozenset(found)


@dataclass(slots=True)
class _Gathered:
    """What one pass over the log gives: the ledger's tree, the records wanted, and where each is proven."""

    tree: Tree = field(default_factory=Tree)
    entries: dict[int, bytes] = field(default_factory=lambda: {})
    rows: list[Json] = field(default_factory=lambda: [])
    log_events: int = 0

    def take(self, subject: Subject, made: Made) -> None:
        """Take one ledger entry, and of a segment the records that concern the subject."""
        at = self.tree.size
        self.tree.append(leaf_hash(made.entry))
        wanted = [i for i, text in enumerate(made.leaves) if subject.concerns(json.loads(text))]
        if wanted:
            inner = Tree(leaf_hash(text) for text in made.leaves)
            for i in wanted:
                way = {"index": i, "events": inner.size, "proof": _texts(inner.prove(i))}
                self.rows.append({"text": made.leaves[i].decode(), "entry": at, "segment": way})
        if not made.leaves and subject.concerns(json.loads(made.entry)):
            self.rows.append({"text": made.entry.decode(), "entry": at})
        elif not wanted:
            return
        self.entries[at] = made.entry
        if len(self.rows) > MOST_ROWS:
            raise Refused(f"the account would have more than {MOST_ROWS:,} records; ask for one device or rollout")


def build_timeline(
    events: Iterable[tuple[int, Event]], subject: Subject, note: bytes, signer: NoteSigner, now_ms: int
) -> Json:
    """Give the account as one JSON value, signed.

    Args:
        events: the whole log.
        subject: from `find_subject`.
        note: the ledger's newest checkpoint.
        signer: the ledger's key.
        now_ms: when it is made.

    Raises:
        Refused: if it would be too large.
        Untrusted: if the log does not give the ledger that the checkpoint signs.
    """
    checkpoint = open_checkpoint(note, signer.key)
    fold, found = LedgerFold(keep=True), _Gathered()
    for seq, event in events:
        for made in fold.feed(seq, event):
            found.take(subject, made)
    for text in fold.open_leaves:
        if subject.concerns(json.loads(text)):
            found.rows.append({"text": text.decode()})
    if found.tree.size < checkpoint.size or found.tree.root(checkpoint.size) != checkpoint.root:
        raise Untrusted("the log does not give the ledger that the checkpoint signs: one of them was changed")
    for row in found.rows:
        if row.get("entry", 0) >= checkpoint.size:  # not in the ledger yet: the signature alone speaks for it
            row.pop("segment", None)
            del row["entry"]
    records = [json.loads(row["text"]) for row in found.rows]
    account: Json = {
        "v": 1,
        "type": TYPE,
        "subject": {"kind": subject.kind, "name": subject.name},
        "made_ms": now_ms,
        "log_events": fold.seen,
        "key": signer.key.text(),
        "checkpoint": note.decode(),
        "exposures": exposures_of(records),
        "records": [
            {"at_ms": record["at_ms"], "sentence": sentence_of(record), **row}
            for record, row in zip(records, found.rows, strict=True)
        ],
        "entries": {
            str(at): {"text": entry.decode(), "proof": _texts(found.tree.prove(at, checkpoint.size))}
            for at, entry in found.entries.items()
            if at < checkpoint.size
        },
    }
    signed = Note(digest_note(account)).signed_by(signer).data()
    return {**account, "signature": signed.decode()}


def _texts(proof: Iterable[bytes]) -> list[str]:
    return [base64.b64encode(part).decode() for part in proof]
