"""A CSAF 2.0 document, profile `csaf_security_incident_response`, from an incident's record; and its checks.

The rules are those of the OASIS standard (sections 3, 4.2 and 6.1) as far as they bear on this profile. The standard's
JSON schema is not shipped; tests hold the documents against it where it is at hand.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from tidegate.contingency.authorities import impact, notes_of
from tidegate.contingency.incident import Incident
from tidegate.contingency.moments import from_ms, moment_text
from tidegate.core.errors import Refused

PROFILE = "csaf_security_incident_response"
Json = dict[str, Any]
_NOTES = ("description", "details", "faq", "general", "legal_disclaimer", "other", "summary")
_PUBLISHERS = ("coordinator", "discoverer", "other", "translator", "user", "vendor")
_REFERENCES = ("external", "self")
_TLP = ("AMBER", "GREEN", "RED", "WHITE")
_STATUS = ("draft", "final", "interim")
_VERSION = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)\.(0|[1-9]\d*))?")
_ID = re.compile(r"\S(.*\S)?")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)")


def make(incident: Incident, now: datetime, generator: str) -> Json:
    """Make the document. Raises Refused, naming what the record lacks for it."""
    need = {name: incident.values.get(name) for name in ("title", "description", "publisher", "namespace")}
    missing = [name for name, value in need.items() if not value]
    if missing:
        how = " ".join(f"{name}=..." for name in missing)
        raise Refused(f"no CSAF document can be made: missing {', '.join(missing)} (tidegate incident set {how})")
    final = incident.closed_ms is not None
    address = str(need["namespace"]).rstrip("/")
    file = _file_name(incident.name)
    document: Json = {
        "category": PROFILE,
        "csaf_version": "2.0",
        "title": need["title"],
        "lang": "en",
        "distribution": {"text": "Made from the record; not sent by itself.", "tlp": {"label": "AMBER"}},
        "notes": _notes(incident),
        "publisher": _publisher(incident),
        "references": [
            {"category": "self", "summary": "This document.", "url": f"{address}/{file}"},
            {"category": "external", "summary": "Status of the incident.", "url": f"{address}/"},
        ],
        "tracking": _tracking(incident, now, generator, final=final),
    }
    found: Json = {"document": document}
    if incident.values.get("component") and incident.values.get("version"):
        found["product_tree"] = _products(incident)
    wrong = check(found)
    if wrong:
        raise Refused(f"the record gives no valid CSAF document: {'; '.join(wrong)}")
    return found


def _file_name(name: str) -> str:
    """Give the file name that section 5.1 demands."""
    return re.sub(r"[^+\-a-z0-9]+", "_", name.lower()) + ".json"


def _publisher(incident: Incident) -> Json:
    values = incident.values
    found = {"category": "user", "name": values["publisher"], "namespace": values["namespace"]}
    return found | ({"contact_details": values["contact"]} if values.get("contact") else {})


def _notes(incident: Incident) -> list[Json]:
    notes: list[Json] = [{"category": "description", "title": "What happened", "text": incident.values["description"]}]
    touched = "; ".join(f"{name}: {_words(value)}" for name, value in impact(incident).items())
    if touched:
        notes.append({"category": "summary", "title": "Impact", "text": touched})
    for kind, title in (("cause", "Root cause"), ("decision", "Decisions"), ("action", "Actions")):
        texts = notes_of(incident, kind)
        if texts:
            notes.append({"category": "details", "title": title, "text": "\n".join(texts)})
    if incident.values.get("fallback"):
        notes.append({"category": "general", "title": "What you can do", "text": incident.values["fallback"]})
    return notes


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _tracking(incident: Incident, now: datetime, generator: str, *, final: bool) -> Json:
    history = [{"date": moment_text(from_ms(incident.opened_ms)), "number": "1", "summary": "Incident opened."}]
    changes = sorted({note["at_ms"] for note in incident.notes} | {said["at_ms"] for said in incident.said.values()})
    later = [at for at in changes if at // 1000 > incident.opened_ms // 1000]
    if later or final:
        at = from_ms(incident.closed_ms or later[-1])
        history.append({"date": moment_text(at), "number": "2", "summary": "Record as it stands."})
    return {
        "id": incident.name,
        "status": "final" if final else "interim",
        "version": history[-1]["number"],
        "initial_release_date": history[0]["date"],
        "current_release_date": history[-1]["date"],
        "revision_history": history,
        "generator": {"date": moment_text(now), "engine": {"name": "Tidegate", "version": generator}},
    }


def _products(incident: Incident) -> Json:
    values = incident.values
    name = f"{values['component']} {values['version']}"
    version: Json = {
        "category": "product_version",
        "name": values["version"],
        "product": {"name": name, "product_id": "P-1"},
    }
    product: Json = {"category": "product_name", "name": values["component"], "branches": [version]}
    vendor = values.get("vendor")
    return {"branches": [{"category": "vendor", "name": vendor, "branches": [product]} if vendor else product]}


def check(value: Json) -> list[str]:
    """Give what is wrong with a document, each as a sentence; empty for a valid one."""
    document = value.get("document")
    if not isinstance(document, dict):
        return ["/document is missing"]
    wrong: list[str] = []
    for name in ("category", "csaf_version", "publisher", "title", "tracking"):
        if not document.get(name):
            wrong.append(f"/document/{name} is missing")
    if wrong:
        return wrong
    if document["csaf_version"] != "2.0":
        wrong.append("/document/csaf_version must be 2.0")
    if document["category"] == PROFILE:  # section 4.2
        kinds = {note.get("category") for note in document.get("notes", ())}
        if not kinds & {"description", "details", "general", "summary"}:
            wrong.append("/document/notes must have a description, details, general or summary")
        if not any(one.get("category", "external") == "external" for one in document.get("references", ())):
            wrong.append("/document/references must have one of category external")
    return wrong + _check_parts(document) + _check_tracking(document["tracking"]) + _check_products(value)


def _check_parts(document: Json) -> list[str]:
    wrong: list[str] = []
    publisher = document["publisher"]
    if publisher.get("category") not in _PUBLISHERS or not publisher.get("name"):
        wrong.append("/document/publisher needs a category and a name")
    if not _is_uri(publisher.get("namespace")):
        wrong.append("/document/publisher/namespace must be an address as in https://example.org")
    for at, note in enumerate(document.get("notes", ())):
        if note.get("category") not in _NOTES or not note.get("text"):
            wrong.append(f"/document/notes/{at} needs a category and a text")
    for at, one in enumerate(document.get("references", ())):
        if one.get("category", "external") not in _REFERENCES or not one.get("summary") or not _is_uri(one.get("url")):
            wrong.append(f"/document/references/{at} needs a summary and an address")
    label = document.get("distribution", {}).get("tlp", {}).get("label", "WHITE")
    if label not in _TLP:
        wrong.append(f"/document/distribution/tlp/label must be one of {', '.join(_TLP)}")
    return wrong


def _is_uri(value: Any) -> bool:
    if not isinstance(value, str) or re.search(r"\s", value):
        return False
    found = urlsplit(value)
    return found.scheme in ("http", "https") and bool(found.netloc)


def _check_tracking(tracking: Json) -> list[str]:
    where = "/document/tracking"
    names = ("current_release_date", "id", "initial_release_date", "revision_history", "status", "version")
    wrong = [f"{where}/{name} is missing" for name in names if not tracking.get(name)]
    if wrong:
        return wrong
    history = tracking["revision_history"]
    moments = [
        tracking["current_release_date"],
        tracking["initial_release_date"],
        *(one.get("date") for one in history),
    ]
    if not all(_MOMENT.fullmatch(str(at)) for at in moments):
        wrong.append(f"{where}: every date must be a moment as in 2026-07-19T04:09:00Z")
    if tracking["status"] not in _STATUS or not _ID.fullmatch(tracking["id"]):
        wrong.append(f"{where}: status or id is not allowed")
    numbers = [str(one.get("number")) for one in history]
    if not all(_VERSION.fullmatch(number) for number in [*numbers, tracking["version"]]):
        wrong.append(f"{where}: versions must be whole numbers or semantic")
    if sorted(history, key=lambda one: str(one.get("date"))) != sorted(
        history, key=lambda one: _key(one.get("number"))
    ):
        wrong.append(f"{where}/revision_history: dates and numbers must grow together (6.1.14)")
    if len(set(numbers)) != len(numbers) or numbers[-1] != tracking["version"]:
        wrong.append(f"{where}/version must be that of the newest revision (6.1.16), and none twice (6.1.22)")
    if tracking["status"] != "draft" and "0" in numbers:
        wrong.append(f"{where}: version 0 is for drafts (6.1.17, 6.1.18)")
    return wrong


def _key(number: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", str(number)))


def _check_products(value: Json) -> list[str]:
    found: list[str] = []

    def walk(branches: Any) -> None:
        for branch in branches:
            if len(branch) != 3 or not branch.get("category") or not branch.get("name"):
                found.append("/product_tree: a branch has a category, a name, and branches or a product")
            walk(branch.get("branches", ()))

    walk(value.get("product_tree", {}).get("branches", ()))
    return found
