"""`tidegate incident`: the record of what went wrong, its legal clocks, and the reports that follow. Sends nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from tidegate.cli.book import now_ms, write
from tidegate.cli.incident_reports import check, export, submitted
from tidegate.cli.incidents import all_incidents, clocks_of
from tidegate.cli.show import moment, out, out_json, table
from tidegate.contingency import dora
from tidegate.contingency.clocks import Clock
from tidegate.contingency.document import read_document
from tidegate.contingency.facts import FACTS, read_value
from tidegate.contingency.incident import CLOSED, KINDS, NOTED, OPENED, SET, Incident, find, new_name
from tidegate.contingency.major import judge
from tidegate.contingency.moments import from_ms, moment_text
from tidegate.contingency.summary import clock_words
from tidegate.core.errors import BadInput, Refused

app = App(name="incident", help="Incidents: the record, the legal clocks, the reports. Nothing is sent by itself.")
for command in (export, check, submitted):
    app.command(command)


@app.command(name="open")
def open_incident(
    title: str,
    /,
    *facts: str,
    why: str = "",
    rollout: str = "",
    who: str = "",
    home: Path | None = None,
) -> None:
    """Open an incident by hand. (A rollout that was halted opens one by itself.)

    Args:
        title: What it is called.
        facts: Facts as NAME=VALUE; tidegate incident facts lists the names.
        why: What was seen, for the record.
        rollout: The rollout that it came with, if one did.
        who: Who opens it; default: your account.
        home: The control plane's directory; the book needs none to run.
    """
    incidents = all_incidents(home)
    values = {"title": title, **_read_all(facts)}
    values.setdefault("aware", moment_text(datetime.now(UTC)))
    body = {"incident": new_name(incidents, now_ms()), "values": values, "rollout": rollout}
    write(home, OPENED, body, who=who, why=why)
    out(f"{body['incident']} is open. Next: tidegate incident show {body['incident']}")


@app.command(name="list")
def listing(*, home: Path | None = None, json: bool = False) -> None:
    """List incidents, the newest last, each with the clock that ends first."""
    incidents, now = all_incidents(home), datetime.now(UTC)
    if json:
        out_json({"incidents": [one.to_dict() for one in incidents.values()]})
        return
    rows = [
        (
            one.name,
            f"closed, {moment(one.opened_ms)[:16]}" if one.closed_ms else f"open, {moment(one.opened_ms)[:16]}",
            one.values.get("title", ""),
            {True: "major", False: "not major", None: "not decided"}[_judged(one).major],
            _next_clock(one, now),
        )
        for one in incidents.values()
    ]
    columns = ("incident", "opened, UTC", "title", "classified", "next report")
    table("Incidents", columns, rows, empty="No incident is on record. Open one: tidegate incident open TITLE")


def _judged(incident: Incident) -> Any:
    return judge(incident.dora_values() | incident.values)


def _next_clock(incident: Incident, now: datetime) -> str:
    running = [one for one in clocks_of(incident) if one.due is not None and one.sent is None]
    if not running or incident.closed_ms:
        return "-"
    first = min(running, key=lambda one: one.due or now)
    return f"{first.regime} {first.stage}: {clock_words(first, now)}"


@app.command
def show(incident: str = "last", /, *, home: Path | None = None, json: bool = False) -> None:
    """Show an incident: facts with their sources, clocks counted down, and the timeline.

    Args:
        incident: Its name; default: the newest.
        home: The control plane's directory.
        json: Print JSON.
    """
    found, now = find(all_incidents(home), incident), datetime.now(UTC)
    clocks = clocks_of(found)
    if json:
        out_json(
            {**found.to_dict(), "clocks": [_clock_dict(one, now) for one in clocks], "judged": _judged(found).sentence}
        )
        return
    out(f"{found.name}: {found.values.get('title', '')}")
    out(
        f"Opened {moment(found.opened_ms)} by {found.by}"
        + (f", closed {moment(found.closed_ms)}." if found.closed_ms else ".")
    )
    out(f"Classification: {_judged(found).sentence}.")
    rows = [(name, _short(value), _who_said(found, name)) for name, value in sorted(found.values.items())]
    table("Facts", ("fact", "value", "source"), rows, empty="No facts yet: tidegate incident set ID NAME=VALUE")
    clock_rows = [(one.regime, one.stage, clock_words(one, now), one.rule) for one in clocks]
    table("Clocks", ("law", "report", "state", "rule"), clock_rows, empty="")
    story = [(moment(row["at_ms"]), row["text"], row["source"]) for row in found.story()]
    table("What happened", ("when", "what", "source"), story, empty="")


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) < 90 else text[:87] + "..."


def _who_said(found: Incident, name: str) -> str:
    said = found.said.get(name)
    return f"{said['who']}, book line {said['line']}" if said else ""


def _clock_dict(clock: Clock, now: datetime) -> dict[str, Any]:
    return {
        "regime": clock.regime,
        "stage": clock.stage,
        "due": None if clock.due is None else moment_text(clock.due),
        "left_s": None if clock.left_s(now) is None else round(clock.left_s(now) or 0.0),
        "rule": clock.rule,
        "sent": None if clock.sent is None else moment_text(clock.sent),
    }


@app.command(name="set")
def set_facts(
    incident: str,
    /,
    *facts: str,
    file: Annotated[Path | None, Parameter(name="--from")] = None,
    why: str = "",
    who: str = "",
    home: Path | None = None,
) -> None:
    """Say facts: NAME=VALUE, a DORA field as 3.4=1200, or the answer to a condition as if.group=no.

    Args:
        incident: Its name, or last.
        facts: What is known now. What was said before stays on record.
        file: A YAML or JSON file of names and values, for many at once.
        why: The reason for a change.
        who: Who says it; default: your account.
        home: The control plane's directory.
    """
    found = find(all_incidents(home), incident)
    values = _read_all(facts)
    if file is not None:
        for name, place in read_document(file, "the facts").pairs():
            try:
                values[name] = read_value(name, place.value)
            except BadInput as error:
                place.refuse(str(error))
    if not values:
        raise BadInput("say at least one NAME=VALUE; tidegate incident facts lists the names")
    write(home, SET, {"incident": found.name, "values": values}, who=who, why=why)
    out(f"{found.name}: {len(values)} {'fact is' if len(values) == 1 else 'facts are'} on record.")


def _read_all(facts: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in facts:
        name, sign, value = one.partition("=")
        if not sign:
            raise BadInput(f"a fact must be NAME=VALUE, not {one!r}")
        found[name] = read_value(name, value)
    return found


@app.command
def facts(*, json: bool = False) -> None:
    """List the facts, DORA fields and conditions that an incident's record takes."""
    if json:
        out_json(
            {name: {"kind": fact.kind, "meaning": fact.meaning, "dora": fact.dora} for name, fact in FACTS.items()}
        )
        return
    rows = [(name, fact.kind, fact.meaning, fact.dora) for name, fact in FACTS.items()]
    table("Facts", ("name", "kind", "meaning", "DORA field"), rows, empty="")
    fields = [
        (one.field, one.name, one.kind, one.initial, one.intermediate, one.final) for one in dora.fields().values()
    ]
    table("DORA fields", ("field", "name", "kind", "initial", "intermediate", "final"), fields, empty="")
    answers = [(f"if.{name}", dora.CONDITIONS[name][0]) for name in dora.ANSWERED]
    table("Conditions that you answer (yes or no)", ("name", "condition"), answers, empty="")


@app.command
def note(incident: str, text: str, /, *, kind: str = "observation", who: str = "", home: Path | None = None) -> None:
    """Note an observation, a decision, an action or a cause.

    Args:
        incident: Its name, or last.
        text: What it is.
        kind: observation, decision, action or cause (the root cause, once it is known).
        who: Who says it; default: your account.
        home: The control plane's directory.
    """
    if kind not in KINDS:
        raise BadInput(f"--kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if not text.strip():
        raise BadInput("the note is empty")
    found = find(all_incidents(home), incident)
    entry = write(home, NOTED, {"incident": found.name, "kind": kind, "text": text.strip()}, who=who)
    out(f"{found.name}: noted, book line {entry.seq}.")


@app.command
def classify(
    incident: str = "last", /, *, at: str = "", who: str = "", home: Path | None = None, json: bool = False
) -> int:
    """Say whether it is major under DORA, by (EU) 2024/1772; if so, the clock of 4 hours runs from now.

    Exit code 1 where what is on record does not decide it yet.

    Args:
        incident: Its name, or last.
        at: When it was classified; default: now.
        who: Who classifies; default: your account.
        home: The control plane's directory.
        json: Print JSON.
    """
    found = find(all_incidents(home), incident)
    judged = _judged(found)
    if judged.major:
        values = {"2.5": list(judged.criteria)}
        if not found.values.get("classified") or at:
            values["classified"] = read_value("classified", at or moment_text(datetime.now(UTC)))
        write(home, SET, {"incident": found.name, "values": values}, who=who, why=judged.sentence)
    if json:
        told = {"major": judged.major, "criteria": judged.criteria, "unknown": judged.unknown}
        out_json({"incident": found.name, "sentence": judged.sentence, **told})
    else:
        out(f"{found.name} is {judged.sentence}." if judged.major is not None else f"{found.name}: {judged.sentence}.")
    return 1 if judged.major is None else 0


@app.command
def close(incident: str, /, *, why: str, who: str = "", home: Path | None = None) -> None:
    """Close an incident.

    Args:
        incident: Its name, or last.
        why: Why it is over.
        who: Who says so; default: your account.
        home: The control plane's directory.
    """
    found = find(all_incidents(home), incident)
    if found.closed_ms:
        raise Refused(f"{found.name} was closed {moment_text(from_ms(found.closed_ms))}")
    write(home, CLOSED, {"incident": found.name}, who=who, why=why)
    out(f"{found.name} is closed.")
