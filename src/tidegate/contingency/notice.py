"""Public notices, drafted by template from an incident's record: each figure is bound to the line that says it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from tidegate.contingency.book import Entry
from tidegate.contingency.facts import FACTS
from tidegate.contingency.incident import Incident
from tidegate.contingency.moments import moment_of
from tidegate.core.errors import BadInput, NotFound, Refused

DRAFTED, APPROVED, PUBLISHED = "notice_drafted", "notice_approved", "notice_published"
KINDS = ("first", "update", "resolved")
BEGIN, MIDDLE, END = "\ue000", "\ue001", "\ue002"
_BOUND = re.compile(f"{BEGIN}([^{MIDDLE}]*){MIDDLE}([^{END}]*){END}")
_MONTHS = {
    "fr": [
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ],
    "en": [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ],
}
Json = dict[str, Any]


@dataclass(slots=True)
class Notice:
    """One notice: its texts by language (title, then body), the figures in them, and how far it has come."""

    name: str
    incident: str
    kind: str
    texts: dict[str, dict[str, str]]
    figures: list[Json]
    drafted_ms: int
    drafted_by: str
    approved_by: str = ""
    approved_ms: int = 0
    published_ms: int = 0


def languages(directory: Path | None = None) -> dict[str, str]:
    """Give the templates by language: those that are shipped, and those of a directory above them."""
    found = {path.name[:-3]: path.read_text(encoding="utf-8") for path in _shipped() if path.name.endswith(".j2")}
    if directory is not None:
        found |= {path.stem: path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.j2"))}
    return found


@cache
def _shipped() -> tuple[Any, ...]:
    return tuple(sorted((files("tidegate.contingency") / "notices").iterdir(), key=lambda one: one.name))


def draft(incident: Incident, kind: str, template: str, language: str) -> tuple[dict[str, str], list[Json]]:
    """Fill a template from a record; give the text and the figures in it, each with its source.

    Raises:
        BadInput: for a template that cannot be read, or has a figure of its own: every figure is a fact of the record.
        Refused: naming a fact that the record lacks.
    """
    if kind not in KINDS:
        raise BadInput(f"--kind must be one of {', '.join(KINDS)}, not {kind!r}")
    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, lstrip_blocks=True)

    def fact(name: str) -> str:
        if not incident.values.get(name) and incident.values.get(name) != 0:
            meaning = FACTS[name].meaning if name in FACTS else "no such fact"
            raise Refused(
                f"the record does not say {name} ({meaning}): tidegate incident set {incident.name} {name}=..."
            )
        return f"{BEGIN}{name}{MIDDLE}{_words(incident.values[name], language)}{END}"

    def when(name: str) -> str:
        fact(name)
        return f"{BEGIN}{name}{MIDDLE}{moment_words(str(incident.values[name]), language)}{END}"

    def has(name: str) -> bool:
        return incident.values.get(name) not in (None, "", [])

    try:
        marked = environment.from_string(template).render(kind=kind, fact=fact, when=when, has=has)
    except jinja2.TemplateError as error:
        raise BadInput(f"the template {language} cannot be used: {error}") from None
    figures = [_figure(incident, found[1], found[2], language) for found in _BOUND.finditer(marked)]
    bare = _BOUND.sub("", marked)
    stray = re.search(r"\d+", bare)
    if stray:
        raise BadInput(f"the template {language} has the figure {stray[0]} of its own: every figure must be a fact")
    text = re.sub(r"\n{3,}", "\n\n", _BOUND.sub(lambda found: found[2], marked)).strip()
    title, _, body = text.partition("\n")
    return {"title": title.strip(), "body": body.strip()}, figures


def _figure(incident: Incident, name: str, text: str, language: str) -> Json:
    said = incident.said.get(name, {})
    source = {"who": said.get("who", incident.by), "book_line": said.get("line"), "at_ms": said.get("at_ms")}
    return {"fact": name, "value": incident.values[name], "text": text, "language": language, **source}


def _words(value: Any, language: str) -> str:
    if isinstance(value, bool):
        return {"fr": ("non", "oui")}.get(language, ("no", "yes"))[value]
    if isinstance(value, int | float):
        text = f"{value:,}"
        return text.replace(",", "\u202f") if language == "fr" else text
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def moment_words(text: str, language: str) -> str:
    """Write a moment for the public, in UTC."""
    at = moment_of("the moment", text)
    months = _MONTHS.get(language)
    if months is None:
        return f"{at:%Y-%m-%d %H:%M} UTC"
    day = f"{at.day} {months[at.month - 1]} {at.year}"
    return f"{day} à {at:%H:%M} UTC" if language == "fr" else f"{day}, {at:%H:%M} UTC"


def changed_since(notice: Notice, incident: Incident) -> list[str]:
    """Name the figures of a draft that the record says otherwise by now."""
    found: dict[str, str] = {}
    for figure in notice.figures:
        now = incident.values.get(figure["fact"])
        if now != figure["value"]:
            found[figure["fact"]] = f"{figure['fact']} was {figure['value']}, and is {now} now"
    return list(found.values())


def fold_notices(entries: Iterable[Entry]) -> dict[str, Notice]:
    """Give all notices of a book, by name."""
    found: dict[str, Notice] = {}
    for entry in entries:
        body = entry.body
        if entry.what == DRAFTED:
            found[body["notice"]] = Notice(
                body["notice"],
                body["incident"],
                body["kind"],
                body["texts"],
                body["figures"],
                entry.at_ms,
                entry.who,
            )
        elif entry.what == APPROVED and body["notice"] in found:
            found[body["notice"]].approved_by, found[body["notice"]].approved_ms = entry.who, entry.at_ms
        elif entry.what == PUBLISHED and body["notice"] in found:
            found[body["notice"]].published_ms = found[body["notice"]].published_ms or entry.at_ms
    return found


def find_notice(notices: dict[str, Notice], name: str) -> Notice:
    """Find a notice by name; `last` is the newest. Raises NotFound."""
    if name == "last" and notices:
        return list(notices.values())[-1]
    if name not in notices:
        raise NotFound(f"there is no notice {name!r}; there are {', '.join(notices) or 'none'}")
    return notices[name]
