"""Which events become ledger entries, and how each reads; a function of the log alone, so that replay gives them again.

Fields are named one by one: an event that gets a field in a later version must still give the same entry. Nothing of
an entry may tell the arm of a device before its ring has closed, so devices' events are in it as a digest alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.control.ledger_leaves import MOST_WORDS, column_texts, digest_of, event_texts, leaf_text
from tidegate.core.wire import canonical
from tidegate.log.batch import Batch
from tidegate.log.events import (
    Act,
    Event,
    Labelled,
    Leased,
    PlanPublished,
    Reported,
    RingClosed,
    VerdictTaken,
)
from tidegate.trust.merkle import Tree, leaf_hash

MOST_LEAVES = 4096
MOST_BYTES = 60_000
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Made:
    """One ledger entry; where it is a segment's and leaves are kept, with the texts below its root."""

    entry: bytes
    leaves: tuple[bytes, ...] = ()


class LedgerFold:
    """Turns events into entries, in order. Devices' events are gathered into segments, cut before the next entry."""

    def __init__(self, *, keep: bool = False, seen: int = 0) -> None:
        """Begin before the first event, or after one behind which nothing was open.

        `keep` keeps the texts of segments, for those who make proofs.
        """
        self.seen = seen
        self._keep = keep
        self._first = 0
        self._hashes: list[bytes] = []
        self._texts: list[bytes] = []
        self._last_ms = 0
        self._tells = False
        """Whether a device speaks in the open segment."""

    @property
    def open_leaves(self) -> list[bytes]:
        """The texts that no entry covers yet, where they are kept."""
        return self._texts

    def feed(self, seq: int, event: Event) -> list[Made]:
        """Take the event with this number; give what has become final by it."""
        text = leaf_text(seq, event)
        kind = type(event)
        if text is not None:
            self._gather(seq, event.at_ms, text, tells=kind is not PlanPublished)
        # What a fleet sends by the thousand is no entry of its own: no need to look.
        entry = None if kind is Leased or kind is Reported else entry_text(seq, event)
        self.seen = seq
        if entry is None:
            # A plan is renewed every few minutes: what a device said last does not wait for the next decision.
            due = kind is PlanPublished and self._tells
            return [self._cut()] if due or len(self._hashes) >= MOST_LEAVES else []
        made = [self._cut()] if self._hashes else []
        return [*made, Made(entry)]

    def feed_many(self, first: int, events: Sequence[Event]) -> list[Made]:
        """Take events in a row, the number of the first of which is `first`; as `feed` does for each of them."""
        texts = event_texts(first, events)
        if texts is None:
            return [made for seq, event in enumerate(events, start=first) for made in self.feed(seq, event)]
        return self._gather_many(first, texts, [event.at_ms for event in events])

    def feed_batch(self, first: int, batch: Batch) -> list[Made]:
        """Take a whole record, the number of whose first event is `first`; as `feed` does for each of its events."""
        found = column_texts(first, batch)
        return self.feed_many(first, batch.events) if found is None else self._gather_many(first, *found)

    def _gather_many(self, first: int, texts: Sequence[bytes], at_ms: Sequence[int]) -> list[Made]:
        """Take what devices said in a row."""
        made: list[Made] = []
        start = 0
        while start < len(texts):
            end = min(len(texts), start + MOST_LEAVES - len(self._hashes))
            some = texts[start:end]
            if not self._hashes:
                self._first = first + start
            self._hashes += map(leaf_hash, some)
            self._last_ms, self._tells = at_ms[end - 1], True
            if self._keep:
                self._texts += some
            if len(self._hashes) >= MOST_LEAVES:
                made.append(self._cut())
            start = end
        self.seen = first + len(texts) - 1
        return made

    def _gather(self, seq: int, at_ms: int, text: bytes, *, tells: bool) -> None:
        if not self._hashes:
            self._first = seq
        self._hashes.append(leaf_hash(text))
        self._last_ms = at_ms
        self._tells = self._tells or tells
        if self._keep:
            self._texts.append(text)

    def _cut(self) -> Made:
        entry = {
            "v": 1,
            "kind": "segment",
            "log_seq": self._first,
            "at_ms": self._last_ms,
            "events": len(self._hashes),
            "root": Tree(self._hashes).root().hex(),
        }
        made = Made(canonical(entry), tuple(self._texts))
        self._hashes, self._texts, self._tells = [], [], False
        return made


def entries_of(events: Iterable[tuple[int, Event]]) -> list[bytes]:
    """Give all entries of a log."""
    fold = LedgerFold()
    return [made.entry for seq, event in events for made in fold.feed(seq, event)]


def entries_of_batches(batches: Iterable[tuple[int, Batch]]) -> Iterator[bytes]:
    """Give all entries of a log, from its records with the numbers of their first events."""
    fold = LedgerFold()
    for first, batch in batches:
        yield from (made.entry for made in fold.feed_batch(first, batch))


def entry_text(seq: int, event: Event) -> bytes | None:
    """Give the entry that an event is by itself, or None."""
    entry = _entry(seq, event)
    return None if entry is None else _packed(entry)


def _packed(entry: Json) -> bytes:
    data = canonical(entry)
    if len(data) <= MOST_BYTES:
        return data
    short = {name: entry[name] for name in ("v", "kind", "log_seq", "at_ms")}
    return canonical({**short, "too_long_sha256": hashlib.sha256(data).hexdigest()})


def _entry(seq: int, event: Event) -> Json | None:
    head = {"v": 1, "log_seq": seq, "at_ms": event.at_ms}
    match event:
        case VerdictTaken():
            verdict, f = event.verdict, event.verdict.figures
            figures = {
                "exposed": f.exposed,
                "confirmed": f.confirmed,
                "reverted": f.reverted,
                "silent": f.silent,
                "placebo": f.placebo,
                "placebo_failed": f.placebo_failed,
                "max_harmed": f.max_harmed,
                "devices": f.devices,
            }
            said = {"verdict": verdict.kind.value, "happening": verdict.happening.value, "ring": verdict.ring}
            more = {"sentence": verdict.sentence[:MOST_WORDS], "figures": figures, "opens": verdict.opens}
            return {**head, "kind": "verdict", "rollout": event.rollout, **said, **more}
        case RingClosed():
            ring = event.closed
            counts = {
                "treated": ring.treated,
                "treated_failed": ring.treated_failed,
                "placebo": ring.placebo,
                "placebo_failed": ring.placebo_failed,
                "late": len(ring.late),
            }
            said = {"rollout": event.rollout, "ring": ring.ring, "arm_salt": event.arm_salt}
            return {**head, "kind": "ring", **said, **counts}
        case Act():
            by = {"who": event.who[:MOST_WORDS], "why": event.why[:MOST_WORDS]}
            if event.v > 1 and event.what not in _ACTS:
                return {**head, "v": 2, **_act(event.what, event.body), **_objects(event.body), **by}
            return {**head, **_ACTS.get(event.what, _act)(event.what, event.body), **by}
        case Labelled():
            by = {"who": event.who[:MOST_WORDS], "why": event.why[:MOST_WORDS]}
            return {**head, "kind": "act", "what": "device_labelled", "index": event.index, **by}
        case _:
            return None


def _release(what: str, body: Json) -> Json:
    manifest, terms = body["manifest"], body["terms"]
    return {
        "kind": "release",
        "component": manifest["component"],
        "version": manifest["version"],
        "seq": manifest["seq"],
        "digest": body["digest"],
        "payload_sha256": manifest["payload"]["sha256"],
        "order_salt": terms["order_salt"],
        "speed": terms["speed"],
    }


def _rollout(what: str, body: Json) -> Json:
    spec = body["spec"]
    roster: Any = spec["roster"]
    return {
        "kind": "rollout",
        "rollout": spec["rollout"],
        "component": spec["component"],
        "candidate": spec["candidate"]["sha256"],
        "seq": spec["candidate"]["seq"],
        "budget": spec["budget"],
        "devices": roster["devices"] if isinstance(roster, dict) else len(roster),
        "observe_s": spec["observe_s"],
        "soak_s": spec["soak_s"],
        "shadow": spec.get("shadow", False),
        "caps": spec.get("caps", []),
        "scope": spec.get("scope", []),
        "spec_sha256": digest_of(spec),  # its arm secret makes it tell nothing of the roster and the arms
        **({"evidence": body["evidence"]} if "evidence" in body else {}),
    }


def _evidence(what: str, body: Json) -> Json:
    shown = ("release", "envelope", "predicate", "result", "checks", "keyids")
    return {"kind": "evidence", **{name: body[name] for name in shown}}


def _budget(what: str, body: Json) -> Json:
    return {"kind": "budget", "component": body["component"], "max_harmed_30d": body["max_harmed_30d"]}


def _act(what: str, body: Json) -> Json:
    names = ("rollout", "component", "index", "rollouts", "token_id", "subject", "record_sha256", "result")
    if what in ("release_withdrawn", "release_promoted", "release_pardoned", "emergency_stop"):
        names += ("seq", "digest", "reason", "stopped", "pardoned", "ceiling_2p32")
    shown = {name: body[name] for name in names if name in body}
    return {"kind": "act", "what": what, **shown, "body_sha256": digest_of(body)}


def _objects(body: Json) -> Json:
    """Say of an act, from its second version on, to what it was done: an operator, a policy, a token, a group."""
    shown = {name: body[name] for name in _OBJECTS if name in body and len(canonical(body[name])) <= MOST_WORDS}
    if "kind" in body:
        shown["asked"] = body["kind"]
    if isinstance(body.get("indexes"), list):
        shown["devices"] = len(body["indexes"])
    return shown


_OBJECTS = ("name", "role", "policy", "epoch", "number", "reason", "title", "roles", "group", "uses", "labels", "taken")
"""Named one by one: no secret of an act's body may ever stand in the ledger."""
_ACTS = {"release_logged": _release, "rollout_started": _rollout, "evidence_logged": _evidence, "budget_set": _budget}
