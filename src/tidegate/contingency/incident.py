"""An incident's record, folded from the book's lines: who said what, when, and what it replaced stays on record."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tidegate.contingency.book import Entry
from tidegate.contingency.facts import FACTS, dora_value
from tidegate.contingency.moments import days_hours_minutes, from_ms, moment_of, moment_text
from tidegate.core.errors import NotFound

OPENED, SET, NOTED, SENT, CLOSED = (
    "incident_opened",
    "incident_set",
    "incident_noted",
    "incident_sent",
    "incident_closed",
)
KINDS = ("observation", "decision", "action", "cause")
Json = dict[str, Any]


@dataclass(slots=True)
class Incident:
    """One incident. `values` are facts by name and fields by number, as they were said last."""

    name: str
    opened_ms: int
    by: str
    why: str
    rollout: str = ""
    values: dict[str, Any] = field(default_factory=lambda: {})
    said: dict[str, Json] = field(default_factory=lambda: {})
    """What -> who said it last, when, and its line in the book: the source of every figure."""
    notes: list[Json] = field(default_factory=lambda: [])
    timeline: list[Json] = field(default_factory=lambda: [])
    exposed: Json = field(default_factory=lambda: {})
    sent: dict[str, list[datetime]] = field(default_factory=lambda: {})
    closed_ms: int | None = None

    def moment(self, name: str) -> datetime | None:
        """Give a fact that is a moment, or None."""
        value = self.values.get(name)
        return moment_of(name, value) if value else None

    def take(self, entry: Entry) -> None:
        """Fold one line."""
        body = entry.body
        if entry.what == SET:
            for name, value in body["values"].items():
                self.values[name] = value
                self.said[name] = {"who": entry.who, "at_ms": entry.at_ms, "line": entry.seq}
        elif entry.what == NOTED:
            self.notes.append(
                {"at_ms": entry.at_ms, "kind": body["kind"], "text": body["text"], "who": entry.who, "line": entry.seq}
            )
        elif entry.what == SENT:
            self.sent.setdefault(body["report"], []).append(moment_of("submitted", body["at"]))
        elif entry.what == CLOSED:
            self.closed_ms = entry.at_ms

    def story(self) -> list[Json]:
        """Give all that happened in order of time: the ledger's records, what was noted, what was handed in."""
        rows = [{"at_ms": row["at_ms"], "text": row["sentence"], "source": _source(row)} for row in self.timeline]
        opened = f"Incident {self.name} opened by {self.by}" + (f": {self.why}." if self.why else ".")
        rows.append({"at_ms": self.opened_ms, "text": opened, "source": "book"})
        for note in self.notes:
            text = f"{note['kind'].capitalize()} by {note['who']}: {note['text']}"
            rows.append({"at_ms": note["at_ms"], "text": text, "source": f"book line {note['line']}"})
        for report, moments in self.sent.items():
            for at in moments:
                rows.append({"at_ms": int(at.timestamp() * 1000), "text": f"{report} submitted.", "source": "book"})
        return sorted(rows, key=lambda row: row["at_ms"])

    def to_dict(self) -> Json:
        """Give the record as plain values."""
        return {
            "incident": self.name,
            "opened_ms": self.opened_ms,
            "by": self.by,
            "rollout": self.rollout or None,
            "closed_ms": self.closed_ms,
            "values": self.values,
            "said": self.said,
            "exposed": self.exposed,
            "notes": self.notes,
            "sent": {name: [moment_text(at) for at in moments] for name, moments in self.sent.items()},
            "timeline": self.story(),
        }

    def dora_values(self) -> Json:
        """Give the DORA fields that follow from the record; what was set by field number stands above the rest."""
        found: Json = {"2.1": self.name}
        for name, value in self.values.items():
            fact = FACTS.get(name)
            if fact and fact.dora:
                found[fact.dora] = dora_value(fact, value)
        began, ended = self.moment("occurred") or self.moment("aware"), self.moment("resolved")
        if began and ended:
            found["3.15"] = days_hours_minutes((ended - began).total_seconds())
        causes = [note["text"] for note in self.notes if note["kind"] == "cause"]
        if causes:
            found["4.5"] = " ".join(causes)
        actions = [note["text"] for note in self.notes if note["kind"] == "action"]
        if actions:
            found.setdefault("3.33", "yes")
            found.setdefault("3.34", " ".join(actions))
        return found | {name: value for name, value in self.values.items() if name[0].isdigit()}

    def answers(self) -> dict[str, bool]:
        """Give the answered conditions of the matrix."""
        return {name[3:]: bool(value) for name, value in self.values.items() if name.startswith("if.")}


def _source(row: Json) -> str:
    return f"ledger entry {row['entry']}" if row.get("entry") is not None else "signed account"


def fold(entries: Iterable[Entry]) -> dict[str, Incident]:
    """Give all incidents of a book, by name."""
    found: dict[str, Incident] = {}
    for entry in entries:
        if not entry.what.startswith("incident_"):
            continue
        name = entry.body["incident"]
        if entry.what == OPENED:
            made = Incident(name, entry.at_ms, entry.who, entry.why, entry.body.get("rollout") or "")
            made.timeline = entry.body.get("timeline", [])
            made.exposed = entry.body.get("exposed", {})
            made.values = dict(entry.body.get("values", {}))
            said = {"who": entry.who, "at_ms": entry.at_ms, "line": entry.seq}
            made.said = dict.fromkeys(made.values, said)
            found[name] = made
        elif name in found:
            found[name].take(entry)
    return found


def find(incidents: dict[str, Incident], name: str) -> Incident:
    """Find an incident by name; `last` is the newest. Raises NotFound."""
    if name == "last" and incidents:
        return list(incidents.values())[-1]
    if name in incidents:
        return incidents[name]
    known = ", ".join(incidents) or "none; open one: tidegate incident open"
    raise NotFound(f"there is no incident {name!r}; there are {known}")


def new_name(incidents: dict[str, Incident], at_ms: int) -> str:
    """Give the next name: the year and a number."""
    year = from_ms(at_ms).year
    return f"INC-{year}-{sum(name.startswith(f'INC-{year}-') for name in incidents) + 1:03d}"
