"""Reports under NIS2 and the CRA from an incident's record: what each stage must say is refused by name if missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tidegate.contingency.incident import Incident
from tidegate.core.errors import BadInput, Refused

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that a stage must say: its name, where the record keeps it, and whether it must be there."""

    name: str
    source: str
    must: bool = True


_WHO = (Part("entity", "publisher"), Part("contact", "contact"), Part("became_aware", "aware"))
STAGES: dict[str, dict[str, tuple[Part, ...]]] = {
    "nis2": {
        # Art. 23(4)(a): whether unlawful or malicious acts are suspected, and whether it may have cross-border impact.
        "early-warning": (*_WHO, Part("suspected_malicious", "malicious"), Part("cross_border", "cross_border")),
        # (b): an update of that, and an initial assessment: severity, impact, indicators of compromise where available.
        "notification": (
            *_WHO,
            Part("suspected_malicious", "malicious"),
            Part("cross_border", "cross_border"),
            Part("description", "description"),
            Part("severity_and_impact", "*impact"),
            Part("indicators_of_compromise", "3.35", must=False),
        ),
        # (d): a detailed description, the type of threat or root cause, mitigation, cross-border impact.
        "final": (
            *_WHO,
            Part("description", "description"),
            Part("severity_and_impact", "*impact"),
            Part("root_cause", "*cause"),
            Part("mitigation", "*actions"),
            Part("cross_border", "cross_border"),
            Part("member_states", "member_states", must=False),
        ),
    },
    "cra": {
        # Art. 14(4)(a), and (2)(a) for a vulnerability: member states in which the product is available.
        "early-warning": (*_WHO, Part("product", "component"), Part("suspected_malicious", "malicious")),
        # (4)(b): nature of the incident, initial assessment, measures taken, measures users can take, sensitivity.
        "notification": (
            *_WHO,
            Part("product", "component"),
            Part("version", "version"),
            Part("nature", "description"),
            Part("initial_assessment", "*impact"),
            Part("measures_taken", "*actions"),
            Part("measures_for_users", "fallback"),
        ),
        # (4)(c): detailed description with severity and impact, type of threat or root cause, mitigation.
        "final": (
            *_WHO,
            Part("product", "component"),
            Part("version", "version"),
            Part("description", "description"),
            Part("severity_and_impact", "*impact"),
            Part("root_cause", "*cause"),
            Part("mitigation", "*actions"),
        ),
    },
}
LAW = {"nis2": "Directive (EU) 2022/2555, article 23(4)", "cra": "Regulation (EU) 2024/2847, article 14"}


def make(regime: str, stage: str, incident: Incident, now: str) -> Json:
    """Make a report.

    Raises:
        BadInput: for a stage that the regime does not have.
        Refused: naming everything that must be said and is not on the record.
    """
    parts = STAGES[regime].get(stage)
    if parts is None:
        raise BadInput(f"{regime.upper()} has the stages {', '.join(STAGES[regime])}, not {stage!r}")
    found: Json = {"regime": regime.upper(), "law": LAW[regime], "stage": stage, "made": now, "incident": incident.name}
    missing: list[str] = []
    for part in parts:
        value = _lookup(incident, part.source)
        if value in (None, "", []):
            if part.must:
                missing.append(f"{part.name} ({_how(part.source)})")
        else:
            found[part.name] = value
    if missing:
        raise Refused(f"no {regime.upper()} {stage} can be made: missing {', '.join(missing)}")
    return found


def _how(source: str) -> str:
    ways = {
        "*cause": "note --kind cause",
        "*actions": "note --kind action",
        "*impact": "set devices, services or sites",
    }
    return f"tidegate incident {ways.get(source, f'set {source}=...')}"


def _lookup(incident: Incident, source: str) -> Any:
    if source.startswith("*"):
        return _COMPOSED[source](incident)
    value = incident.values.get(source)
    return incident.dora_values().get(source) if value is None else value


def impact(incident: Incident) -> Json:
    """Give what was touched, as far as the record says."""
    names = ("devices", "services", "sites", "clients", "downtime", "member_states", "costs_eur")
    found = {name: incident.values[name] for name in names if name in incident.values}
    for name in ("devices", "services", "sites"):
        if name not in found and incident.exposed.get(name):
            found[name] = incident.exposed[name]
    return found


def notes_of(incident: Incident, kind: str) -> list[str]:
    """Give the notes of one kind."""
    return [note["text"] for note in incident.notes if note["kind"] == kind]


_COMPOSED: dict[str, Callable[[Incident], Any]] = {
    "*impact": impact,
    "*cause": lambda incident: incident.dora_values().get("4.5"),
    "*actions": lambda incident: notes_of(incident, "action"),
}
