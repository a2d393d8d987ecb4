"""An incident in one page of plain text, for people who have to decide or to explain."""

from __future__ import annotations

from datetime import datetime

from tidegate.contingency.authorities import impact, notes_of
from tidegate.contingency.clocks import Clock
from tidegate.contingency.facts import FACTS
from tidegate.contingency.incident import Incident
from tidegate.contingency.major import judge
from tidegate.contingency.moments import from_ms, moment_text, span


def clock_words(clock: Clock, now: datetime) -> str:
    """Say how a deadline stands."""
    if clock.sent is not None:
        late = clock.due is not None and clock.sent > clock.due
        return f"submitted {moment_text(clock.sent)}" + (" (late)" if late else "")
    left = clock.left_s(now)
    if left is None or clock.due is None:
        return "not running yet"
    word = f"{span(left)} left" if left >= 0 else f"LATE by {span(left)}"
    return f"due {moment_text(clock.due)}, {word}"


def summary(incident: Incident, clocks: list[Clock], now: datetime) -> str:
    """Give the text (Markdown)."""
    title = incident.values.get("title") or "without a title"
    lines = [f"# {incident.name}: {title}", ""]
    state = "closed " + moment_text(from_ms(incident.closed_ms)) if incident.closed_ms else "open"
    lines += [f"Opened {moment_text(from_ms(incident.opened_ms))} by {incident.by}; {state}.", ""]
    if incident.values.get("description"):
        lines += [str(incident.values["description"]), ""]
    lines += [f"Classification: {judge(incident.dora_values() | incident.values).sentence}.", ""]
    touched = impact(incident)
    if touched:
        lines += ["## What was touched", ""]
        for name, value in touched.items():
            words = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            lines.append(f"- {FACTS[name].meaning}: {words}")
        lines.append("")
    for kind, head in (("decision", "Decisions"), ("action", "Actions"), ("cause", "Root cause")):
        texts = notes_of(incident, kind)
        if texts:
            lines += [f"## {head}", "", *(f"- {text}" for text in texts), ""]
    lines += ["## Reports", ""]
    lines += [f"- {one.regime} {one.stage}: {clock_words(one, now)} ({one.rule})" for one in clocks]
    lines += ["", "## What happened, in order", ""]
    lines += [f"- {moment_text(from_ms(row['at_ms']))} {row['text']} [{row['source']}]" for row in incident.story()]
    return "\n".join(lines) + "\n"
